"""A request that another gateway of the site grants for: passed to that one as it came, and its answer passed back.

Nothing is granted, counted, held or journalled here: the owner does all of that, and its refusals are passed back as
its other answers are. What this gateway adds of its own is what the client is told when the owner is lost.

As long as nothing has been sent, or the owner says that it is not one, the store is asked anew and the request goes to
who is: a cell that moves, or whose owner dies, refuses nobody for that.
"""

from __future__ import annotations

import logging
from typing import Final

from tenantry.domain.errors import AnotherGateway, ApiError, NotReady, StoreAway, UpstreamBroken
from tenantry.domain.owners import ASK_SECONDS, MINE, WAIT_SECONDS_MAX, At, Cells
from tenantry.gateway.answer import Client
from tenantry.gateway.at_peer import AtPeer
from tenantry.gateway.authentication import Principal
from tenantry.gateway.caller import Caller
from tenantry.gateway.deadlines import NEVER
from tenantry.gateway.headers import PEER_REFUSED_LINE
from tenantry.gateway.parts import Parts
from tenantry.gateway.peers.calling import CONNECT_SECONDS_MAX
from tenantry.gateway.relay import error_event, is_event_stream
from tenantry.gateway.upstream import STALE, ResponseHead, UpstreamConnection
from tenantry.gateway.upstream.parsed import BODILESS
from tenantry.wire.http1 import LAST_CHUNK, chunk

log = logging.getLogger("tenantry.gateway")

# The owner has its own, shorter times for all that it waits for (`exchange.py`: an hour for an answer that is not
# streamed, 330 s without a byte). These end what an owner has forgotten that was stopped or cut off.
HEAD_SECONDS_MAX: Final = 4000.0
IDLE_SECONDS_MAX: Final = 360.0
# As long as clients of this gateway's own may take no byte (`exchange.py`).
STALL_SECONDS_MAX: Final = 60.0
LOST: Final = "The gateway that serves this account broke off before it answered. Try again."

# What it waits for: the store, a connection, the head of the answer, its end.
_ASKING: Final = 0
_CONNECTING: Final = 1
_SENT: Final = 2
_RELAYING: Final = 3
_ENDED: Final = 4
_EVENT_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\n\n\r\n")  # the last one with the end of its chunk
_LAST_EVENTS: Final = (b"event: message_stop", b"event: error")


