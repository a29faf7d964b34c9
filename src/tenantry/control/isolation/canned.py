"""What the recording upstream answers: every kind of answer that the API has, with the asking tenant's mark in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from tenantry.control.isolation.cases import MODEL


class Asked(Protocol):
    """What an answer depends on. `said` is what stands in it beside the mark."""

    @property
    def path(self) -> str: ...
    @property
    def tag(self) -> str: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def said(self) -> str: ...


def document_of(record: Asked, mark: str) -> tuple[int, dict[str, Any]]:
    """Status and body of an answer that is no stream."""
    path = record.path
    if path == "/v1/messages":
        return 200, {**_message(record), "content": [{"type": "text", "text": _text(record, mark)}]}
    if path == "/v1/messages/count_tokens":
        return 200, {"input_tokens": 7, "mark": mark, "tag": record.tag}
    known = [_model(MODEL, mark), _model(f"model-{mark}", mark)]
    if path == "/v1/models":
        return 200, {"data": known, "has_more": False, "first_id": MODEL, "last_id": f"model-{mark}"}
    if path.startswith("/v1/models/"):
        found = [model for model in known if model["id"] == path.removeprefix("/v1/models/")]
        missing = {"type": "error", "error": {"type": "not_found_error", "message": "no such model"}}
        return (200, found[0]) if found else (404, missing)
    return 200, {"mark": mark, "tag": record.tag}


def _model(name: str, mark: str) -> dict[str, str]:
    return {"type": "model", "id": name, "display_name": mark, "created_at": "2026-01-01T00:00:00Z"}


def _text(record: Asked, mark: str) -> str:
    return f"{mark} tag={record.tag} {record.said}"


def _message(record: Asked) -> dict[str, Any]:
    """A message without its content, and with as few tokens as can be: what a probe costs is next to nothing."""
    return {
        "id": f"msg_{record.tag or 'probe'}",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": record.output_tokens},
    }


def opening_events(record: Asked, mark: str) -> Iterator[dict[str, Any]]:
    """The events of a stream up to its first words."""
    yield {"type": "message_start", "message": {**_message(record), "content": [], "stop_reason": None}}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield word_event(_text(record, mark))


def word_event(text: str) -> dict[str, Any]:
    """More words of a stream."""
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def closing_events(record: Asked) -> Iterator[dict[str, Any]]:
    """The events that end a stream."""
    yield {"type": "content_block_stop", "index": 0}
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": record.output_tokens}}
    yield {"type": "message_stop"}
