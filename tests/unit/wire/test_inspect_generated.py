"""Generated requests are read as a plain recursive reader of their documents reads them, however they are written."""

from __future__ import annotations

import json
import random
from typing import Any

from tenantry.domain.asked import MessageFields, ServerTool
from tenantry.wire.inspect import inspect_message

BODIES = 600
CACHES = [{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}, {"ttl": "5m", "more": [1]}]
TYPES = ["text", "image", "document", "tool_result", "web_fetch_tool_result", "tool_addition", "compaction", "search"]


def a_tool(rng: random.Random) -> dict[str, Any]:
    tool: dict[str, Any] = {"name": "a", "input_schema": {"type": "object"}}
    if rng.random() < 0.4:
        tool["type"] = rng.choice(["web_search_1", "custom", "bash_1", "advisor_1"])
    if rng.random() < 0.3:
        tool[rng.choice(["max_uses", "max_tokens", "max_content_tokens"])] = rng.randint(-1, 9)
    if rng.random() < 0.2:
        tool[rng.choice(["cache_control", "caching"])] = rng.choice(CACHES)
    return tool


def a_content(rng: random.Random, depth: int) -> Any:
    if depth > 3 or rng.random() < 0.3:
        return rng.choice(["", "hello", 'say "😀" \\ {}[]', None])
    return [a_block(rng, depth) for _ in range(rng.randrange(4))]


def a_block(rng: random.Random, depth: int) -> dict[str, Any]:
    block: dict[str, Any] = {"type": rng.choice(TYPES), "text": rng.choice(["x", "é", '\\"cache_control"'])}
    match block["type"]:
        case "image" | "document":
            kind = rng.choice(["base64", "url", "file", "text", "content"])
            block["source"] = {"type": kind, "data": "A" * rng.randrange(9), "content": a_content(rng, depth + 1)}
        case "tool_result" | "web_fetch_tool_result":
            if rng.random() < 0.8:
                block["content"] = a_content(rng, depth + 1)
        case "tool_addition":
            block["tool"] = {"type": "tool_definition", "definition": a_tool(rng)}
        case "compaction":
            block["tool_changes"] = a_content(rng, depth + 1)
        case "search":
            block["source"] = "https://x.example"
        case _:
            if rng.random() < 0.1:
                block["file_id"] = "file_1"
    if rng.random() < 0.1:
        block["cache_control"] = rng.choice(CACHES)
    return block


def a_request(rng: random.Random) -> dict[str, Any]:
    request: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": []}
    for _ in range(rng.randrange(5)):
        request["messages"].append({"role": rng.choice(["user", "assistant"]), "content": a_content(rng, 1)})
    if rng.random() < 0.4:
        request["system"] = a_content(rng, 1)
    if rng.random() < 0.4:
        request["tools"] = [a_tool(rng) for _ in range(rng.randrange(4))]
    if rng.random() < 0.2:
        request["stream"] = rng.random() < 0.5
    if rng.random() < 0.2:
        request["cache_control"] = rng.choice(CACHES)
    members = list(request.items())
    rng.shuffle(members)
    return dict(members)


class Reader:
    """Reads a document member by member."""

    def __init__(self, request: dict[str, Any]) -> None:
        fields = self.fields = MessageFields("m", 9, request.get("stream") is True, False)
        self.tools: list[ServerTool] = []
        for message in request["messages"]:
            self.blocks(message["content"])
            if message["role"] == "user":
                content = message["content"] if isinstance(message["content"], list) else []
                fields.ends_in_tool_result = any(block["type"] == "tool_result" for block in content)
        self.blocks(request.get("system"))
        self.cache(request)
        for tool in request.get("tools", ()):
            self.tool(tool)
        fields.server_tools = tuple(self.tools)

    def cache(self, of: dict[str, Any], name: str = "cache_control") -> None:
        if name in of:
            self.fields.has_cache_control = True
            self.fields.wants_1h |= of[name].get("ttl") == "1h"

    def tool(self, tool: dict[str, Any]) -> None:
        self.fields.has_tools = True
        self.cache(tool)
        self.cache(tool, "caching")
        kind = tool.get("type", "custom")
        if kind == "bash_1":
            self.fields.typed_tools += 1
        elif kind != "custom":
            counts = [tool.get(name) for name in ("max_uses", "max_tokens", "max_content_tokens")]
            uses, tokens, content = (None if count is None else max(0, count) for count in counts)
            self.tools.append(ServerTool(kind, uses, None, tokens, content))

    def blocks(self, content: Any) -> None:
        for block in content if isinstance(content, list) else ():
            self.block(block)

    def block(self, block: dict[str, Any]) -> None:
        fields, source = self.fields, block.get("source")
        self.cache(block)
        if "tool" in block:
            self.tool(block["tool"]["definition"])
        if block["type"] == "web_fetch_tool_result" and not isinstance(block.get("content") or None, list):
            fields.has_sources = True
        self.blocks(block.get("content"))
        kind = source["type"] if isinstance(source, dict) else "file" if "file_id" in block else None
        if block["type"] == "image":
            fields.images += 1
            fields.image_bytes += len(source["data"]) + 2 if kind == "base64" else 0
        elif kind == "content":
            self.blocks(source["content"])
        elif kind not in (None, "text"):
            fields.has_sources = True
        self.blocks(block.get("tool_changes"))


def test_generated_requests_are_read_as_a_plain_reader_reads_them() -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for number in range(BODIES):
        request = a_request(rng)
        separators = rng.choice([(",", ":"), (", ", ": "), (" ,\n", " : ")])
        text = json.dumps(request, separators=separators, ensure_ascii=rng.random() < 0.5).encode()
        if rng.random() < 0.1:
            text = text.replace(b'"cache_c', b'"cache\\u005fc').replace(b'"type"', b'"t\\u0079pe"')
        if rng.random() < 0.1:
            text += b" " * 1_000_000  # read by parts
        found, wanted = inspect_message(text), Reader(request).fields
        found.server_tools = tuple(sorted(found.server_tools, key=repr))
        wanted.server_tools = tuple(sorted(wanted.server_tools, key=repr))
        assert found == wanted, f"seed {seed}, body {number}: {text[:2000]!r}"
