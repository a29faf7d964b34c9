"""Simulated answers in the API's shapes (reference sections 3 to 5): the same request always gets the same answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tenantry.sandbox.scenarios import Scenario
from tenantry.sandbox.shapes import sample

SIMULATED = "[Tenantry sandbox: simulated answer]"
_WORDS = "The gateway forwards this text as it comes, counts its tokens, and books its price to the nano-dollar."

MODELS = {
    "claude-fable-5-2": "Claude Fable 5.2",
    "claude-haiku-5-5": "Claude Haiku 5.5",
    "claude-sonnet-5-5": "Claude Sonnet 5.5",
    "claude-opus-5-5": "Claude Opus 5.5",
    "claude-sonnet-5": "Claude Sonnet 5",
    "claude-opus-5": "Claude Opus 5",
    "claude-sonnet-4-6": "Claude Sonnet 4.6",
    "claude-haiku-4-5-20251001": "Claude Haiku 4.5",
}

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One simulated message: its identity, its blocks, and what it costs."""

    message_id: str
    model: str
    blocks: list[dict[str, Any]]
    stop_reason: str
    usage: dict[str, Any]
    seed: int


def error_body(status: int, message: str, request_id: str) -> bytes:
    kind = _ERROR_TYPES.get(status, "api_error")
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}).encode()


def count_tokens(value: object) -> int:
    """A stand-in for the tokenizer: a quarter of the UTF-8 bytes of the JSON, rounded up."""
    return (len(json.dumps(value, ensure_ascii=False).encode()) + 3) // 4


def prompt_tokens(body: dict[str, Any]) -> int:
    return count_tokens([body.get("system"), body.get("tools"), body.get("messages")])


def compose(raw: bytes, body: dict[str, Any], model: str, scenario: Scenario) -> Answer:
    """The answer to a request whose bytes are `raw`."""
    digest = hashlib.sha256(raw).hexdigest()
    blocks = list(_blocks(body, scenario, digest))
    stop_reason = "tool_use" if blocks and blocks[-1]["type"] == "tool_use" else "end_turn"
    if "refusal" in scenario:
        stop_reason = "refusal"
    output = sum(count_tokens(block) for block in blocks)
    most = body.get("max_tokens")
    if isinstance(most, int):  # no more is ever told; the text stays whole, so that what is asked for is what comes
        output = min(output, most)
    return Answer(
        f"msg_sandbox{digest[:20]}",
        model,
        blocks,
        stop_reason,
        _usage(raw, body, scenario, output),
        int(digest[:8], 16),
    )


def _blocks(body: dict[str, Any], scenario: Scenario, digest: str) -> Iterator[dict[str, Any]]:
    if "refusal" in scenario:
        return
    if "thinking" in scenario or _kind(body.get("thinking")) in ("enabled", "adaptive"):
        yield {"type": "thinking", "thinking": "A simulated thought.", "signature": f"sandbox{digest[:32]}"}
    schema = _offered_schema(body)
    if schema is not None:
        yield {"type": "text", "text": json.dumps(sample(schema), ensure_ascii=False)}
        return
    yield {"type": "text", "text": _text(scenario)}
    tools = body.get("tools")
    forced = _kind(body.get("tool_choice")) in ("any", "tool")
    if ("tool-use" in scenario or (forced and tools)) and not _ends_in_tool_result(body):
        name, schema = _tool(body, tools)
        yield {
            "type": "tool_use",
            "id": f"toolu_sandbox{digest[:16]}",
            "name": name,
            "input": sample(schema) if schema else {"location": "Paris", "unit": "celsius"},
        }


def _offered_schema(body: dict[str, Any]) -> Any:
    """The shape that the answer has to have (`output_config.format`, `output_format` of older clients)."""
    config: Any = body.get("output_config") or {}
    shape: Any = config.get("format", body.get("output_format")) if hasattr(config, "get") else None
    return shape.get("schema") if _kind(shape) == "json_schema" else None


def _ends_in_tool_result(body: dict[str, Any]) -> bool:
    """Whether the tool was asked and has answered: then the turn ends, or a client's loop never would."""
    try:
        # Claude Code says something of the system's behind it (reference 7.5), OpenClaw something of its user's.
        for message in reversed(body["messages"]):
            if message["role"] == "assistant":
                return False
            content = message["content"]
            if isinstance(content, list) and any(_kind(one) == "tool_result" for one in content):  # pyright: ignore[reportUnknownVariableType] -- decoded JSON
                return True
    except (LookupError, TypeError):
        pass
    return False


def _kind(value: Any) -> Any:
    return value.get("type") if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] -- decoded JSON


def _tool(body: dict[str, Any], tools: Any) -> tuple[str, Any]:
    """The tool that is asked for, or the first one: its name, and the schema of its input where that says something.

    One that a model does not see yet (`defer_loading`) is not called: Claude Code has no tool behind its placeholder.
    """
    try:
        tools = [one for one in tools if not one.get("defer_loading")] or tools
        choice: Any = body.get("tool_choice") or {}
        wanted: Any = choice.get("name", tools[0]["name"])
        found = next((one for one in tools if one["name"] == wanted), tools[0])
        schema: Any = found.get("input_schema") or {}
        return str(found["name"]), schema if schema.get("properties") else None
    except (LookupError, TypeError, AttributeError):
        return "get_weather", None


