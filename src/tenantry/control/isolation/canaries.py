"""A recording upstream: it writes down whose credential came with each request, and marks each answer as that tenant's.

Each probe's credential is a canary: a secret that stands nowhere else, so wherever it shows, it came from the gateway.
The mark in an answer is a public word that belongs to the credential and cannot be turned back into it.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from tenantry.control.isolation.canned import closing_events, document_of, opening_events, word_event
from tenantry.wire.http1 import LAST_CHUNK, BadHead, RequestHead, chunk, parse_request_head, response_head

# What no upstream may see: the client's key, its name here, and who it is on the network (reference 2.1, 2.3).
_IDENTITY: Final = frozenset(
    (
        *(b"x-tenant-id", b"cookie", b"proxy-authorization", b"forwarded", b"x-real-ip", b"true-client-ip"),
        *(b"anthropic-workspace-id", b"anthropic-user-profile-id", b"anthropic-organization-id", b"cf-connecting-ip"),
        *(b"via", b"api-key"),
    )
)
_FORWARDED: Final = b"x-forwarded-"
# An upstream's own quota, in figures that no tenant has; seen by a client, they came through the gateway.
UPSTREAM_QUOTA = b"987654321"
START_SECONDS_MAX = 30.0

# What a request asks of this upstream, in its prompt: a name, milliseconds before the answer, tokens to be billed, how
# often it is to fail first, whether its stream goes on until it is released.
_TAG = re.compile(r"tag=([0-9a-z-]+)")
_WAIT = re.compile(r"wait=([0-9]{1,5})")
_TOKENS = re.compile(r"tokens=([0-9]{1,5})")
_FAIL = re.compile(r"fail=([1-9])")
_LASTING = "lasting"
_WORD_SECONDS: Final = 0.05
# A stream that nobody releases. Far longer than any check.
_LASTING_SECONDS_MAX: Final = 300.0
# Ids that belong to somebody, as `borrowed` makes them up.
_BORROWED = re.compile(rb"[a-z]{2,10}_borrowed[0-9a-f]{8}")


def new_secret(who: str) -> str:
    """A canary for one probe."""
    return f"sandbox-canary-{who}-{secrets.token_hex(16)}"


@dataclass(frozen=True, slots=True)
class Record:
    """One request that reached the upstream. `leaks` names what it carried and must not; `connection` counts them.

    `said` goes into the answer; `borrowed` are ids of others that came with it.
    """

    secret: str = field(repr=False)
    method: str
    path: str
    tag: str
    request_id: str
    leaks: tuple[str, ...]
    output_tokens: int = 1
    connection: int = 0
    said: str = field(default="", repr=False)
    borrowed: tuple[str, ...] = ()


class CanaryUpstream:
    """Listens on a free loopback port in a thread of its own. Knows probes by their secret."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.marks: dict[str, str] = {}
        self.words: dict[str, str] = {}
        self.failed: Counter[str] = Counter()
        self.released: set[str] = set()
        self.transports: set[asyncio.Transport] = set()
        self.connections = 0  # so many have been made
        self.port = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="canary upstream", daemon=True)
        self._thread.start()
        try:
            if not self._ready.wait(START_SECONDS_MAX):
                raise OSError("the recording upstream did not start")
        except BaseException:  # whoever stops the run here has nothing to close it by
            self.close()
            raise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def admit(self, secret: str) -> str:
        """Know a probe's secret from now on; its mark. What its answers say beside that is in `words`."""
        self.words[secret] = f"answer-{secrets.token_hex(12)}"
        mark = self.marks[secret] = f"mark-{secrets.token_hex(6)}"
        return mark

    def of(self, secret: str) -> list[Record]:
        return [record for record in list(self.records) if record.secret == secret]

    def release(self, tag: str) -> None:
        """Let a lasting stream end."""
        self.released.add(tag)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS_MAX)

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        # What goes wrong here shows in an answer that does not come; asyncio's own words would stand beside it.
        loop.set_exception_handler(lambda _loop, _context: None)
        server = loop.run_until_complete(loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=1024))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            loop.run_forever()
        finally:
            server.close()
            for transport in list(self.transports):
                transport.abort()
            loop.run_until_complete(_let_go())
            loop.close()


