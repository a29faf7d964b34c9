// Vercel's AI SDK.
import { createAnthropic } from "@ai-sdk/anthropic";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const anthropic = createAnthropic({ baseURL: `${process.env.BASE_URL}/v1`, apiKey: process.env.GATEWAY_KEY });
const ask = { model: anthropic(process.env.MODEL), prompt: "Hello", maxOutputTokens: 64 };

const operations = {
  async plain() {
    console.log((await generateText(ask)).text);
  },
  async stream() {
    let failure;
    const answer = streamText({ ...ask, onError: ({ error }) => (failure = error) });
    for await (const text of answer.textStream) process.stdout.write(text);
    if (failure) throw failure;
  },
  async tools() {
    const weather = tool({
      description: "The weather of a city",
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => `${city}: sunny`,
    });
    console.log((await generateText({ ...ask, tools: { weather }, stopWhen: stepCountIs(3) })).text);
  },
};
await operations[process.argv[2]]();
