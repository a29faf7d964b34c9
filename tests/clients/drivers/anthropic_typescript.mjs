// Anthropic's TypeScript SDK.
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: process.env.BASE_URL, apiKey: process.env.GATEWAY_KEY });
const messages = [{ role: "user", content: "Hello" }];
const ask = { model: process.env.MODEL, max_tokens: 64, messages };
const weather = {
  name: "weather",
  description: "The weather of a city",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

const operations = {
  async plain() {
    console.log((await client.messages.create(ask)).content[0].text);
  },
  async stream() {
    console.log(await client.messages.stream(ask).finalText());
  },
  async tools() {
    const message = await client.messages.create({ ...ask, tools: [weather] });
    const results = message.content
      .filter((block) => block.type === "tool_use")
      .map((block) => ({ type: "tool_result", tool_use_id: block.id, content: `${block.input.city}: sunny` }));
    const turns = [
      { role: "assistant", content: message.content },
      { role: "user", content: results },
    ];
    const again = await client.messages.create({ ...ask, messages: [...messages, ...turns], tools: [weather] });
    console.log(again.content[0].text);
  },
  async count() {
    console.log("tokens:", (await client.messages.countTokens({ model: ask.model, messages })).input_tokens);
  },
  async models() {
    for await (const model of client.models.list()) console.log(model.id);
  },
};
await operations[process.argv[2]]();
