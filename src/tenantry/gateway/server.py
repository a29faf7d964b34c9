"""The client's side: sockets in, requests out, one at a time per connection, every one with a deadline.

DESIGN 4.1: heads in 10 s, bodies at 1 KiB/s or better, idle connections for 75 s. Pipelined requests wait their turn.
"""

from __future__ import annotations

import asyncio
import enum
import gc
import logging
import socket
from collections.abc import Callable

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, AttemptProgress
from tenantry.domain.directory import Snapshot
from tenantry.domain.errors import (
    ApiError,
    ExpectationFailed,
    HeadTooLarge,
    InvalidRequest,
    RequestTimedOut,
    RequestTooLarge,
)
from tenantry.domain.prices import PriceTable
from tenantry.domain.sessions import Sessions
from tenantry.gateway.calls import Call
from tenantry.gateway.exchange import Exchange, new_request_id
from tenantry.gateway.upstream import Pools
from tenantry.ledger.journal import JournalUnavailable, JournalWriter
from tenantry.settings import GatewaySettings
from tenantry.wire.chunked import BadChunk, ChunkedDecoder
from tenantry.wire.http1 import CONTINUE, HEAD_BYTES_MAX, BadHead, RequestHead, parse_request_head, response_head

log = logging.getLogger("tenantry.gateway")

HEAD_SECONDS_MAX = 10.0
BODY_SECONDS_MAX = 60.0
BODY_BYTES_PER_SECOND_MIN = 1024
IDLE_SECONDS_MAX = 75.0
# RFC 9112 9.6: read on for a while after a refusal, or the client may lose the answer to a reset.
LINGER_SECONDS_MAX = 2.0
# What may wait in the gateway for a client that reads slowly, and for a client that sends ahead.
WRITE_BUFFER_BYTES_MAX = 64 * 1024
PIPELINE_BYTES_MAX = 64 * 1024
SWEEP_SECONDS = 0.25


class Gateway:
    """What all connections share. The composition in `gateway/run.py` fills it."""

    def __init__(
        self,
        settings: GatewaySettings,
        snapshot: Snapshot,
        pepper: bytes,
        prices: PriceTable,
        journal: JournalWriter,
        now: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.snapshot = snapshot
        self.pepper = pepper
        self.prices = prices
        self.now = now
        self.version_default = settings.anthropic_version.encode()
        self.sessions = Sessions()
        self.pools = Pools()
        self.exchanges: set[Exchange] = set()
        self.connections: set[ClientConnection] = set()
        self.peers: dict[str, int] = {}
        self.stopping = False
        self.journal_is_dirty = False
        self.journal_works = True
        self._begun: list[Callable[[bool], None]] = []
        self._flush_planned = False
        self._journal = journal
        self._last_collect = now()
        self._all_closed: asyncio.Future[None] | None = None

    # The journal: the events of one turn of the loop are written together, behind the callbacks that made them

    def journal_begin(self, event: AttemptBegun, then: Callable[[bool], None]) -> None:
        """`then` is told whether the event is on the file; only then may the attempt be sent."""
        self._journal.begin(event)
        self._begun.append(then)
        self._plan_flush()

    def journal_progress(self, event: AttemptProgress) -> None:
        self._journal.progress(event)
        self._plan_flush()

    def journal_end(self, event: AttemptEnded) -> None:
        self._journal.end(event)
        self._plan_flush()

    def _plan_flush(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self.flush_journal)

    def flush_journal(self) -> None:
        """Write what waits. What cannot be written now is tried again with the next flush."""
        self._flush_planned = False
        if not self._journal.has_lines:
            return
        begun, self._begun = self._begun, []
        try:
            self._journal.flush()
        except JournalUnavailable as error:
            written = False
            if self.journal_works:
                log.error("%s; requests are refused until it can", error)
        else:
            written = self.journal_is_dirty = True
            if not self.journal_works:
                log.warning("the journal can be written again")
        self.journal_works = written
        for then in begun:
            then(written)

    # Housekeeping

    def sweep(self) -> None:
        """End what is overdue. Called every `SWEEP_SECONDS`."""
        now = self.now()
        for exchange in [exchange for exchange in self.exchanges if exchange.deadline < now]:
            exchange.overdue()
        for connection in [connection for connection in self.connections if connection.deadline < now]:
            connection.overdue()
        self.pools.sweep(now)
        # Everything live at start is frozen and the collector is off under traffic: a full collection stops the world.
        if not self.exchanges and now - self._last_collect > 30.0:
            self._last_collect = now
            gc.collect()

    def exchange_closed(self) -> None:
        if self._all_closed is not None and not self.exchanges and not self._all_closed.done():
            self._all_closed.set_result(None)

    async def drain(self, seconds: float) -> None:
        """Refuse new work, let what runs end within `seconds`, then end it with an `error` event."""
        self.stopping = True
        for connection in list(self.connections):
            connection.stop_when_idle()
        if self.exchanges:
            self._all_closed = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_closed], timeout=seconds)
            for exchange in list(self.exchanges):
                exchange.interrupt("overloaded_error", "The gateway is restarting. Try again.")
            await asyncio.sleep(0.05)  # one turn of the loop for the last bytes to leave
        for connection in list(self.connections):
            connection.abort()
        self.pools.close()


