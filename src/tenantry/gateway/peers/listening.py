"""Where a gateway is called by the others: an address of its own, on which nothing is said before both have proofs."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

from tenantry.gateway.listening import BACKLOG, bind
from tenantry.gateway.parts import Parts
from tenantry.gateway.peers.calling import Peers, keep_probing
from tenantry.gateway.peers.certificate import serving_context
from tenantry.gateway.peers.client import PeerConnection
from tenantry.gateway.peers.handshakes import PeerHandshakes
from tenantry.gateway.peers.places import Place
from tenantry.gateway.peers.proofs import (
    CALL_BYTES,
    MAGIC,
    MOVES,
    NONCE_BYTES,
    is_proof,
    new_nonce,
    proof_of_called,
    proof_of_caller,
    whom,
)
from tenantry.gateway.peers.talking import Talk

# A gateway proves what it is in a turn of its loop; nobody else has a reason to stay.
PROOF_SECONDS_MAX: Final = 5.0
# Connections that have proved nothing yet: gateways make some at once, and each takes 3 KiB. The oldest gives way to a
# new one, or whoever says nothing on so many would keep all gateways out.
STRANGERS_MAX: Final = 256
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_ANY: Final = ("0.0.0.0", "::")  # noqa: S104 -- compared with, not bound


class Called:
    """A connection that another gateway, or somebody else, has made, until it has proved what it is.

    An `asyncio.Protocol` by its methods. `accept` is called with the connection, and with what has come behind the
    proof; `accept_moves` where the proof says that it is to be about cells that move. `me`: as `proofs.whom` tells it.
    """

    __slots__ = (
        "_accept",
        "_accept_moves",
        "_heard",
        "_key",
        "_me",
        "_nonce",
        "_strangers",
        "_timer",
        "_transport",
    )

    def __init__(
        self,
        key: bytes,
        me: str,
        accept: Callable[[asyncio.Transport, bytes], None],
        strangers: dict[Called, None],
        accept_moves: Callable[[asyncio.Transport, bytes], None] | None = None,
    ) -> None:
        self._key = key
        self._me = me
        self._accept = accept
        self._accept_moves = accept_moves
        self._nonce = new_nonce()
        self._heard = b""
        self._strangers = strangers
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = self._transport = cast(asyncio.Transport, transport)  # a stream transport by construction
        if len(self._strangers) >= STRANGERS_MAX:
            next(iter(self._strangers)).give_way()
        keep_probing(transport)
        self._strangers[self] = None
        self._timer = asyncio.get_running_loop().call_later(PROOF_SECONDS_MAX, made.abort)
        made.write(MAGIC + self._nonce)

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._heard += data
        if len(self._heard) < CALL_BYTES:
            return
        its_nonce, proof = self._heard[:NONCE_BYTES], self._heard[NONCE_BYTES:CALL_BYTES]
        accept = self._accept
        if not is_proof(proof, proof_of_caller(self._key, self._me, self._nonce, its_nonce)):
            about_moves = proof_of_caller(self._key, self._me, self._nonce, its_nonce, MOVES)
            if self._accept_moves is None or not is_proof(proof, about_moves):
                transport.abort()
                return
            accept = self._accept_moves
        self._leave()
        transport.write(proof_of_called(self._key, self._me, self._nonce, its_nonce))
        accept(transport, self._heard[CALL_BYTES:])

    def give_way(self) -> None:
        """It has proved nothing, and there is no room for more of its kind, or for nobody any more."""
        if self._transport is not None:
            self._transport.abort()
        self._leave()

    def _leave(self) -> None:
        self._strangers.pop(self, None)
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def pause_writing(self) -> None:
        """What is said here fits into any buffer."""

    def resume_writing(self) -> None:
        pass


class PeerServer:
    """Accepts other gateways until it is closed. `address` is where they reach this one."""

    def __init__(self, server: asyncio.Server | PeerHandshakes, place: Place, strangers: dict[Called, None]) -> None:
        self._server = server
        self._strangers = strangers
        self.address = place.text()

    def close(self) -> None:
        """Accept no more; who is connected stays. Who has not proved anything yet has sent no request, and is told."""
        self._server.close()
        for one in list(self._strangers):
            one.give_way()


async def serve_peers(
    parts: Parts, peers: Peers, gateway_id: str, host: str, port: int, hear: Callable[[Talk], None]
) -> PeerServer:
    """Listen on `host`, and on `port` or the one behind it, so that a gateway and its successor find a place; 0: any.

    Plain on loopback, where nobody listens in; elsewhere over TLS, under a certificate that is this process's own.
    `hear` is given what others say of cells that move.

    Raises: OSError: neither can be listened on.
    """
    context: ssl.SSLContext | None = None
    mark = peers.machine
    if host not in _LOOPBACK:
        context, mark = serving_context()
    strangers: dict[Called, None] = {}

    def accept(transport: asyncio.Transport, unread: bytes) -> None:
        connection = PeerConnection(parts, unread)
        transport.set_protocol(cast(Any, connection))  # by its methods
        connection.connection_made(transport)

    def accept_moves(transport: asyncio.Transport, unread: bytes) -> None:
        talk = Talk(transport)
        hear(talk)
        talk.begin(unread)

    raw = _bound(host, port)
    place = Place(socket.gethostname() if host in _ANY else host, raw.getsockname()[1], context is not None, mark)
    me = whom(gateway_id, place.text())

    def called() -> Any:
        return Called(peers.key, me, accept, strangers, accept_moves)

    if context is not None:
        # Who does not come to an end with TLS proves nothing either.
        return PeerServer(PeerHandshakes(raw, context, called, PROOF_SECONDS_MAX), place, strangers)
    server = await asyncio.get_running_loop().create_server(called, sock=raw, backlog=BACKLOG)
    return PeerServer(server, place, strangers)


def _bound(host: str, port: int) -> socket.socket:
    try:
        return bind(host, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not port:
            raise
        return bind(host, port + 1)
