"""The gateway's own TLS: connections are counted from the moment they are accepted, and have a deadline from then on.

asyncio's TLS servers tell of a connection when its handshake is over; until then nobody would count it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Final, cast

from tenantry.domain.errors import InvalidRequest
from tenantry.gateway.accepting import Acceptor
from tenantry.gateway.certificates import Certificates
from tenantry.gateway.client import HEAD_SECONDS_MAX, LINGER_SECONDS_MAX, ClientConnection, may_stay
from tenantry.gateway.handshake_room import HandshakeRoom
from tenantry.gateway.parts import Parts
from tenantry.gateway.request import new_request_id
from tenantry.wire.http1 import response_head

log = logging.getLogger("tenantry.gateway")

# From accept to the end of the handshake: as long as a head may take.
HANDSHAKE_SECONDS_MAX: Final = HEAD_SECONDS_MAX
# RFC 8446 5.1: how a client's first record begins.
_HANDSHAKE_RECORD: Final = b"\x16"
_PLAIN_BYTES_MAX: Final = 64 * 1024


class TlsServer:
    """Accepts on a copy of `listener` until it is closed."""

    def __init__(self, parts: Parts, listener: socket.socket, certificates: Certificates) -> None:
        self._parts = parts
        self._certificates = certificates
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = HandshakeRoom()
        self._acceptor = Acceptor(listener.dup(), self._arrive)

    def close(self) -> None:
        """Accept no more. Who is in the middle of a handshake comes to its end."""
        self._acceptor.close()

    def _arrive(self, raw: socket.socket, peer: str) -> None:
        connection = ClientConnection(self._parts, peer)
        if not may_stay(self._parts, connection, peer):
            self._parts.population.depart(connection, peer)
            raw.close()
            return
        with contextlib.suppress(OSError):  # no TCP
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._serve(raw, connection, peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, raw: socket.socket, connection: ClientConnection, peer: str) -> None:
        until = self._loop.time() + HANDSHAKE_SECONDS_MAX
        try:
            first = await self._first_byte(raw, until)
            if first == _HANDSHAKE_RECORD and self._has_room(raw, peer):
                try:
                    await self._shake_hands(raw, connection, until)
                finally:
                    self._room.leave(raw)
                return
            if first.isalpha():
                await self._answer_plainly(raw)
            raw.close()
        except (OSError, TimeoutError) as error:
            log.debug("no TLS with %s: %s", peer, error)
            raw.close()
        self._parts.population.depart(connection, peer)

    def _has_room(self, raw: socket.socket, peer: str) -> bool:
        """An old handshake may have to end for this one. False: it has no room, and is closed without an answer."""
        has_room, given_up = self._room.enter(raw, peer, self._loop.time())
        if given_up is not None:
            with contextlib.suppress(OSError):  # its client has gone
                given_up.shutdown(socket.SHUT_RDWR)  # whoever waits for it sees its end
        return has_room

    async def _shake_hands(self, raw: socket.socket, connection: ClientConnection, until: float) -> None:
        """The connection counts itself from the end of the handshake on. Raises: OSError, TimeoutError."""
        await self._loop.connect_accepted_socket(
            lambda: cast(asyncio.BaseProtocol, connection),  # by its methods
            raw,
            ssl=self._certificates.context,
            ssl_handshake_timeout=max(until - self._loop.time(), 0.001),
        )

    async def _first_byte(self, raw: socket.socket, until: float) -> bytes:
        """It stays where it is. Raises: OSError, TimeoutError."""
        readable: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(raw, _set, readable)
        try:
            async with asyncio.timeout_at(until):
                await readable
        finally:
            self._loop.remove_reader(raw)
        return raw.recv(1, socket.MSG_PEEK)

    async def _answer_plainly(self, raw: socket.socket) -> None:
        """HTTP without TLS: say so, and read on for a while, or the client may lose the answer to a reset.

        Raises: OSError, TimeoutError.
        """
        error, request_id = InvalidRequest("This address speaks HTTPS: use https:// in the URL."), new_request_id()
        body = error.body(request_id)
        fields = [
            (b"content-type", b"application/json"),
            (b"request-id", request_id.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        async with asyncio.timeout(LINGER_SECONDS_MAX):
            await self._loop.sock_recv(raw, _PLAIN_BYTES_MAX)
            await self._loop.sock_sendall(raw, response_head(error.status, fields) + body)
            raw.shutdown(socket.SHUT_WR)
            while await self._loop.sock_recv(raw, _PLAIN_BYTES_MAX):
                pass


def _set(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)
