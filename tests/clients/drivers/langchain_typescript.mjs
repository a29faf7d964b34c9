// LangChain for TypeScript.
import { ChatAnthropic } from "@langchain/anthropic";
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { z } from "zod";

const model = new ChatAnthropic({
  model: process.env.MODEL,
  anthropicApiUrl: process.env.BASE_URL,
  apiKey: process.env.GATEWAY_KEY,
  maxTokens: 64,
});

const operations = {
  async plain() {
    console.log((await model.invoke("Hello")).content);
  },
  async stream() {
    for await (const chunk of await model.stream("Hello")) console.log(chunk.content);
  },
  async tools() {
    const weather = tool(async ({ city }) => `${city}: sunny`, {
      name: "weather",
      description: "The weather of a city",
      schema: z.object({ city: z.string() }),
    });
    const bound = model.bindTools([weather]);
    const asked = new HumanMessage("Hello");
    const answer = await bound.invoke([asked]);
    const results = [];
    for (const call of answer.tool_calls)
      results.push(new ToolMessage({ content: await weather.invoke(call.args), tool_call_id: call.id }));
    console.log((await bound.invoke([asked, answer, ...results])).content);
  },
};
await operations[process.argv[2]]();