class Hop(AtPeer):
    """One request, for one client: an `Exchange` that decides nothing."""

    __slots__ = (
        "_asks_until",
        "_body",
        "_has_ended",
        "_is_chunked",
        "_is_flowing",
        "_is_stream",
        "_last",
        "_owner",
        "_state",
    )

    def __init__(
        self, parts: Parts, cells: Cells, client: Client, caller: Caller, principal: Principal, body: bytes
    ) -> None:
        AtPeer.__init__(self, parts, cells, client, caller, principal)
        self._body = body
        self._state = _ASKING
        self._owner: At | None = None
        self._has_ended = False  # the client sends no more
        self._is_chunked = False  # as the client is given the answer
        self._is_stream = False
        self._is_flowing = False  # bytes have come since the deadline was set
        self._last: bytes = b""  # of the answer
        self._asks_until = NEVER  # for how long it may wait for the store, once it does

    # There

    def go(self, owner: At) -> None:
        """Pass it to who is known to grant."""
        self._owner = owner
        self._parts.population.served.add(self)
        if not self._reach(owner):
            self._refuse(AnotherGateway())

    def on_connecting(self) -> None:
        self._state = _CONNECTING
        self._expect(CONNECT_SECONDS_MAX + CONNECT_SECONDS_MAX)

    def on_unreached(self, reason: str) -> None:
        self._note(reason)
        self._ask_again()

    def on_reached(self) -> None:
        self._note("")

    def _note(self, reason: str) -> None:
        """Why the owner could not be reached; "": it was."""
        owner, peers = self._owner, self._parts.peers
        if owner is None or peers is None or not peers.is_news(owner.gateway_id, reason):
            return
        if reason:
            log.warning("gateway %s cannot be reached: %s", owner.gateway_id, reason)
        else:
            log.warning("gateway %s is reached again", owner.gateway_id)

    def on_connected(self, connection: UpstreamConnection) -> None:
        client = self._client
        if client is None:
            return
        self._state = _SENT
        self._expect(HEAD_SECONDS_MAX)
        self._send(connection, self._caller.head_for_peer(client.peer, len(self._body)), self._body)
        if self._has_ended:
            connection.end_sending()

    def _ask_again(self) -> None:
        """Nothing of it is with anybody: whose it is, the store says."""
        tenant_id, now = self.principal.tenant.tenant_id, self._parts.clock.now()
        self._answer = self._connection = None
        self._state = _ASKING
        if self._parts.population.heir is not None:
            self.pass_on()  # who has taken this gateway's place asks, for all that come from now on
            return
        self._cells.is_doubtful(tenant_id)
        if self._asks_until == NEVER:
            self._asks_until = now + WAIT_SECONDS_MAX
        elif now >= self._asks_until:
            self._refuse(AnotherGateway())
            return
        self._expect(self._asks_until - now)
        self._stop_waiting = self._parts.clock.call_later(ASK_SECONDS, self._ask_store).cancel

    def on_told(self) -> None:
        owner = self._cells.owner_of(self.principal.tenant.tenant_id)
        if isinstance(owner, At):
            self.go(owner)
        elif owner is MINE:
            client, body = self._client, self._body
            self._leave()
            if client is not None:
                client.take_back(body)
        elif self._cells.has_lease:
            self._ask_again()
        else:
            self._refuse(StoreAway())

    # And back

    def on_head(self, head: ResponseHead) -> None:
        client, owner = self._client, self._owner
        if client is None or owner is None:
            return
        if head.has_line(PEER_REFUSED_LINE.rstrip()):
            if self._connection is not None:
                self._connection.abandon()
            self._ask_again()
            return
        if head.status < 500:
            self._cells.is_at(self.principal.tenant.tenant_id, owner.gateway_id, owner.address)  # it has just said so
        self._state, self._body = _RELAYING, b""
        client.let_go()
        self._is_stream = is_event_stream(head.content_type)
        has_body = head.length is None and head.status not in BODILESS
        self._is_chunked = has_body and not self._caller.head.http_1_0
        if has_body and not self._is_chunked:
            client.keeps_alive = False
        if client.is_paused:
            self.client_paused()  # it has not taken what it was given before
        else:
            self._expect(IDLE_SECONDS_MAX)
        client.write(head.passed_on(client.keeps_alive, is_chunked=self._is_chunked))

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        self._connection = None
        self.on_head(head)
        if self._state == _RELAYING:
            if body and self._client is not None:
                self._client.write(body)
            self.on_end()

    def on_chunk(self, data: bytes) -> bool:
        client = self._client
        if client is None or not self._is_chunked:
            return False
        self._is_flowing, self._last = True, data
        client.write(data)
        return True

    def on_body(self, data: bytes) -> None:
        self._is_flowing, self._last = True, data
        if self._client is not None:
            self._client.write(chunk(data) if self._is_chunked else data)

    def on_end(self) -> None:
        client, is_chunked = self._client, self._is_chunked
        self._connection = None
        self._leave()
        if client is not None:
            if is_chunked:
                client.write(LAST_CHUNK)
            client.answered()

    def on_broken(self, reason: str) -> None:
        """The owner is lost, or this connection to it."""
        self._connection = None
        if self._state == _RELAYING:
            self._interrupt(UpstreamBroken("The gateway that serves this account broke off. Try again."))
        elif reason == STALE and not self._has_ended:
            self._answer = None
            if self._owner is not None:
                self.go(self._owner)  # it had been closed: of this request nothing was read
        else:
            self._refuse(AnotherGateway(LOST))

    def _interrupt(self, error: ApiError) -> None:
        """End an answer that has begun, so that the client can tell."""
        client, last = self._client, self._last
        is_paused = client is not None and client.is_paused
        self._leave()
        if client is None:
            return
        if is_paused:
            client.drop()  # the owner saw that it took no bytes
        elif self._is_stream and self._is_chunked and (not last or last.endswith(_EVENT_ENDS)):
            if not any(name in last for name in _LAST_EVENTS):
                event = error_event(error.error_type, error.message)
                client.write(chunk(event))
            client.write(LAST_CHUNK)
            client.answered()
        else:
            client.cut()

    # The client, the clock, the operator

    def client_ended(self) -> bool:
        self._has_ended = True
        connection = self._connection
        if self._state == _RELAYING:
            return True
        # The owner knows whether the client is to be waited for.
        return self._state == _SENT and connection is not None and connection.end_sending()

    def client_paused(self) -> None:
        if self._state == _RELAYING:
            if self._connection is not None:
                self._connection.pause()
            self._expect(STALL_SECONDS_MAX)

    def client_resumed(self) -> None:
        if self._state == _RELAYING:
            if self._connection is not None:
                self._connection.resume()
            self._expect(IDLE_SECONDS_MAX)

    def overdue(self) -> None:
        client = self._client
        if self._state == _RELAYING:
            if client is not None and client.is_paused:
                self._leave()
                client.drop()
            elif self._is_flowing:
                self._is_flowing = False
                self._expect(IDLE_SECONDS_MAX)
            else:
                self._interrupt(UpstreamBroken("The gateway that serves this account was silent for too long."))
        elif self._state == _CONNECTING:
            self._cease()
            self._ask_again()
        else:
            self._refuse(AnotherGateway() if self._state == _SENT or self._cells.has_lease else StoreAway())

    def pass_on(self) -> None:
        """What has not been sent yet begins anew at the gateway that takes this one's place."""
        client, body = self._client, self._body
        if self._state <= _CONNECTING:
            self._leave()
            if client is not None:
                client.pass_on(body)

    def move_on(self) -> None:
        """It is with another gateway already."""

    def stop(self) -> None:
        if self._state <= _CONNECTING:
            self._refuse(NotReady())

    def cut(self, reason: str, error: ApiError) -> None:
        if self._state == _RELAYING:
            self._interrupt(error)
        else:
            self._refuse(error)

    # The end

    def _leave(self) -> None:
        self._state = _ENDED
        self._body = b""
        AtPeer._leave(self)