async def _let_go() -> None:
    """Until every connection is closed and what was being answered has ended."""
    await asyncio.sleep(0)  # one turn of the loop for the connections to hear that they are lost
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Connection(asyncio.Protocol):
    """One connection from the gateway: heads with a length, one request at a time."""

    def __init__(self, upstream: CanaryUpstream) -> None:
        self._upstream = upstream
        self._buffer = b""
        self._number = 0
        self._transport: asyncio.Transport | None = None
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- TCP by construction
        self._transport = transport
        self._upstream.transports.add(transport)
        self._upstream.connections += 1
        self._number = self._upstream.connections

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._upstream.transports.discard(self._transport)
        self._transport = None
        if self._answering is not None:
            self._answering.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._answering is None:
            self._take()

    def _take(self) -> None:
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        try:
            head = parse_request_head(self._buffer[:end])
        except BadHead as error:
            self._upstream.records.append(Record("", "", "", "", "", (f"a malformed head: {error}",)))
            self._close()
            return
        length = head.content_length or 0
        if len(self._buffer) >= end + length:
            body, self._buffer = self._buffer[end : end + length], self._buffer[end + length :]
            self._answering = asyncio.get_running_loop().create_task(self._answer(head, body))

    async def _answer(self, head: RequestHead, body: bytes) -> None:
        text, streaming = _prompt(body)
        record = self._record(head, body, text)
        self._upstream.records.append(record)
        wait = _WAIT.search(text)
        if wait is not None:
            await asyncio.sleep(int(wait[1]) / 1000)
        mark = self._upstream.marks.get(record.secret)
        if mark is None:
            self._send(401, record, b'{"type":"error","error":{"type":"authentication_error","message":"unknown"}}')
        elif self._is_to_fail(record, text):
            self._send(529, record, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}')
        elif streaming and record.path == "/v1/messages":
            await self._stream(record, mark, _LASTING in text)
        else:
            status, document = document_of(record, mark)
            self._send(status, record, json.dumps(document).encode())
        self._answering = None
        if self._transport is not None:
            self._take()

    def _send(self, status: int, record: Record, body: bytes) -> None:
        fields = [*_fields(record, b"application/json"), (b"content-length", b"%d" % len(body))]
        self._write(response_head(status, fields) + body)

    async def _stream(self, record: Record, mark: str, lasting: bool) -> None:
        fields = [*_fields(record, b"text/event-stream; charset=utf-8"), (b"transfer-encoding", b"chunked")]
        self._write(response_head(200, fields))
        for event in opening_events(record, mark):
            self._tell(event)
        left = int(_LASTING_SECONDS_MAX / _WORD_SECONDS) if lasting else 0
        while left and record.tag not in self._upstream.released:
            await asyncio.sleep(_WORD_SECONDS)
            self._tell(word_event(" on"))
            left -= 1
        for event in closing_events(record):
            self._tell(event)
        self._write(LAST_CHUNK)

    def _tell(self, event: dict[str, Any]) -> None:
        self._write(chunk(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()))

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _is_to_fail(self, record: Record, text: str) -> bool:
        wanted, failed = _FAIL.search(text), self._upstream.failed
        if wanted is None or failed[record.tag] >= int(wanted[1]):
            return False
        failed[record.tag] += 1
        return True

    def _record(self, head: RequestHead, body: bytes, text: str) -> Record:
        tag, tokens = _TAG.search(text), _TOKENS.search(text)
        secret = _presented(head)
        carried = b"\n".join([head.target, body, *(value for _, value in head.headers)])
        return Record(
            secret,
            head.method.decode(),
            head.target.partition(b"?")[0].decode("latin-1"),
            tag[1] if tag else "",
            f"req_probe{secrets.token_hex(8)}",
            tuple(_leaks(head)),
            int(tokens[1]) if tokens else 1,
            self._number,
            self._upstream.words.get(secret, ""),
            ids_of_others(carried),
        )

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _prompt(body: bytes) -> tuple[str, bool]:
    """The first message's text and whether a stream is asked for."""
    try:
        document: Any = json.loads(body) if body else {}
        return str(document["messages"][0]["content"]), document.get("stream") is True
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return "", False


def ids_of_others(carried: bytes) -> tuple[str, ...]:
    """The ids that `borrowed` has made up, in the order in which they come."""
    return tuple(found.decode() for found in _BORROWED.findall(carried))


def _presented(head: RequestHead) -> str:
    presented = head.fields.get(b"x-api-key") or head.fields.get(b"authorization", b"").removeprefix(b"Bearer ")
    return presented.decode("latin-1")


def _leaks(head: RequestHead) -> list[str]:
    """What came along and must not, in whatever spelling."""
    leaks: list[str] = []
    for name, value in head.headers:
        plain = name.replace(b"_", b"-")
        if plain in _IDENTITY or plain.startswith(_FORWARDED):
            leaks.append(name.decode())
        if b"sk-proxy-" in value or b"sk-ant-" in value:
            leaks.append(f"a gateway key in {name.decode()}")
    return leaks


def _fields(record: Record, content_type: bytes) -> list[tuple[bytes, bytes]]:
    """With everything that a gateway has to keep to itself (reference 2.2)."""
    return [
        (b"content-type", content_type),
        (b"request-id", record.request_id.encode()),
        (b"anthropic-organization-id", b"org-of-the-canary"),
        (b"anthropic-ratelimit-requests-limit", UPSTREAM_QUOTA),
        (b"anthropic-ratelimit-requests-remaining", UPSTREAM_QUOTA),
        (b"anthropic-ratelimit-requests-reset", b"2026-01-01T00:00:00Z"),
    ]
