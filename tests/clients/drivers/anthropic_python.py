"""Anthropic's Python SDK."""

import os
import sys
from typing import Any

from anthropic import Anthropic

client = Anthropic(base_url=os.environ["BASE_URL"], api_key=os.environ["GATEWAY_KEY"])
ask: dict[str, Any] = {
    "model": os.environ["MODEL"],
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Hello"}],
}
weather = {
    "name": "weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def plain() -> None:
    print(client.messages.create(**ask).content[0].text)


def stream() -> None:
    with client.messages.stream(**ask) as answer:
        for text in answer.text_stream:
            print(text, end="")


def tools() -> None:
    message = client.messages.create(**ask, tools=[weather])
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": f"{block.input['city']}: sunny"}
        for block in message.content
        if block.type == "tool_use"
    ]
    turns = [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    again = client.messages.create(**ask | {"messages": ask["messages"] + turns}, tools=[weather])
    print(again.content[0].text)


def count() -> None:
    counted = client.messages.count_tokens(model=ask["model"], messages=ask["messages"])
    print("tokens:", counted.input_tokens)


def models() -> None:
    print(*(model.id for model in client.models.list()))


{"plain": plain, "stream": stream, "tools": tools, "count": count, "models": models}[sys.argv[1]]()
