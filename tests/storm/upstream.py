"""A Messages API that does what the header `x-sandbox-storm` of a request says, and knows what it billed.

The header is a JSON object: the members of `Script` that differ from the default. What was billed is priced by the
reference's table, from what was really generated, whatever the answer said of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tenantry.domain.prices import load_default_prices
from tenantry.domain.usage import merge_usage, read_usage

# The densest text of the estimate's rule is two characters a token (reference 5.2 rule 7); this is a usual one.
CHARS_PER_TOKEN = 3
# The largest request head that is read, and far above what a gateway sends.
HEAD_BYTES_MAX = 256 * 1024
# What has been written is read by the other side before a reset can discard it.
BEFORE_RESET_SECONDS = 0.01
PING_SECONDS = 0.2
SLOW_BYTES = 48

PRICES = load_default_prices()
PING = b'event: ping\ndata: {"type": "ping"}\n\n'


@dataclass(slots=True)
class Script:
    """What to do with one request. Times are milliseconds.

    `cut` is where the connection ends: "before-body", "after-body", "half-head", "after-head", "mid-event",
    "between", "before-stop"; `at` is the delta at which "mid-event" and "between" cut. `how`: "fin", "rst" or "hang".
    `truth` are members of the usage that are billed so, `usage` are members that are told instead of the truth.
    `bills` says that a request without an answer is billed nevertheless, as the API may. `times`: the script holds for
    the first so many requests with the same `tag`, and later ones are answered well.
    """

    tag: str = ""
    times: int | None = None
    status: int = 200
    retry_after: str | None = None
    spend_cap: bool = False
    delay_ms: int = 0
    events: int = 3
    gap_ms: int = 0
    chars: int = 30
    text_json: str | None = None
    hidden_ms: int = 0
    hidden_tokens_per_second: int = 0
    cut: str = ""
    at: int = 1
    how: str = "fin"
    bills: bool = False
    length: int = 0
    chunk_garbage: bool = False
    slow_ms: int = 0
    idle_ms: int | None = None
    unasked: bool = False
    input_tokens: int = 25
    usage: dict[str, Any] = field(default_factory=dict[str, Any])
    truth: dict[str, Any] = field(default_factory=dict[str, Any])
    bom: bool = False
    deep: int = 0
    content_type: str | None = None
    event_field: str = "event: "


@dataclass(slots=True)
class Asked:
    """One request as the upstream saw it. `told`: its usage and the answer's end have left; `lies`: it is not true."""

    number: int
    request_id: str
    tag: str
    secret: str
    model: str
    streaming: bool
    at: float
    shown_tokens: int = 0
    hidden_tokens: int = 0
    is_billed: bool = False
    told: bool = False
    lies: bool = False
    nanos: int = 0