class _State(enum.Enum):
    HEAD = "head"
    BODY = "body"
    ANSWERING = "answering"
    LINGERING = "lingering"
    CLOSED = "closed"


class ClientConnection(asyncio.Protocol):
    """One socket from a client."""

    __slots__ = (
        "__weakref__",
        "_body",
        "_body_bytes",
        "_body_since",
        "_buffer",
        "_call",
        "_chunks",
        "_eof",
        "_exchange",
        "_gateway",
        "_head",
        "_left",
        "_peer",
        "_state",
        "_transport",
        "deadline",
        "is_paused",
        "keeps_alive",
    )

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._state = _State.HEAD
        self._buffer: bytes = b""
        self._head: RequestHead | None = None
        self._call: Call | None = None
        self._exchange: Exchange | None = None
        self._chunks: ChunkedDecoder | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._body_since = 0.0
        self._left = 0
        self._eof = False
        self.keeps_alive = True
        self.is_paused = False
        self.deadline = float("inf")

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")  # noqa: S101 -- uvloop's own class
        self._transport = transport  # pyright: ignore[reportAttributeAccessIssue] -- a stream transport by construction
        gateway, settings = self._gateway, self._gateway.settings
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if peer else ""
        raw: socket.socket | None = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        from_peer = gateway.peers[self._peer] = gateway.peers.get(self._peer, 0) + 1
        gateway.connections.add(self)
        if len(gateway.connections) > settings.connections_max or from_peer > settings.connections_per_peer_max:
            self.abort()
            return
        self._set_write_limits()
        self.deadline = gateway.now() + HEAD_SECONDS_MAX

    def _set_write_limits(self) -> None:
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state is _State.HEAD:
            if not self._buffer:
                self.deadline = self._gateway.now() + HEAD_SECONDS_MAX
            self._buffer = self._buffer + data if self._buffer else data
            self._read_head()
        elif state is _State.BODY:
            self._read_body(data)
        elif state is _State.ANSWERING:
            self._buffer += data
            if len(self._buffer) > PIPELINE_BYTES_MAX and self._transport is not None:
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        """A client may close its sending side and still wait for its answer (RFC 9112 9.6)."""
        self._eof = True
        self.keeps_alive = False
        return self._state is _State.ANSWERING

    def connection_lost(self, exc: Exception | None) -> None:
        gateway = self._gateway
        self._state = _State.CLOSED
        self._transport = None
        gateway.connections.discard(self)
        left = gateway.peers.get(self._peer, 1) - 1
        if left > 0:
            gateway.peers[self._peer] = left
        else:
            gateway.peers.pop(self._peer, None)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()
        self._body.clear()

    def pause_writing(self) -> None:
        self.is_paused = True
        if self._exchange is not None:
            self._exchange.client_paused()

    def resume_writing(self) -> None:
        self.is_paused = False
        if self._exchange is not None:
            self._exchange.client_resumed()

    # Reading a request

    def _read_head(self) -> None:
        buffer = self._buffer
        # RFC 9112 2.2: an empty line before a request line is to be ignored.
        if buffer.startswith(b"\r\n") and len(buffer) > 2:
            buffer = self._buffer = buffer[2:]
        call = self._call
        known = call.known.again(buffer) if call is not None else None
        if known is not None:
            self._head, end = known
            self._buffer = buffer[end:]
        else:
            call = self._call = None
            end = buffer.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX) + 4
            if end < 4:
                self._wait_for_head(buffer)
                return
            self._buffer = buffer[end:]
            try:
                self._head = parse_request_head(buffer[:end])
            except BadHead as error:
                self.refuse(InvalidRequest(f"Malformed request: {error}."))
                return
        self.keeps_alive = self._head.keep_alive and not self._gateway.stopping and not self._eof
        try:
            if call is None:
                call = self._call = Call(buffer[:end], self._head)
            self._open(call, self._head)
        except ApiError as error:
            self._refuse_with_body_unread(error)

    def _wait_for_head(self, buffer: bytes) -> None:
        if len(buffer) >= HEAD_BYTES_MAX:
            self.refuse(HeadTooLarge())
        elif buffer.count(b"\n") != buffer.count(b"\r\n"):
            self.refuse(InvalidRequest("Lines of a request must end with CR LF."))

    def _open(self, call: Call, head: RequestHead) -> None:
        exchange = self._exchange = Exchange(self._gateway, self, call)
        exchange.open()
        size_max = call.target.route.body_bytes_max
        if head.content_length is not None and head.content_length > size_max:
            raise _too_large(size_max)
        expect = head.fields.get(b"expect")
        if expect is not None:
            if expect.lower() != b"100-continue":
                raise ExpectationFailed
            if not self._buffer and (head.chunked or head.content_length):
                self.write(CONTINUE)
        self._begin_body(head)

    def _begin_body(self, head: RequestHead) -> None:
        buffer = self._buffer
        length = head.content_length
        if length is not None and len(buffer) >= length:
            self._buffer = buffer[length:]
            self._request_complete(buffer[:length])
            return
        self._state = _State.BODY
        self._body_since = self._gateway.now()
        self._body_bytes = 0
        self._left = length or 0
        self._chunks = ChunkedDecoder() if head.chunked else None
        self._buffer = b""
        self._read_body(buffer)

    def _read_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        self.deadline = self._body_since + BODY_SECONDS_MAX + self._body_bytes / BODY_BYTES_PER_SECOND_MIN
        if self._chunks is not None:
            self._read_chunks(self._chunks, data)
        elif len(data) < self._left:
            self._left -= len(data)
            self._body.append(data)
        else:
            self._body.append(data[: self._left])
            self._buffer = data[self._left :]
            self._request_complete(b"".join(self._body))

    def _read_chunks(self, chunks: ChunkedDecoder, data: bytes) -> None:
        size_max = self._call.target.route.body_bytes_max if self._call is not None else 0
        try:
            piece = chunks.feed(data)
        except BadChunk as error:
            self._refuse_with_body_unread(InvalidRequest(f"Malformed request body: {error}."))
            return
        self._body.append(piece)
        self._left += len(piece)
        if self._left > size_max:
            self._refuse_with_body_unread(_too_large(size_max))
        elif chunks.complete:
            self._buffer = chunks.rest
            self._request_complete(b"".join(self._body))

    def _request_complete(self, body: bytes) -> None:
        self._state = _State.ANSWERING
        self.deadline = float("inf")  # the exchange has its own from here
        self._body = []
        self._chunks = None
        exchange = self._exchange
        if exchange is None:
            return
        try:
            exchange.begin(body)
        except ApiError as error:
            self.refuse(error, exchange.request_id)

    # Answering

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def answer(
        self, status: int, headers: list[tuple[bytes, bytes]], body: bytes, request_id: str, head_only: bool = False
    ) -> None:
        """A whole answer made here."""
        fields = [
            *headers,
            (b"request-id", request_id.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"keep-alive" if self.keeps_alive else b"close"),
        ]
        self.write(response_head(status, fields) + (b"" if head_only else body))
        self.answered()

    def refuse(self, error: ApiError, request_id: str | None = None) -> None:
        """Answer with an error in the API's shape. Before a request was understood, the connection closes with it."""
        if self._state is _State.HEAD:
            self.keeps_alive = False
        exchange, self._exchange = self._exchange, None
        request_id = request_id or (exchange.request_id if exchange is not None else new_request_id())
        is_head = self._head is not None and self._head.method == b"HEAD"
        headers = [(b"content-type", b"application/json"), *error.headers()]
        self.answer(error.status, headers, error.body(request_id), request_id, is_head)

    def _refuse_with_body_unread(self, error: ApiError) -> None:
        head = self._head
        if head is not None and head.content_length is not None and self._state is _State.HEAD:
            unread = head.content_length - len(self._buffer)
            if unread <= 0:  # the body has come already: step over it and keep the connection
                self._buffer = self._buffer[head.content_length :]
                self._state = _State.ANSWERING
                self.refuse(error)
                return
        self.keeps_alive = False
        self.refuse(error)

    def close_after_answer(self) -> None:
        self.keeps_alive = False

    def answered(self) -> None:
        """The answer is complete; the next request may come."""
        self._exchange = None
        self._head = None
        if self._transport is None:
            return
        if not self.keeps_alive or self._gateway.stopping:
            self._linger()
            return
        self._state = _State.HEAD
        if self._buffer:
            self.deadline = self._gateway.now() + HEAD_SECONDS_MAX
            # Not from within the answer before: a long pipeline must not become a deep stack.
            asyncio.get_running_loop().call_soon(self._next_pipelined)
        else:
            self.deadline = self._gateway.now() + IDLE_SECONDS_MAX
        self._transport.resume_reading()

    def _next_pipelined(self) -> None:
        if self._state is _State.HEAD and self._buffer:
            self._read_head()

    def _linger(self) -> None:
        """Close our side; read and forget what still comes, so that the answer is not lost to a reset."""
        transport = self._transport
        self._state = _State.LINGERING
        self._buffer = b""
        self._body = []
        if transport is None:
            return
        self.deadline = self._gateway.now() + LINGER_SECONDS_MAX
        if self._eof or not transport.can_write_eof():
            transport.close()
        else:
            transport.write_eof()
            transport.resume_reading()

    # Ending

    def stop_when_idle(self) -> None:
        self.keeps_alive = False
        if self._state is _State.HEAD and not self._buffer and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def abort_after_flush(self) -> None:
        """Close without the end that HTTP asks for: that is how a client learns that a body is not whole."""
        self._exchange = None
        self._state = _State.LINGERING
        self.deadline = self._gateway.now() + LINGER_SECONDS_MAX
        if self._transport is not None:
            self._transport.close()

    def overdue(self) -> None:
        """The deadline of the current state has passed."""
        if self._state is _State.BODY or (self._state is _State.HEAD and self._buffer):
            self.keeps_alive = False
            self.refuse(RequestTimedOut("The request did not arrive in time."))
        else:
            self.abort()


def _too_large(size_max: int) -> ApiError:
    if size_max == 0:
        return InvalidRequest("This endpoint takes no request body.")
    return RequestTooLarge()
