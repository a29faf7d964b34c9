"""Reads usage from an answer without changing a byte of it (DESIGN 4.8, reference section 4).

Usage comes from `message_start` and `message_delta` and from nothing else. The common chunk of a stream, some whole
`content_block_delta` events, is recognised by searches in C and passes as the same object. Invariant: any bytes may be
fed, in any cuts, and nothing is ever raised.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from tenantry.domain.settlement import Observed
from tenantry.domain.usage import merge_usage, read_usage

# What is held of an unfinished event; as much as a slow client may leave unread.
HELD_BYTES_MAX = 64 * 1024
# An event that carries usage is held far longer before it would pass unread.
HELD_USAGE_BYTES_MAX = 4 * 1024 * 1024

# The three blank lines that the SDKs split on (reference 4.1).
_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_COUNTED_DELTAS = (b"text", b"king", b"json")  # the ends of text_delta, thinking_delta, input_json_delta

_NO_HELD = b""


class StreamObserver:
    """Watches one server-sent event stream.

    `started`: message_start was seen. `complete`: message_stop was seen. `failed`: the type of an `error` event.
    `mid_event`: part of an event has been passed on and its end has not come. `delta_chars`: characters generated.
    """

    __slots__ = (
        "_held",
        "_tail",
        "_usage",
        "_wants_1h",
        "complete",
        "content_empty",
        "delta_chars",
        "failed",
        "mid_event",
        "model",
        "started",
        "stop_reason",
    )

    def __init__(self, *, wants_1h: bool = False) -> None:
        self._held: bytes | bytearray = _NO_HELD
        self._tail = b""
        self._usage: dict[str, Any] = {}
        self._wants_1h = wants_1h
        self.started = False
        self.complete = False
        self.failed: str | None = None
        self.mid_event = False
        self.model: str | None = None
        self.stop_reason: str | None = None
        self.content_empty = True
        self.delta_chars = 0

    def feed(self, chunk: bytes) -> bytes:
        """What may be relayed now: everything up to the end of the last whole event."""
        if self._held or self.mid_event or not chunk.endswith(b"\n\n"):
            return self._feed_cut(chunk)
        if b"message_" in chunk or b"error" in chunk:
            self._read_events(chunk)
        elif b"content_block" in chunk:
            self.content_empty = False
            self._count(chunk)
        return chunk

    def _feed_cut(self, chunk: bytes) -> bytes:
        """The general case: cuts at any byte."""
        if self.mid_event:
            return self._feed_mid_event(chunk)
        held = self._held
        if not isinstance(held, bytearray):
            held = self._held = bytearray(held)
        searched = max(0, len(held) - 3)
        held += chunk
        end = _last_blank_line(held, searched)
        if end > 0:
            ready = bytes(held[:end])
            rest = bytes(held[end:])
            self._held = bytearray(rest) if rest else _NO_HELD
            self._read_events(ready)
            return ready
        if len(held) > HELD_BYTES_MAX:
            return self._let_pass(held)
        return b""

    def _let_pass(self, held: bytearray) -> bytes:
        """An event too large to hold: pass it on, unless it carries usage."""
        if b"message_" in held[:64] and len(held) <= HELD_USAGE_BYTES_MAX:
            return b""
        self.mid_event = True
        self.content_empty = False
        self._tail = bytes(held[-3:])
        self._held = _NO_HELD
        return bytes(held)

    def _feed_mid_event(self, chunk: bytes) -> bytes:
        joined = self._tail + chunk
        found = _BLANK_LINE.search(joined)
        if found is None:
            self._tail = joined[-3:]
            return chunk
        at = found.end() - len(self._tail)
        self.mid_event = False
        self._tail = b""
        return chunk[:at] + (self.feed(chunk[at:]) if at < len(chunk) else b"")

    def finish(self) -> bytes:
        """What is still held at a clean end of the body; nothing when the stream is not complete."""
        held, self._held = self._held, _NO_HELD
        return bytes(held) if self.complete or self.failed is not None else b""

    def result(self) -> Observed:
        """What has been seen so far."""
        return Observed(
            model=self.model,
            stop_reason=self.stop_reason,
            usage=read_usage(self._usage, wants_1h=self._wants_1h),
            usage_raw=_as_json(self._usage),
            content_empty=self.content_empty,
            started=self.started,
            complete=self.complete,
            failed=self.failed,
            estimated_output_tokens=(self.delta_chars + 3) // 4,
        )

    def _read_events(self, events: bytes) -> None:
        for event in _BLANK_LINE.split(events):
            if b"content_block" in event and not (b"event: message_" in event or b"event: error" in event):
                self.content_empty = False
                self._count(event)
            elif b"message_" in event or b"error" in event:
                self._read_event(event)

    def _read_event(self, event: bytes) -> None:
        name, data = _fields(event)
        try:
            document = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            document = None
        body = _object(document)
        kind = body.get("type") or name
        if kind == "message_start":
            self._on_start(_object(body.get("message")))
        elif kind == "message_delta":
            self._on_delta(body)
        elif kind == "message_stop":
            self.complete = True
        elif kind == "error" or name == "error":
            problem = _object(body.get("error")).get("type")
            self.failed = problem if isinstance(problem, str) else "error"

    def _on_start(self, message: dict[str, Any]) -> None:
        self.started = True
        model = message.get("model")
        self.model = model if isinstance(model, str) else None
        self._usage = merge_usage(self._usage, _object(message.get("usage")))
        if message.get("content"):
            self.content_empty = False

    def _on_delta(self, body: dict[str, Any]) -> None:
        reason = _object(body.get("delta")).get("stop_reason")
        if isinstance(reason, str):
            self.stop_reason = reason
        self._usage = merge_usage(self._usage, _object(body.get("usage")))

    def _count(self, events: bytes) -> None:
        """Add the characters of the deltas' strings, as they stand in the JSON."""
        start = events.find(b'"delta"')
        while start >= 0:
            at = events.find(b'_delta"', start)
            line_end = events.find(b"\n", start)
            if line_end < 0:
                line_end = len(events)
            if 0 < at < line_end and events[at - 4 : at] in _COUNTED_DELTAS:
                opened = events.find(b'"', events.find(b":", at)) + 1
                closed = events.rfind(b'"', opened, line_end)
                if 0 < opened < closed:
                    text = events[opened:closed]
                    self.delta_chars += len(text) if text.isascii() else len(text.decode("utf-8", "replace"))
            start = events.find(b'"delta"', line_end)