class Upstream:
    """A server on a free loopback port, in a thread of its own.

    `always` are members of the script of every request; they win over the header's.
    """

    def __init__(self, **always: Any) -> None:
        self.always = always
        self.asked: list[Asked] = []
        self.peaks: dict[str, int] = {}  # the most requests at once, by secret
        self._at_once: Counter[str] = Counter()
        self._tags: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def billed_nanos(self, tag: str | None = None) -> int:
        return sum(one.nanos for one in list(self.asked) if tag is None or one.tag == tag)

    def of(self, tag: str) -> list[Asked]:
        return [one for one in list(self.asked) if one.tag == tag]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connected, sock=self._socket, limit=HEAD_BYTES_MAX)
        )
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError)
        try:
            with contextlib.suppress(*ended):
                while await self._one(reader, writer):
                    pass
        finally:
            with contextlib.suppress(OSError):
                writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read and answer one request; whether the connection goes on."""
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        script = self._script(fields)
        if script.cut == "before-body":
            return await _end(reader, writer, script.how)
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        if not first.startswith("POST /v1/messages"):
            return await _write_json(writer, {"data": [], "has_more": False})
        asked = json.loads(body)
        if "count_tokens" in first:
            return await _write_json(writer, {"input_tokens": script.input_tokens})
        number = len(self.asked) + 1
        entry = Asked(
            number=number,
            request_id=f"req_{self.port}_{number}",
            tag=script.tag,
            secret=fields.get("x-api-key", ""),
            model=asked["model"],
            streaming=asked.get("stream") is True,
            at=time.time(),
            lies=bool(script.usage),
        )
        self.asked.append(entry)
        answer = _Answer(script, entry, reader, writer)
        self._at_once[entry.secret] += 1
        self.peaks[entry.secret] = max(self.peaks.get(entry.secret, 0), self._at_once[entry.secret])
        try:
            goes_on = await answer.give()
        finally:
            self._at_once[entry.secret] -= 1
            answer.bill()
        if script.idle_ms is not None:
            await asyncio.sleep(script.idle_ms / 1000)
            return False
        return goes_on

    def _script(self, fields: dict[str, str]) -> Script:
        script = Script(**(json.loads(fields.get("x-sandbox-storm") or "{}") | self.always))
        if script.times is not None:
            seen = self._tags[script.tag] = self._tags.get(script.tag, 0) + 1
            if seen > script.times:
                return Script(tag=script.tag)
        return script


class _Answer:
    """The answer to one request, written piece by piece."""

    def __init__(
        self, script: Script, entry: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._script = script
        self._entry = entry
        self._reader = reader
        self._writer = writer

    async def give(self) -> bool:
        script = self._script
        self._entry.is_billed = script.bills
        if script.bills and not self._entry.streaming:
            self._entry.shown_tokens = self._shown_tokens
        if script.delay_ms:
            await self._wait(script.delay_ms / 1000)
        if script.cut == "after-body":
            return await self._end()
        if script.status != 200:
            return await self._refuse()
        self._entry.is_billed = True
        if self._entry.streaming:
            return await self._stream()
        return await self._whole()

    async def _wait(self, seconds: float) -> None:
        """As long as who asked is there: a session of one that was killed is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._reader.read(1)

    def bill(self) -> None:
        entry = self._entry
        if not entry.is_billed:
            return
        usage = self._usage(entry.shown_tokens + entry.hidden_tokens) | self._script.truth
        priced = PRICES.price(read_usage(usage), entry.model, datetime.now(UTC))
        entry.nanos = priced.cost_nanos or 0

    @property
    def _shown_tokens(self) -> int:
        return 1 + self._script.events * (self._script.chars // CHARS_PER_TOKEN)

    def _usage(self, output_tokens: int) -> dict[str, Any]:
        return {
            "input_tokens": self._script.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_tokens,
        }

    async def _refuse(self) -> bool:
        script = self._script
        kind = {429: "rate_limit_error", 529: "overloaded_error"}.get(script.status, "api_error")
        message = "You have reached your API usage limits" if script.spend_cap else "the storm says so"
        more = {} if script.retry_after is None else {"retry-after": script.retry_after}
        error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": self._entry.request_id}
        return await self._send(json.dumps(error).encode(), more, "application/json")

    async def _whole(self) -> bool:
        script, entry = self._script, self._entry
        entry.shown_tokens = self._shown_tokens  # it is generated whole, whatever becomes of the connection
        entry.hidden_tokens = script.hidden_ms * script.hidden_tokens_per_second // 1000
        usage = merge_usage(self._usage(entry.shown_tokens + entry.hidden_tokens), script.truth, script.usage)
        text = script.text_json if script.text_json is not None else "x" * (script.chars * script.events)
        content = b'[{"type": "text", "text": "%b"}]' % text.encode("utf-8", "surrogatepass")
        if script.deep:
            content = b'[{"type": "text", "text": "", "deep": %b%b}]' % (b"[" * script.deep, b"]" * script.deep)
        body = b'{"id": "msg_%d", "type": "message", "role": "assistant", "model": "%b", "content": %b, ' % (
            entry.number,
            entry.model.encode(),
            content,
        )
        body += b'"stop_reason": "end_turn", "stop_sequence": null, "usage": %b}' % json.dumps(usage).encode()
        return await self._send((b"\xef\xbb\xbf" if script.bom else b"") + body, {}, "application/json")

    async def _send(self, body: bytes, more: dict[str, str], content_type: str) -> bool:
        """A whole answer, cut and lied about as the script says."""
        script = self._script
        fields = {"content-length": str(len(body) + script.length), **more}
        await self._head(fields, content_type)
        if script.cut == "after-head":
            return await self._end()
        if script.cut in ("mid-event", "between"):
            await self._write(body[: len(body) // 2])
            return await self._end()
        await self._write(body)
        self._entry.told = script.length == 0
        if script.unasked:
            await self._write(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nunasked")
        return script.length == 0

    async def _head(self, fields: dict[str, str], content_type: str) -> None:
        script, entry = self._script, self._entry
        lines = [
            f"HTTP/1.1 {script.status} {'OK' if script.status == 200 else 'No'}",
            f"content-type: {script.content_type or content_type}",
            f"request-id: {entry.request_id}",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        if script.cut == "half-head":
            await self._write(head[: len(head) // 2])
            await self._end()
            raise ConnectionResetError
        await self._write(head)

    async def _stream(self) -> bool:
        script, entry = self._script, self._entry
        await self._head({"transfer-encoding": "chunked"}, "text/event-stream; charset=utf-8")
        if script.chunk_garbage:
            await self._write(b"zz;\r\nnot a chunk\r\n")
            return False
        if script.cut == "after-head":
            return await self._end()
        for piece in self._opening():
            await self._chunk(piece)
        entry.shown_tokens = 1
        await self._think()
        for number in range(script.events):
            if not await self._delta(number):
                return False
        await self._chunk(self._event("content_block_stop", {"index": 0}))
        usage = {"output_tokens": entry.shown_tokens + entry.hidden_tokens} | script.truth | script.usage
        await self._chunk(
            self._event("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage})
        )
        if script.cut == "before-stop":
            return await self._end()
        await self._chunk(self._event("message_stop", {}))
        await self._write(b"0\r\n\r\n")
        entry.told = True
        return True

    def _opening(self) -> list[bytes]:
        script, entry = self._script, self._entry
        message = {
            "id": f"msg_{entry.number}",
            "type": "message",
            "role": "assistant",
            "model": entry.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self._usage(1) | script.truth | {"output_tokens": 1},
        }
        kind = (
            {"type": "thinking", "thinking": "", "signature": ""} if script.hidden_ms else {"type": "text", "text": ""}
        )
        return [
            self._event("message_start", {"message": message}),
            self._event("content_block_start", {"index": 0, "content_block": kind}),
            PING,
        ]

    async def _think(self) -> None:
        """Thinking that is not shown: pings, and tokens that only the end tells."""
        script, began = self._script, time.monotonic()
        while (elapsed := time.monotonic() - began) < script.hidden_ms / 1000:
            await asyncio.sleep(min(PING_SECONDS, script.hidden_ms / 1000 - elapsed))
            await self._chunk(PING)
            self._entry.hidden_tokens = int(elapsed * script.hidden_tokens_per_second)
        if script.hidden_ms:
            self._entry.hidden_tokens = script.hidden_ms * script.hidden_tokens_per_second // 1000

    async def _delta(self, number: int) -> bool:
        """One piece of text; False when the connection ended here."""
        script = self._script
        text = script.text_json if script.text_json is not None else "x" * script.chars
        data = b'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "%b"}}' % (
            text.encode("utf-8", "surrogatepass")
        )
        event = b"%bcontent_block_delta\ndata: %b\n\n" % (script.event_field.encode(), data)
        if number == script.at and script.cut == "between":
            return await self._end()
        if number == script.at and script.cut == "mid-event":
            await self._chunk(event[: len(event) // 2])
            return await self._end()
        await self._chunk(event)
        self._entry.shown_tokens += script.chars // CHARS_PER_TOKEN
        if script.gap_ms:
            await asyncio.sleep(script.gap_ms / 1000)
        return True

    def _event(self, name: str, data: dict[str, Any]) -> bytes:
        return f"{self._script.event_field}{name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()

    async def _chunk(self, data: bytes) -> None:
        await self._write(b"%x\r\n%b\r\n" % (len(data), data))

    async def _write(self, data: bytes) -> None:
        script = self._script
        if not script.slow_ms:
            self._writer.write(data)
        else:
            for at in range(0, len(data), SLOW_BYTES):
                self._writer.write(data[at : at + SLOW_BYTES])
                await asyncio.sleep(script.slow_ms / 1000)
        if self._writer.transport.is_closing() or self._reader.at_eof():
            raise ConnectionResetError
        await self._writer.drain()

    async def _end(self) -> bool:
        return await _end(self._reader, self._writer, self._script.how)


async def _write_json(writer: asyncio.StreamWriter, value: object) -> bool:
    body = json.dumps(value).encode()
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    return True


async def _end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, how: str) -> bool:
    """End a connection: by FIN, by RST, or by doing nothing until the other side ends it."""
    if how == "hang":
        await reader.read()
    elif how == "rst":
        await asyncio.sleep(BEFORE_RESET_SECONDS)
        reset(writer)
    return False


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST in place of FIN."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
