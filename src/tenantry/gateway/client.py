"""The client's side: sockets in, requests out, one at a time per connection, every one with a deadline.

DESIGN 4.1: heads in 10 s, bodies at 1 KiB/s or better, idle connections for 75 s. Pipelined requests wait their turn.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, cast

from tenantry.domain.errors import (
    ApiError,
    ExpectationFailed,
    HeadTooLarge,
    InvalidRequest,
    RequestTimedOut,
    TooManyConnections,
)
from tenantry.domain.owners import MINE, At
from tenantry.gateway.answer import Client
from tenantry.gateway.authentication import Principal
from tenantry.gateway.bodies import BESIDE_BYTES_MIN
from tenantry.gateway.caller import Caller
from tenantry.gateway.early import refusal_on_head
from tenantry.gateway.exchange import CLIENT_STALL_SECONDS_MAX, Exchange
from tenantry.gateway.foresight import NOTHING_KNOWN, Foresight
from tenantry.gateway.hop import Hop
from tenantry.gateway.incoming import BODY_SECONDS_MAX, IncomingBody, too_large
from tenantry.gateway.parts import Parts
from tenantry.gateway.population import Connected, Served
from tenantry.gateway.request import new_request_id
from tenantry.wire.http1 import CONTINUE, HEAD_BYTES_MAX, BadHead, RequestHead, parse_request_head, response_head
from tenantry.wire.routes import Kind

log = logging.getLogger("tenantry.gateway")

HEAD_SECONDS_MAX = 10.0
IDLE_SECONDS_MAX = 75.0
# RFC 9112 9.6: read on for a while after a refusal, or the client may lose the answer to a reset.
LINGER_SECONDS_MAX = 2.0
# An exchange has a deadline for each of its states; a connection that owes an answer looks whether there is one.
OWED_SECONDS_MAX = 30.0
# What may wait in the gateway for a client that reads slowly, and for a client that sends ahead.
WRITE_BUFFER_BYTES_MAX = 64 * 1024
PIPELINE_BYTES_MAX = 64 * 1024


# What a connection is about. Numbers: a member of an enumeration takes CPython 3.11 longer to look up than a call.
_HEAD: Final = 0
_PART: Final = 1  # of a head has come
_BODY: Final = 2
_ANSWERING: Final = 3
_LINGERING: Final = 4
_CLOSED: Final = 5
_PASSING: Final = 6  # to another gateway


def may_stay(parts: Parts, connection: Connected, peer: str) -> bool:
    """Count a client's connection; False where these are too many, of all or of its address."""
    population, settings = parts.population, parts.settings
    from_peer = population.arrive(connection, peer)
    return len(population.connections) <= settings.connections_max and from_peer <= settings.connections_per_peer_max