class _Message(msgspec.Struct):
    """The members of a message that matter here; the content stays undecoded."""

    model: Any = None
    stop_reason: Any = None
    usage: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()


_MESSAGE_DECODER = msgspec.json.Decoder(_Message)
_NO_MESSAGE = _Message()


def read_message(body: bytes, *, wants_1h: bool = False) -> Observed:
    """What a whole, non-streaming answer says. A body that is not a message gives an incomplete observation."""
    try:
        message = _MESSAGE_DECODER.decode(body)
        usage = msgspec.json.decode(message.usage) if message.usage else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message, usage = _NO_MESSAGE, None
    told = isinstance(usage, dict)
    return Observed(
        model=message.model if isinstance(message.model, str) else None,
        stop_reason=message.stop_reason if isinstance(message.stop_reason, str) else None,
        usage=read_usage(_object(usage), wants_1h=wants_1h),
        usage_raw=bytes(message.usage).decode() if told else "",
        content_empty=len(message.content) < 16 and bytes(message.content).translate(None, b" \t\r\n") in _NO_CONTENT,
        started=told,
        complete=told,
        failed=None,
        estimated_output_tokens=0,
    )


_NO_CONTENT = (b"", b"[]", b"null", b'""')


def _last_blank_line(data: bytearray, start: int) -> int:
    """The end of the last blank line at or after `start`, or -1."""
    return max(
        data.rfind(mark, start) + len(mark) if data.rfind(mark, start) >= 0 else -1
        for mark in (b"\n\n", b"\r\n\r\n", b"\r\r")
    )


def _fields(event: bytes) -> tuple[str, bytes]:
    """The event name and the data lines, joined, of one event (WHATWG HTML 9.2.6)."""
    name = ""
    data: list[bytes] = []
    for line in _LINE_END.split(event):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"data":
            data.append(value)
    return name, b"\n".join(data)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType] -- JSON objects have string keys


def _as_json(raw: dict[str, Any]) -> str:
    return msgspec.json.encode(raw).decode() if raw else ""
