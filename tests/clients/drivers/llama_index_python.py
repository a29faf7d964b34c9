"""LlamaIndex."""

import os
import sys

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.anthropic import Anthropic

model = Anthropic(
    model=os.environ["MODEL"], base_url=os.environ["BASE_URL"], api_key=os.environ["GATEWAY_KEY"], max_tokens=64
)


def weather(city: str) -> str:
    """The weather of a city."""
    return f"{city}: sunny"


def plain() -> None:
    print(model.complete("Hello"))


def stream() -> None:
    for chunk in model.stream_complete("Hello"):
        print(chunk.delta)


def tools() -> None:
    offered = FunctionTool.from_defaults(weather)
    asked = ChatMessage(role="user", content="Hello")
    answer = model.chat_with_tools([offered], chat_history=[asked])
    results = [
        ChatMessage(
            role="tool",
            content=str(offered.call(**call.tool_kwargs)),
            additional_kwargs={"tool_call_id": call.tool_id},
        )
        for call in model.get_tool_calls_from_response(answer)
    ]
    print(model.chat_with_tools([offered], chat_history=[asked, answer.message, *results]).message.content)


def count() -> None:
    print("tokens:", len(model.tokenizer.encode("Hello")))


{"plain": plain, "stream": stream, "tools": tools, "count": count}[sys.argv[1]]()