class ClientConnection(Client):
    """One socket from a client: an `asyncio.Protocol` by its methods, for no compiled class may inherit from one."""

    __slots__ = (
        "_body",
        "_buffer",
        "_caller",
        "_eof",
        "_exchange",
        "_head",
        "_is_next_planned",
        "_is_reading",
        "_length",
        "_parts",
        "_stalls",
        "_state",
        "_tenant_id",
        "_unsent",
    )

    def __init__(self, parts: Parts, peer: str = "", unread: bytes = b"", *, is_last: bool = False) -> None:
        """`peer` and `unread`: of a connection that another gateway had; `is_last`: it ends with the next answer."""
        Client.__init__(self)
        self.peer = peer
        self._parts = parts
        self._state = _HEAD
        self._buffer: bytes = unread
        self._head: RequestHead | None = None
        self._caller: Caller | None = None
        self._exchange: Served | None = None
        self._body: IncomingBody | None = None
        self._length: int | None = None  # of the request's body, where its head tells it
        self._eof = is_last  # of what the client sends
        self._is_next_planned = False  # the next request of a pipeline
        self._is_reading = True  # from the socket
        self._unsent = 0  # bytes that a lingering client had not taken when it was last looked at
        self._tenant_id = ""  # who uses the connection
        self._stalls = 0  # how often in a row it had taken none since

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # a stream transport by construction
        population = self._parts.population
        peer = transport.get_extra_info("peername")
        self.peer = self.peer or (peer[0] if peer else "")
        if not may_stay(self._parts, self, self.peer):
            self.abort()
            return
        self._set_write_limits()
        self._expect(HEAD_SECONDS_MAX)
        if population.heir is not None:
            self.pass_on()
        elif self._buffer:
            self._plan_next()

    def _expect(self, seconds: float) -> None:
        parts = self._parts
        parts.deadlines.set(self, parts.clock.now() + seconds)

    def _set_write_limits(self) -> None:
        if self.transport is not None:
            self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state <= _PART:
            if self._buffer:
                data = self._buffer + data
            if self.is_paused or self._is_next_planned:
                self._buffer = data
                self._bound_buffer()  # its turn comes when the client has taken the answers before
            else:
                self._read_head(data)
        elif state == _BODY:
            if self._body is not None:
                self._read_body(self._body, data)
        elif state == _ANSWERING:
            self._buffer += data
            self._bound_buffer()

    def _bound_buffer(self) -> None:
        if len(self._buffer) > PIPELINE_BYTES_MAX and self.transport is not None:
            self._is_reading = False
            self.transport.pause_reading()

    def _read_on(self) -> None:
        if not self._is_reading and self.transport is not None:
            self._is_reading = True
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        """A client may close its sending side and still wait for its answer (RFC 9112 9.6).

        Unless nothing has been sent for it yet: a client that gives up closes in the same way, and is not to be billed.
        """
        self._eof = True
        self.keeps_alive = False
        exchange = self._exchange
        return self._state == _ANSWERING and (exchange is None or exchange.client_ended())

    def connection_lost(self, exc: Exception | None) -> None:
        population = self._parts.population
        self._state = _CLOSED
        self.transport = None
        population.depart(self, self.peer)
        self._parts.deadlines.forget(self)
        self.let_go()
        if self._tenant_id:
            population.part(self._tenant_id)
            self._tenant_id = ""
        self._drop_body()
        self._buffer = b""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()

    def pause_writing(self) -> None:
        self.is_paused = True
        if self._exchange is not None:
            self._exchange.client_paused()

    def resume_writing(self) -> None:
        self.is_paused = False
        if self._exchange is not None:
            self._exchange.client_resumed()
        elif self._state == _HEAD and self._buffer:
            self._plan_next()

    # Reading a request

    def _read_head(self, buffer: bytes) -> None:
        """`buffer` is all that has come and was not read."""
        caller = self._caller
        end = caller.known.again(buffer) if caller is not None else 0
        if caller is not None and end:
            head, length = caller.head, caller.known.length
            self._head, self._length = head, length
            if caller.is_plain and length is not None and len(buffer) == end + length and length < BESIDE_BYTES_MIN:
                # Nearly every request: a head that was seen before, with its whole body and nothing else behind it.
                self._buffer = b""
                self.keeps_alive = head.keep_alive and not self._parts.population.is_stopping and not self._eof
                self._take(caller, buffer[end:])
                return
            self._buffer = buffer[end:]
        else:
            caller = self._caller = None
            # RFC 9112 2.2: empty lines before a request line are to be ignored.
            if buffer.startswith(b"\r\n"):
                buffer = _behind_empty_lines(buffer)
            end = buffer.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX) + 4
            if end < 4:
                self._buffer = buffer
                self._wait_for_head(buffer)
                return
            self._buffer = buffer[end:]
            try:
                head = self._head = parse_request_head(buffer[:end])
            except BadHead as error:
                self.refuse(InvalidRequest(f"Malformed request: {error}."), new_request_id())
                return
            self._length = head.content_length
        self.keeps_alive = head.keep_alive and not self._parts.population.is_stopping and not self._eof
        try:
            if caller is None:
                caller = self._caller = Caller(buffer[:end], head)
            self._open(caller, head)
        except ApiError as refusal:
            self._refuse_with_body_unread(refusal)

    def _wait_for_head(self, buffer: bytes) -> None:
        if len(buffer) >= HEAD_BYTES_MAX:
            self.refuse(HeadTooLarge(), new_request_id())
        elif buffer.count(b"\n") != buffer.count(b"\r\n"):
            self.refuse(InvalidRequest("Lines of a request must end with CR LF."), new_request_id())
        elif self._state != _PART:
            self._state = _PART
            self._expect(HEAD_SECONDS_MAX)

    def _open(self, caller: Caller, head: RequestHead) -> None:
        """Decide on the head alone, before any of the body is read. Raises: ApiError."""
        route = caller.target.route
        if not route.open_to_all:
            self._belong_to(caller.principal(self._parts).tenant.tenant_id)
        size_max, length = route.body_bytes_max, self._length
        if length is not None:
            if length > size_max:
                raise too_large(size_max)
            if length >= BESIDE_BYTES_MIN and self._look_ahead(caller, length):
                return
        elif head.chunked and self._look_ahead(caller, 0):
            return
        self._ask_for_body(head)

    def _ask_for_body(self, head: RequestHead) -> None:
        """Nothing is wrong with the head. Raises: ApiError."""
        length = self._length
        if length is not None and len(self._buffer) < length:
            self._make_room(length)
        expect = head.fields.get(b"expect")
        if expect is not None:
            if expect.lower() != b"100-continue":
                raise ExpectationFailed
            if not self._buffer and (head.chunked or length):
                self.write(CONTINUE)
        self._begin_body(head)

    def _belong_to(self, tenant_id: str) -> None:
        """Count the connection as one of the tenant whose request it carries. Raises: ApiError."""
        if tenant_id == self._tenant_id:
            return
        population = self._parts.population
        if self._tenant_id:
            population.part(self._tenant_id)
        self._tenant_id = tenant_id
        if population.join(tenant_id) > self._parts.settings.connections_per_tenant_max:
            self.keeps_alive = False
            refusal = TooManyConnections()
            refusal.tenant_id = tenant_id
            raise refusal

    def _look_ahead(self, caller: Caller, size: int) -> bool:
        """What no body could change is told before a large one has come. True: another gateway is asked first, and
        `want_body` or `turn_away` follows. Raises: ApiError."""
        if caller.target.route.open_to_all:
            return False
        parts = self._parts
        principal, cells = caller.principal(parts), parts.cells
        if cells is None or cells.owner_of(principal.tenant.tenant_id) is MINE:
            self._look_here(caller, principal, size)
            return False
        if not self.may_pass:
            return False
        asked = Foresight(parts, cells, self, caller, principal, size)
        self._exchange, self._state = asked, _ANSWERING
        asked.ask()
        return True

    def _look_here(self, caller: Caller, principal: Principal, size: int) -> None:
        """Raises: ApiError."""
        refusal = refusal_on_head(self._parts, principal, caller, size)
        if refusal is not None:
            refusal.tenant_id = principal.tenant.tenant_id
            raise refusal

    def want_body(self) -> None:
        caller, head = self._caller, self._head
        self._exchange, self._state = None, _HEAD
        if caller is None or head is None:
            return
        try:
            cells, principal = self._parts.cells, caller.principal(self._parts)
            if cells is not None and cells.owner_of(principal.tenant.tenant_id) is MINE:
                self._look_here(caller, principal, self._length or 0)  # it is granted for here by now
            self._ask_for_body(head)
        except ApiError as refusal:
            self._refuse_with_body_unread(refusal)
            return
        self._read_on()

    def turn_away(self, answer: bytes) -> None:
        self._exchange, self.keeps_alive = None, False
        self.write(answer)
        self.answered()

    def _tell_ahead(self, caller: Caller, size: int) -> None:
        """Answer a question about a body that has not come. Raises: ApiError: it would be refused."""
        principal, cells = caller.principal(self._parts), self._parts.cells
        if cells is None or cells.owner_of(principal.tenant.tenant_id) is MINE:
            self._look_here(caller, principal, size)
        self._state = _ANSWERING
        self._answer(NOTHING_KNOWN, [], b"", new_request_id())

    def _begin_body(self, head: RequestHead) -> None:
        buffer, length = self._buffer, self._length
        if length is not None and len(buffer) >= length:
            self._buffer = buffer[length:]
            self._request_complete(buffer[:length])
            return
        self._state = _BODY
        self._expect(BODY_SECONDS_MAX)
        body = self._body = IncomingBody(None if head.chunked else length or 0, self._body_bytes_max)
        self._buffer = b""
        self._read_body(body, buffer)

    def _read_body(self, body: IncomingBody, data: bytes) -> None:
        if body.ends_span(len(data)):
            self._expect(BODY_SECONDS_MAX)
        try:
            more = body.uncounted(len(data))
            if more:
                self._make_room(more)
            whole = body.feed(data)
        except ApiError as refusal:
            self._refuse_with_body_unread(refusal)
            return
        if whole is not None:
            self._buffer = body.rest
            self._request_complete(whole)

    @property
    def _body_bytes_max(self) -> int:
        return self._caller.target.route.body_bytes_max if self._caller is not None else 0

    def _make_room(self, size: int) -> None:
        """Count so many bytes before they are read, until their turn has come. Raises: ApiError."""
        refusal = self._parts.population.make_room(self._tenant_id, size)
        if refusal is not None:
            refusal.tenant_id = self._tenant_id or None
            raise refusal
        self.held_bytes += size

    def let_go(self) -> None:
        if self.held_bytes:
            self._parts.population.let_go(self._tenant_id, self.held_bytes)
            self.held_bytes = 0

    def _drop_body(self) -> None:
        if self._body is not None:
            self._body.drop()
            self._body = None

    def _request_complete(self, body: bytes) -> None:
        self._body = None
        caller, head = self._caller, self._head
        if caller is None or head is None:
            return
        route = caller.target.route
        if route.open_to_all:
            self._state = _ANSWERING
            self._answer_open(route.kind, head)
        elif self._parts.population.heir is not None:
            self.pass_on(body)
        else:
            self._take(caller, body)

    def _take(self, caller: Caller, body: bytes) -> None:
        """The request is whole."""
        self._state, parts = _ANSWERING, self._parts
        try:
            principal = caller.principal(parts)
        except ApiError as error:
            self.refuse(error, new_request_id())
            return
        if parts.cells is not None and self.may_pass:
            owner = parts.cells.owner_of(principal.tenant.tenant_id)
            if isinstance(owner, At):
                self.pass_to(owner, body)
                return
        exchange = Exchange(parts, self, caller, principal, body)
        self._exchange = exchange
        now = parts.clock.now()
        # The wheel comes by before this is due; should the request ever be lost inside, its client is not left.
        self.deadline = now + OWED_SECONDS_MAX
        exchange.start(now)

    def pass_to(self, owner: At, body: bytes) -> None:
        parts, caller = self._parts, self._caller
        if caller is None or parts.cells is None:
            return
        try:
            principal = caller.principal(parts)
        except ApiError as error:
            self.refuse(error, new_request_id())
            return
        hop = Hop(parts, parts.cells, self, caller, principal, body)
        self._exchange = hop
        hop.go(owner)

    def take_back(self, body: bytes) -> None:
        self._exchange = None
        if self._caller is not None:
            self._take(self._caller, body)

    def _answer_open(self, kind: Kind, head: RequestHead) -> None:
        body = b"" if kind is Kind.HELLO or head.method == b"HEAD" else b'{"status":"ok"}'
        self._answer(200, [(b"content-type", b"application/json")], body, new_request_id())

    # Answering

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def _answer(
        self, status: int, headers: list[tuple[bytes, bytes]], body: bytes, request_id: str, lines: bytes = b""
    ) -> None:
        """A whole answer made here; `lines` are whole header lines."""
        fields = [
            *headers,
            (b"request-id", request_id.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"keep-alive" if self.keeps_alive else b"close"),
        ]
        is_head = self._head is not None and self._head.method == b"HEAD"
        self.write(response_head(status, fields, lines) + (b"" if is_head else body))
        self.answered()

    def refuse(self, error: ApiError, request_id: str, lines: bytes = b"") -> None:
        """Answer with an error in the API's shape. Before a request was understood, the connection closes with it."""
        if self._state in (_HEAD, _PART):
            self.keeps_alive = False
        self._count(error, request_id)
        headers = [(b"content-type", b"application/json"), *error.headers()]
        self._answer(error.status, headers, error.body(request_id), request_id, lines)

    def _count(self, error: ApiError, request_id: str) -> None:
        exchange, tallies = self._exchange, self._parts.tallies
        tenant_id, key_id, model = error.tenant_id, "", ""
        if exchange is not None:
            tenant_id, key_id = exchange.principal.tenant.tenant_id, exchange.principal.key.key_id
            model = exchange.model
        if error.reason and tenant_id is not None:
            tallies.refused(tenant_id, error.reason)
        tallies.turned_away(tenant_id or "", key_id, request_id, error.status, error.error_type, error.reason, model)

    def _refuse_with_body_unread(self, error: ApiError) -> None:
        length = self._length
        if self._head is not None and length is not None and self._state in (_HEAD, _PART):
            unread = length - len(self._buffer)
            if unread <= 0:  # the body has come already: step over it and keep the connection
                self._buffer = self._buffer[length:]
                self._state = _ANSWERING
                self.refuse(error, new_request_id())
                return
        self.keeps_alive = False
        self.refuse(error, new_request_id())

    def answered(self) -> None:
        self._exchange = None
        self._head = None
        self.let_go()
        if self.transport is None:
            return
        if not self.keeps_alive or self._parts.population.is_stopping:
            if self.keeps_alive and self._parts.population.heir is not None:
                self.pass_on()
            else:
                self._linger()
            return
        self._state = _HEAD
        if self._buffer:
            if self.is_paused:
                self._expect(CLIENT_STALL_SECONDS_MAX)
            else:
                self._expect(HEAD_SECONDS_MAX)
                self._plan_next()
        else:
            self._expect(IDLE_SECONDS_MAX)
            self._read_on()

    def _plan_next(self) -> None:
        """Not from within the answer before: a long pipeline must not become a deep stack."""
        if not self._is_next_planned:
            self._is_next_planned = True
            self._parts.clock.call_soon(self._next_pipelined)

    def _next_pipelined(self) -> None:
        self._is_next_planned = False
        if self._state != _HEAD or not self._buffer or self.is_paused:
            return
        self._read_head(self._buffer)
        if len(self._buffer) <= PIPELINE_BYTES_MAX:
            self._read_on()

    def _linger(self) -> None:
        """Close our side; read and forget what still comes, so that the answer is not lost to a reset."""
        transport = self.transport
        self._state = _LINGERING
        self.let_go()
        self._buffer = b""
        self._drop_body()
        if transport is None:
            return
        self._expect(LINGER_SECONDS_MAX)
        if self._eof or not transport.can_write_eof():
            transport.close()
        else:
            transport.write_eof()
            self._read_on()

    # Going on elsewhere

    def pass_when_idle(self) -> None:
        if self._state in (_HEAD, _PART) and self.transport is not None:  # else when its handshake is over
            self.pass_on()

    def pass_on(self, body: bytes | None = None) -> None:
        transport, heir, caller, head = self.transport, self._parts.population.heir, self._caller, self._head
        unread, self._buffer = self._buffer, b""
        if body is not None and caller is not None and head is not None:
            framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if head.chunked and body else body
            unread = caller.known.written(len(body)) + (framed or b"0\r\n\r\n" * head.chunked) + unread
        self._exchange = self._head = None
        self._state = _PASSING
        self.let_go()
        self._drop_body()
        if transport is not None and heir is not None:
            self._expect(CLIENT_STALL_SECONDS_MAX)
            heir.take(self, transport, self.peer, unread)

    def forget(self) -> None:
        self.connection_lost(None)

    # Ending

    def stop_when_idle(self) -> None:
        self.keeps_alive = False
        if self._state == _HEAD and not self._buffer:
            self._end_idle()

    def _end_idle(self) -> None:
        if self.transport is not None:
            self.transport.close()

    @property
    def has_unsent(self) -> bool:
        return self.transport is not None and self.transport.get_write_buffer_size() > 0

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def drop(self) -> None:
        self._exchange = None
        self.abort()

    def cut(self) -> None:
        self._exchange = None
        self._state = _LINGERING
        self._expect(LINGER_SECONDS_MAX)
        if self.transport is not None:
            self.transport.close()

    def overdue(self) -> None:
        """The deadline of the current state has passed."""
        if self._state in (_BODY, _PART):
            self.keeps_alive = False
            self.refuse(RequestTimedOut("The request did not arrive in time."), new_request_id())
        elif self._state == _ANSWERING:
            self._look_after(self._exchange)
        elif self._state == _LINGERING and self._is_still_taking():
            self._expect(LINGER_SECONDS_MAX)
        else:
            self.abort()

    def _is_still_taking(self) -> bool:
        """Whether a client that is to be closed has bytes to take, and has taken some within the time of a stall."""
        unsent = self.transport.get_write_buffer_size() if self.transport is not None else 0
        self._stalls = self._stalls + 1 if unsent == self._unsent else 0
        self._unsent = unsent
        return unsent > 0 and self._stalls * LINGER_SECONDS_MAX < CLIENT_STALL_SECONDS_MAX

    def _look_after(self, exchange: Served | None) -> None:
        """An answer is owed, and its time is up: the exchange ends, or sets itself another time."""
        now = self._parts.clock.now()
        if exchange is not None and now < exchange.deadline < float("inf"):
            self._parts.deadlines.set(self, exchange.deadline)
            return
        if exchange is not None:
            exchange.overdue()
        if (
            self._exchange is exchange
            and self._state == _ANSWERING
            and (exchange is None or not now < exchange.deadline < float("inf"))
        ):
            log.error("a connection owed an answer for too long and is closed")
            self.abort()


def _behind_empty_lines(buffer: bytes) -> bytes:
    """What stands behind the empty lines; the last one where nothing does."""
    at = 0
    while buffer.startswith(b"\r\n", at) and len(buffer) > at + 2:
        at += 2
    return buffer[at:]
