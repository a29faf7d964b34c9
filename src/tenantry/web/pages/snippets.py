"""What a client pastes to begin with: its new key in each form in which software takes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Snippet:
    """`name` is what it is for; `mark` tells it from the others on the page."""

    mark: str
    name: str
    text: str


def snippets(endpoint: str, key: str, model: str) -> list[Snippet]:
    """None of the three has a character that a shell or a language would read otherwise."""
    return [
        Snippet(
            "env", "Environment (every SDK)", f"export ANTHROPIC_BASE_URL={endpoint}\nexport ANTHROPIC_API_KEY={key}"
        ),
        Snippet("claude-code", "Claude Code", _CLAUDE_CODE.format(endpoint=endpoint, key=key, model=model)),
        Snippet("python", "Python SDK", _PYTHON.format(endpoint=endpoint, key=key, model=model)),
        Snippet(
            "typescript",
            "TypeScript SDK",
            _TYPESCRIPT.replace("ENDPOINT", endpoint).replace("KEY", key).replace("MODEL", model),
        ),
        Snippet("curl", "curl", _CURL.replace("ENDPOINT", endpoint).replace("KEY", key).replace("MODEL", model)),
    ]


_CLAUDE_CODE = """\
export ANTHROPIC_BASE_URL={endpoint}
export ANTHROPIC_AUTH_TOKEN={key}
claude --model {model}"""

_PYTHON = """\
from anthropic import Anthropic

client = Anthropic(base_url="{endpoint}", api_key="{key}")
message = client.messages.create(
    model="{model}", max_tokens=256, messages=[{{"role": "user", "content": "Hello"}}]
)
print(message.content[0].text)"""

_TYPESCRIPT = """\
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: "ENDPOINT", apiKey: "KEY" });
const message = await client.messages.create({
  model: "MODEL", max_tokens: 256, messages: [{ role: "user", content: "Hello" }],
});
console.log(message.content);"""

_CURL = """\
curl ENDPOINT/v1/messages \\
  -H "x-api-key: KEY" -H "anthropic-version: 2023-06-01" -H "content-type: application/json" \\
  -d '{"model": "MODEL", "max_tokens": 256, "messages": [{"role": "user", "content": "Hello"}]}'"""
