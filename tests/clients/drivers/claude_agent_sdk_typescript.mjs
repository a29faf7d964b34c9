// Claude Agent SDK for TypeScript: it starts a Claude Code of its own.
import { query } from "@anthropic-ai/claude-agent-sdk";

const options = {
  model: process.env.MODEL,
  maxTurns: 3,
  tools: ["Read"],
  allowedTools: ["Read"],
  settingSources: [],
  includePartialMessages: process.argv[2] === "stream",
  env: { ...process.env, ANTHROPIC_BASE_URL: process.env.BASE_URL, ANTHROPIC_AUTH_TOKEN: process.env.GATEWAY_KEY },
};
for await (const message of query({ prompt: "Say hello", options })) {
  if (message.type !== "result") continue;
  console.log(message.result ?? message.errors);
  if (message.is_error) process.exitCode = 1;
}