def _text(scenario: Scenario) -> str:
    text = f"{SIMULATED} {_WORDS}"
    size = scenario.number("answer-bytes", 0)
    return (text + " " + "x" * max(0, size - len(text) - 1)) if size else text


def _usage(raw: bytes, body: dict[str, Any], scenario: Scenario, output: int) -> dict[str, Any]:
    prompt = prompt_tokens(body)
    cached = prompt // 2 if b'"cache_control"' in raw else 0
    hour = cached if b'"1h"' in raw else 0
    usage: dict[str, Any] = {
        "input_tokens": prompt - cached,
        "cache_creation_input_tokens": cached,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": cached - hour, "ephemeral_1h_input_tokens": hour},
        "output_tokens": output,
        "service_tier": "standard",
        "inference_geo": "us" if "fast-us" in scenario else "global",
    }
    if "fast-us" in scenario:
        usage["speed"] = "fast"
    if "web-search" in scenario:
        usage["server_tool_use"] = {"web_search_requests": 1, "web_fetch_requests": 0}
    return usage


def whole(answer: Answer) -> bytes:
    """A non-streaming message."""
    return json.dumps(
        {
            "model": answer.model,
            "id": answer.message_id,
            "type": "message",
            "role": "assistant",
            "content": answer.blocks,
            "stop_reason": answer.stop_reason,
            "stop_sequence": None,
            "stop_details": None,
            "usage": answer.usage,
        },
        ensure_ascii=False,
    ).encode()


def events(answer: Answer, scenario: Scenario) -> Iterator[bytes]:
    """The stream of a message, event by event."""
    if "error-first-event" in scenario:
        yield _error_event()
        return
    for number, (name, data) in enumerate(_event_values(answer, scenario)):
        yield _event(name, data, (answer.seed + number * 7) % 12)
        if name == "error":
            return


def _event_values(answer: Answer, scenario: Scenario) -> Iterator[tuple[str, dict[str, Any]]]:
    start: dict[str, Any] = {
        "model": answer.model,
        "id": answer.message_id,
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "usage": answer.usage | {"output_tokens": 1},
    }
    yield "message_start", {"type": "message_start", "message": start}
    for index, block in enumerate(answer.blocks):
        opened, deltas = _opened(block, scenario)
        yield "content_block_start", {"type": "content_block_start", "index": index, "content_block": opened}
        if index == 0:
            yield "ping", {"type": "ping"}
        for at, delta in enumerate(deltas):
            if "error-midstream" in scenario and block["type"] == "text" and at >= len(deltas) // 2:
                yield "error", {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
                return
            yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
        yield "content_block_stop", {"type": "content_block_stop", "index": index}
    totals = {
        name: value for name, value in answer.usage.items() if name.endswith("tokens") or name == "server_tool_use"
    }
    delta: dict[str, Any] = {"stop_reason": answer.stop_reason, "stop_sequence": None}
    yield "message_delta", {"type": "message_delta", "delta": delta, "usage": totals}
    if "no-message-stop" not in scenario:
        yield "message_stop", {"type": "message_stop"}


def _opened(block: dict[str, Any], scenario: Scenario) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it starts, and the deltas that fill it (reference 4.3)."""
    if block["type"] == "thinking":
        return {"type": "thinking", "thinking": "", "signature": ""}, [
            {"type": "thinking_delta", "thinking": block["thinking"]},
            {"type": "signature_delta", "signature": block["signature"]},
        ]
    if block["type"] == "tool_use":
        text = json.dumps(block["input"])
        parts = ["", text[:12], text[12:]]
        opened = block | {"input": {}, "caller": {"type": "direct"}}
        return opened, [{"type": "input_json_delta", "partial_json": part} for part in parts]
    text, pieces = block["text"], scenario.number("chunks", 8)
    if len(text) < pieces:
        text += " ." * (pieces - len(text))
    size = max(1, -(-len(text) // pieces))
    return {"type": "text", "text": ""}, [
        {"type": "text_delta", "text": text[at : at + size]} for at in range(0, len(text), size)
    ]


def _event(name: str, data: dict[str, Any], padding: int) -> bytes:
    if name == "ping":
        return b'event: ping\ndata: {"type": "ping"}\n\n'
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\ndata: {text[:-1]}{' ' * padding}}}\n\n".encode()


def _error_event() -> bytes:
    return b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}\n\n'


def model_info(model_id: str) -> dict[str, Any]:
    return {
        "id": model_id,
        "type": "model",
        "display_name": f"{MODELS[model_id]} (sandbox simulation)",
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "max_input_tokens": 1_000_000,
        "max_tokens": 128_000,
    }


def model_page(limit: int, after_id: str | None) -> dict[str, Any]:
    """`GET /v1/models`, pagination style A (reference section 1)."""
    ids = list(MODELS)
    if after_id in ids:
        ids = ids[ids.index(after_id) + 1 :]
    page = ids[:limit]
    return {
        "data": [model_info(model_id) for model_id in page],
        "has_more": len(ids) > len(page),
        "first_id": page[0] if page else None,
        "last_id": page[-1] if page else None,
    }
