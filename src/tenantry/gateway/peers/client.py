"""Requests that another gateway has passed on: its connection, which carries those of many clients.

It has proved what it is before this begins (`peers/listening.py`), so what it says of a client is believed: of no other
connection is that read. What is granted, counted, held and journalled for a request happens here as for any other.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from tenantry.domain.errors import AnotherGateway, ApiError, InvalidRequest
from tenantry.domain.numerals import small_number
from tenantry.gateway.caller import Caller
from tenantry.gateway.client import HEAD_SECONDS_MAX, ClientConnection
from tenantry.gateway.headers import PEER_AHEAD, PEER_CLIENT, PEER_REFUSED_LINE
from tenantry.gateway.parts import Parts
from tenantry.gateway.request import new_request_id
from tenantry.wire.http1 import RequestHead

# Who has connected, where clients are counted by their addresses: those are counted where they came from.
_GATEWAYS: Final = "\0gateways"
_ELSEWHERE: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\n" + PEER_REFUSED_LINE + b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class PeerConnection(ClientConnection):
    """`peer` is the address of the client whose request it carries at the moment."""

    __slots__ = ()

    def __init__(self, parts: Parts, unread: bytes = b"") -> None:
        ClientConnection.__init__(self, parts, _GATEWAYS, unread)
        self.may_pass = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # a stream transport by construction
        self._parts.population.arrive(self, _GATEWAYS)
        self._set_write_limits()
        self._expect(HEAD_SECONDS_MAX)
        if self._buffer:
            self._plan_next()

    def connection_lost(self, exc: Exception | None) -> None:
        self.let_go()
        self._tenant_id = ""
        self.peer = _GATEWAYS
        ClientConnection.connection_lost(self, exc)

    def _open(self, caller: Caller, head: RequestHead) -> None:
        peer = head.fields.get(PEER_CLIENT)
        if peer is None:
            raise InvalidRequest("A gateway has to say whose request it passes on.")
        self.peer = peer.decode("ascii", "replace")
        ahead = head.fields.get(PEER_AHEAD)
        if ahead is None:
            ClientConnection._open(self, caller, head)
        else:
            self._tell_ahead(caller, small_number(ahead) or 0)

    def _belong_to(self, tenant_id: str) -> None:
        """Connections of clients are counted where they came to."""
        self._tenant_id = tenant_id

    def refuse(self, error: ApiError, request_id: str, lines: bytes = b"") -> None:
        """Where another one grants, the gateway that asked is told so, and asks that one: nothing has been sent."""
        if isinstance(error, AnotherGateway):
            lines += PEER_REFUSED_LINE
        ClientConnection.refuse(self, error, request_id, lines)

    # Going on elsewhere: what takes this gateway's place has an address of its own

    def pass_when_idle(self) -> None:
        self.stop_when_idle()

    def _end_idle(self) -> None:
        self._linger()

    def _linger(self) -> None:
        """Unasked, where it was not announced: what the other gateway sends in this moment is answered by it. Of a
        connection that only ends nobody could say whether a request had been read (RFC 9112 9.3.1).
        """
        self.write(_ELSEWHERE)
        ClientConnection._linger(self)

    def pass_on(self, body: bytes | None = None) -> None:
        if body is None:
            self.keeps_alive = False
            self._linger()
        else:
            self.keeps_alive = False
            self.refuse(AnotherGateway(), new_request_id())
