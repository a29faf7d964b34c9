"""LangChain for Python."""

import os
import sys

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool

model = ChatAnthropic(
    model=os.environ["MODEL"], base_url=os.environ["BASE_URL"], api_key=os.environ["GATEWAY_KEY"], max_tokens=64
)


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"{city}: sunny"


def plain() -> None:
    print(model.invoke("Hello").content)


def stream() -> None:
    for chunk in model.stream("Hello"):
        print(chunk.content)


def tools() -> None:
    bound = model.bind_tools([weather])
    asked = HumanMessage("Hello")
    answer = bound.invoke([asked])
    results = [ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls]
    print(bound.invoke([asked, answer, *results]).content)


def count() -> None:
    print("tokens:", model.get_num_tokens_from_messages([HumanMessage("Hello")]))


{"plain": plain, "stream": stream, "tools": tools, "count": count}[sys.argv[1]]()
