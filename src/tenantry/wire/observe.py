"""Reads usage from an answer without changing a byte of it (DESIGN 4.8, reference section 4).

Usage comes from `message_start` and `message_delta` and from nothing else. The common chunk of a stream, some whole
`content_block_delta` events, is recognised by searches in C and passes as the same object. Invariants: any bytes may be
fed, in any cuts, and nothing is ever raised; the time is linear in the bytes.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from tenantry.domain.settlement import USAGE_UNREADABLE, Observed
from tenantry.domain.usage import (
    USAGE_FELL,
    USAGE_MALFORMED,
    as_word,
    has_fallen,
    is_count,
    merge_usage,
    read_usage,
    usage_document,
)
from tenantry.wire.answers import USAGE_RAW_BYTES_MAX, Event, is_empty, read_event, read_whole
from tenantry.wire.bytework import chunk_counter, count_deltas
from tenantry.wire.events import BLANK_LINE, event_end, fields, last_blank_line
from tenantry.wire.loose import decode_loosely

# What is held of an unfinished event; as much as a slow client may leave unread.
HELD_BYTES_MAX: Final = 64 * 1024
# An event that carries usage is held far longer before it would pass unread.
HELD_USAGE_BYTES_MAX: Final = 4 * 1024 * 1024
# Within so many bytes an event says what it is: its name and `"delta":{"type":` come first.
EVENT_HEAD_BYTES: Final = 256
# Reference 5.2 rule 7: an answer that broke off has at most a token for every two characters shown.
CHARS_PER_TOKEN: Final = 2

# The common event with nothing to tell: its name and its data agree that it is content.
_IS_CONTENT: Final = re.compile(rb'event: ?content_block_\w+\r?\ndata: ?\{"type": ?"content_block_')
# The beginning of the commonest event of all, up to where its text begins; the text of one delta is what changes in it.
_DELTA: Final = re.compile(
    rb'event: content_block_delta\ndata: \{"type":"content_block_delta","index":[0-9]{1,9},"delta":'
    rb'\{"type":"(?:text_delta","text|thinking_delta","thinking|input_json_delta","partial_json)":"'
)
_COUNTED_DELTAS: Final = (b"text", b"king", b"json")  # the ends of text_delta, thinking_delta, input_json_delta
# Blocks that stand for prompts read again, which only the final usage tells (reference 4.3, 4.4).
_HIDDEN_WORK: Final = re.compile(rb'"type": ?"(?:server_tool_use|mcp_tool_use|fallback|compaction)"')

_KINDS: Final = frozenset(
    {
        "message_start",
        "message_delta",
        "message_stop",
        "error",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
    }
)

_NO_HELD: Final = b""
_NOT_READ: Final = ()
_NO_CHUNK: Final = chunk_counter(b"")


class StreamObserver:
    """Watches one server-sent event stream.

    `started`: message_start was seen. `complete`: message_stop was seen. `failed`: the type of an `error` event.
    `mid_event`: part of an event has been passed on and its end has not come. `delta_chars`: characters generated.
    `tells_usage`: a message_delta has come, since whoever reads this has set it to False.

    `count_chunk` tells the characters of a whole chunk (RFC 9112 7.1) of the common kind, some events like the one
    before, and -1 of any other: such a one may pass unread by `feed`, and its characters belong to `delta_chars`.
    """

    __slots__ = (
        "_counts_passing",
        "_delta",
        "_has_fallen",
        "_has_hidden_work",
        "_held",
        "_is_malformed",
        "_tail",
        "_tells_output",
        "_unfinished_chars",
        "_usage",
        "_wants_1h",
        "complete",
        "content_empty",
        "count_chunk",
        "delta_chars",
        "failed",
        "mid_event",
        "model",
        "started",
        "stop_reason",
        "tells_usage",
    )

    def __init__(self, *, wants_1h: bool = False) -> None:
        self._held: bytes | bytearray = _NO_HELD
        self._tail = b""
        self._usage: dict[str, Any] = {}
        self._wants_1h = wants_1h
        self._counts_passing = False
        self._delta = b""  # no event is like it
        self._has_fallen = False
        self._has_hidden_work = False
        self._is_malformed = False
        self._tells_output = False
        self._unfinished_chars = 0  # those of `delta_chars` that stand in what is held
        self.started = False
        self.complete = False
        self.failed: str | None = None
        self.mid_event = False
        self.model: str | None = None
        self.stop_reason: str | None = None
        self.content_empty = True
        self.delta_chars = 0
        self.count_chunk = _NO_CHUNK
        self.tells_usage = False

    def feed(self, chunk: bytes) -> bytes:
        """What may be relayed now: everything up to the end of the last whole event."""
        if not self._held and not self.mid_event:
            chars = count_deltas(chunk, 0, len(chunk), self._delta)
            if chars >= 0:
                self.delta_chars += chars
                return chunk
        if self._held or self.mid_event or not chunk.endswith(b"\n\n"):
            return self._feed_cut(chunk)
        if b"message_" in chunk or b"error" in chunk:
            self._read_events(chunk)
        elif b"content_block" in chunk:
            self.content_empty = False
            if b"k_start" in chunk:
                self._note_content(chunk)
            else:
                self._count(chunk, 0, len(chunk))
            found = _DELTA.match(chunk)
            if found is not None:
                self._delta = found[0]
                self.count_chunk = chunk_counter(found[0])
        return chunk

    def _feed_cut(self, chunk: bytes) -> bytes:
        """The general case: cuts at any byte."""
        ready = self._feed_mid_event(chunk) if self.mid_event else self._feed_held(chunk)
        self.count_chunk = _NO_CHUNK if self._held or self.mid_event else chunk_counter(self._delta)
        return ready

    def _feed_held(self, chunk: bytes) -> bytes:
        """What came before is held until the event that it begins has ended."""
        held = self._held
        if not isinstance(held, bytearray):
            held = self._held = bytearray(held)
        searched = max(0, len(held) - 2)
        held += chunk
        self.delta_chars -= self._unfinished_chars
        self._unfinished_chars = 0
        end = last_blank_line(held, searched)
        if end > 0:
            ready = bytes(held[:end])
            self._held = held[end:] if end < len(held) else _NO_HELD
            chars = count_deltas(ready, 0, end, self._delta)
            if chars >= 0:
                self.delta_chars += chars
            else:
                self._read_events(ready)
            self._count_unfinished()
            return ready
        if len(held) > HELD_BYTES_MAX:
            return self._let_pass(held)
        self._count_unfinished()
        return b""

    def _count_unfinished(self) -> None:
        """Count a delta whose end has not come, to its last byte: what was generated is owed, passed on or not."""
        held = self._held
        start = held.find(b'"delta"', 0, EVENT_HEAD_BYTES)
        at = held.find(b'_delta"', start, EVENT_HEAD_BYTES) if start >= 0 else -1
        if at > 0 and held[at - 4 : at] in _COUNTED_DELTAS:
            self.content_empty = False
            self._unfinished_chars = len(held) - start
            self.delta_chars += self._unfinished_chars

    def _let_pass(self, held: bytearray) -> bytes:
        """An event too large to hold: pass it on, unless it carries usage."""
        head = held[:EVENT_HEAD_BYTES]
        if b"message_" in head[:64] and len(held) <= HELD_USAGE_BYTES_MAX:
            return b""
        self.mid_event = True
        self.content_empty = False
        self._has_hidden_work = self._has_hidden_work or _HIDDEN_WORK.search(head) is not None
        # What cannot be held is counted whole: more than its strings, never less.
        self._counts_passing = b'_delta"' in head
        if self._counts_passing:
            self.delta_chars += len(held)
        self._tail = bytes(held[-2:])
        self._held = _NO_HELD
        return bytes(held)

    def _feed_mid_event(self, chunk: bytes) -> bytes:
        joined = self._tail + chunk
        found = BLANK_LINE.search(joined)
        if found is None:
            self._tail = joined[-2:]
            if self._counts_passing:
                self.delta_chars += len(chunk)
            return chunk
        at = found.end() - len(self._tail)
        self.mid_event = False
        self._tail = b""
        if self._counts_passing:
            self.delta_chars += at
        return chunk[:at] + (self.feed(chunk[at:]) if at < len(chunk) else b"")

    @property
    def told_output_tokens(self) -> int:
        """The output tokens of the last usage that was told; 0 where that is no count."""
        told = self._usage.get("output_tokens")
        return told if isinstance(told, int) and is_count(told) else 0

    def document(self) -> bytes:
        """What is held of a body that is no event stream but a JSON object; nothing where it is something else."""
        held = bytes(self._held)
        return held if held.lstrip().startswith(b"{") else b""

    def finish(self) -> bytes:
        """What is still held at a clean end of the body; nothing when the stream is not complete."""
        held, self._held = self._held, _NO_HELD
        return bytes(held) if self.complete or self.failed is not None else b""

    def result(self) -> Observed:
        """What has been seen so far."""
        flaws: list[str] = []
        usage = read_usage(self._usage, wants_1h=self._wants_1h, flaws=flaws)
        if self._is_malformed and not flaws:
            flaws.append(USAGE_MALFORMED)
        if self._has_fallen and not usage.iterations and not self._has_hidden_work:  # another model may have begun anew
            flaws.append(USAGE_FELL)
        knows_prompt = self.started or "input_tokens" in self._usage
        # An intermediate message_delta tells how far it has come; the last one also why it stopped (reference 4.5).
        is_final = self._tells_output and knows_prompt and (self.complete or self.stop_reason is not None)
        if self.complete and not is_final:
            flaws.append(USAGE_UNREADABLE)
        raw = msgspec.json.encode(self._usage).decode() if self._usage else ""
        if len(raw) > USAGE_RAW_BYTES_MAX:
            raw = msgspec.json.encode(usage_document(usage)).decode()
        return Observed(
            self.model,
            self.stop_reason,
            usage,
            raw,
            self.content_empty,
            self.started,
            self.complete,
            self.failed,
            (self.delta_chars + CHARS_PER_TOKEN - 1) // CHARS_PER_TOKEN,
            is_final,
            self._has_hidden_work,
            tuple(flaws),
        )

    def _read_events(self, events: bytes) -> None:
        """Read the events that may tell usage, an end or an error; count the rest.

        Jumps from one to the next by two searches that each pass over the bytes once.
        """
        has_cr = b"\r" in events
        at, size = 0, len(events)
        message, error = events.find(b"message_"), events.find(b"error")
        while message >= 0 or error >= 0:
            hit = message if error < 0 or 0 <= message < error else error
            blank = last_blank_line(events, at, hit) if has_cr else events.rfind(b"\n\n", at, hit) + 2
            start = blank if blank > 1 else at  # 1: there is none
            end = event_end(events, hit, has_cr)
            if start > at:
                self._note_content(events, at, start)
            if _IS_CONTENT.match(events, start, end) is not None:
                self._note_content(events, start, end)
            elif events.find(b"data", start, end) >= 0:  # an event without data is none (WHATWG HTML 9.2.6)
                self._read_event(events[start:end])
            at = end
            if 0 <= message < at:
                message = events.find(b"message_", at)
            if 0 <= error < at:
                error = events.find(b"error", at)
        if at < size:
            self._note_content(events, at, size)

    def _read_event(self, event: bytes) -> None:
        name, data = fields(event)
        body = read_event(data)
        kind = body.type if isinstance(body.type, str) and body.type in _KINDS else name
        if self.complete:
            return  # what comes behind the end belongs to no answer
        if kind == "message_start":
            self._on_start(body.message)
        elif kind == "message_delta":
            self._on_delta(body)
        elif kind == "message_stop":
            self.complete = True
        elif kind == "error":
            self.failed = as_word(_object(body.error).get("type")) or "error"
        else:
            self._note_content(event)

    def _on_start(self, raw: msgspec.Raw) -> None:
        if self.started:
            self._is_malformed = True  # one stream is one message
        self.started = True
        message = read_whole(bytes(raw))
        if message is None:
            self._is_malformed = True
            return
        self.model = as_word(message.model)
        self._is_malformed |= self.model is None and message.model is not None
        self._merge(message.usage)
        if not is_empty(message.content):
            self.content_empty = False

    def _on_delta(self, body: Event) -> None:
        reason = as_word(_object(body.delta).get("stop_reason"))
        if reason is not None:
            self.stop_reason = reason
        if self._merge(body.usage):
            self._tells_output = True
        self.tells_usage = True

    def _merge(self, raw: msgspec.Raw) -> bool:
        """Take over a usage object; whether it tells the output."""
        if not raw:
            return False
        told = decode_loosely(bytes(raw)) if len(raw) <= USAGE_RAW_BYTES_MAX else _NOT_READ
        if not isinstance(told, dict):
            self._is_malformed |= told is not None or bytes(raw).strip() != b"null"
            return False
        usage: dict[str, Any] = told  # pyright: ignore[reportUnknownVariableType] -- JSON objects have string keys
        before, self._usage = self._usage, merge_usage(self._usage, usage)
        if before and has_fallen(before, self._usage):
            self._has_fallen = True
        return is_count(usage.get("output_tokens"))

    def _note_content(self, events: bytes, start: int = 0, end: int | None = None) -> None:
        """Count the characters of the deltas' strings, as they stand in the JSON, between `start` and `end`."""
        stop = len(events) if end is None else end
        if events.find(b"content_block", start, stop) < 0:
            return
        self.content_empty = False
        if events.find(b"content_block_start", start, stop) >= 0 and not self._has_hidden_work:
            self._has_hidden_work = _HIDDEN_WORK.search(events, start, stop) is not None
        if events.find(b"\r", start, stop) >= 0:
            events = events[start:stop].replace(b"\r", b"\n")
            start, stop = 0, len(events)
        self._count(events, start, stop)

    def _count(self, events: bytes, start: int, stop: int) -> None:
        """Every search ends with its line, and the next begins there: each byte is looked at a fixed number of times.

        A delta whose type stands behind its text is counted to the end of its line: more than its text, never less.
        """
        start = events.find(b'"delta"', start, stop)
        while start >= 0:
            line_end = events.find(b"\n", start, stop)
            if line_end < 0:
                line_end = stop
            at = events.find(b'_delta"', start, line_end)
            if at > 0 and events[at - 4 : at] in _COUNTED_DELTAS:
                opened = events.find(b':"', at, line_end) + 2  # as upstream writes it
                if opened < 2:
                    opened = events.find(b'"', events.find(b":", at, line_end), line_end) + 1
                closed = events.rfind(b'"', opened, line_end)
                text = events[opened:closed] if opened <= closed else events[start:line_end]
                self.delta_chars += len(text) if text.isascii() else len(text.decode("utf-8", "replace"))
            if line_end + 7 >= stop:  # as many bytes as what is searched for
                return
            start = events.find(b'"delta"', line_end, stop)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType] -- JSON objects have string keys
