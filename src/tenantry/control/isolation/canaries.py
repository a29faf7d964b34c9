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
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tenantry.control.isolation.cases import MODEL
from tenantry.wire.http1 import LAST_CHUNK, BadHead, RequestHead, chunk, parse_request_head, response_head

# What no upstream may see: the client's key, its name here, and who it is on the network (reference 2.1, 2.3).
_IDENTITY = (
    *(b"x-tenant-id", b"cookie", b"proxy-authorization", b"x-forwarded-for", b"forwarded"),
    *(b"anthropic-workspace-id", b"anthropic-user-profile-id", b"anthropic-organization-id", b"anthropic_workspace_id"),
)
# An upstream's own quota, in figures that no tenant has; seen by a client, they came through the gateway.
UPSTREAM_QUOTA = b"987654321"
START_SECONDS_MAX = 5.0

_TAG = re.compile(r"tag=([0-9a-z-]+)")
_WAIT = re.compile(r"wait=([0-9]{1,5})")
_TOKENS = re.compile(r"tokens=([0-9]{1,5})")


def new_secret(who: str) -> str:
    """A canary for one probe."""
    return f"sandbox-canary-{who}-{secrets.token_hex(16)}"


@dataclass(frozen=True, slots=True)
class Record:
    """One request that reached the upstream. `leaks` names what it carried and must not; `connection` counts them."""

    secret: str = field(repr=False)
    method: str
    path: str
    tag: str
    request_id: str
    leaks: tuple[str, ...]
    output_tokens: int = 1
    connection: int = 0


class CanaryUpstream:
    """Listens on a free loopback port in a thread of its own. Knows probes by their secret."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.marks: dict[str, str] = {}
        self.transports: set[asyncio.Transport] = set()
        self.connections = 0  # so many have been made
        self.port = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="canary upstream", daemon=True)
        self._thread.start()
        if not self._ready.wait(START_SECONDS_MAX):
            raise OSError("the recording upstream did not start")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def admit(self, secret: str) -> str:
        """Know a probe's secret from now on; its mark."""
        mark = self.marks[secret] = f"mark-{secrets.token_hex(6)}"
        return mark

    def of(self, secret: str) -> list[Record]:
        return [record for record in list(self.records) if record.secret == secret]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS_MAX)

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
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
        record = _record(head, text, self._number)
        self._upstream.records.append(record)
        wait = _WAIT.search(text)
        if wait is not None:
            await asyncio.sleep(int(wait[1]) / 1000)
        mark = self._upstream.marks.get(record.secret)
        if mark is None:
            self._send(401, record, b'{"type":"error","error":{"type":"authentication_error","message":"unknown"}}')
        elif streaming and record.path == "/v1/messages":
            self._stream(record, mark)
        else:
            status, document = _document(record, mark)
            self._send(status, record, json.dumps(document).encode())
        self._answering = None
        if self._transport is not None:
            self._take()

    def _send(self, status: int, record: Record, body: bytes) -> None:
        fields = [*_fields(record, b"application/json"), (b"content-length", b"%d" % len(body))]
        self._write(response_head(status, fields) + body)

    def _stream(self, record: Record, mark: str) -> None:
        fields = [*_fields(record, b"text/event-stream; charset=utf-8"), (b"transfer-encoding", b"chunked")]
        self._write(response_head(200, fields))
        for event in _events(record, mark):
            self._write(chunk(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()))
        self._write(LAST_CHUNK)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

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


def _record(head: RequestHead, text: str, connection: int) -> Record:
    tag, tokens = _TAG.search(text), _TOKENS.search(text)
    leaks = [name.decode() for name in _IDENTITY if name in head.fields]
    leaks += [
        f"a gateway key in {name.decode()}"
        for name, value in head.headers
        if b"sk-proxy-" in value or b"sk-ant-" in value
    ]
    presented = head.fields.get(b"x-api-key") or head.fields.get(b"authorization", b"").removeprefix(b"Bearer ")
    return Record(
        presented.decode("latin-1"),
        head.method.decode(),
        head.target.partition(b"?")[0].decode("latin-1"),
        tag[1] if tag else "",
        f"req_probe{secrets.token_hex(8)}",
        tuple(leaks),
        int(tokens[1]) if tokens else 1,
        connection,
    )


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


def _document(record: Record, mark: str) -> tuple[int, dict[str, Any]]:
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


def _text(record: Record, mark: str) -> str:
    return f"{mark} tag={record.tag}"


def _message(record: Record) -> dict[str, Any]:
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


def _events(record: Record, mark: str) -> Iterator[dict[str, Any]]:
    yield {"type": "message_start", "message": {**_message(record), "content": [], "stop_reason": None}}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": _text(record, mark)}}
    yield {"type": "content_block_stop", "index": 0}
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": record.output_tokens}}
    yield {"type": "message_stop"}
