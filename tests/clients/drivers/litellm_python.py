"""LiteLLM as a client."""

import json
import os
import sys
from typing import Any

import litellm

where: dict[str, Any] = {"api_base": os.environ["BASE_URL"], "api_key": os.environ["GATEWAY_KEY"]}
ask: dict[str, Any] = {"model": f"anthropic/{os.environ['MODEL']}", "max_tokens": 64, **where}
hello = [{"role": "user", "content": "Hello"}]
weather = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def plain() -> None:
    print(litellm.completion(messages=hello, **ask).choices[0].message.content)


def stream() -> None:
    for chunk in litellm.completion(messages=hello, stream=True, **ask):
        print(chunk.choices[0].delta.content or "")


def tools() -> None:
    answer = litellm.completion(messages=hello, tools=[weather], **ask).choices[0].message
    results = [
        {
            "role": "tool",
            "tool_call_id": call.id,
            "content": json.loads(call.function.arguments)["city"] + ": sunny",
        }
        for call in answer.tool_calls
    ]
    again = litellm.completion(messages=[*hello, answer, *results], tools=[weather], **ask)
    print(again.choices[0].message.content)


def models() -> None:
    found = litellm.get_valid_models(check_provider_endpoint=True, custom_llm_provider="anthropic", **where)
    print(*found)


{"plain": plain, "stream": stream, "tools": tools, "models": models}[sys.argv[1]]()
