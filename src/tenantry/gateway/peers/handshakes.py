"""TLS of who calls this gateway, or pretends to: counted from the moment that it is accepted, as clients' is.

asyncio's TLS servers tell of a connection when its handshake is over: whoever ends none would have memory and
descriptors without a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from tenantry.gateway.accepting import Acceptor
from tenantry.gateway.handshake_room import HandshakeRoom

log = logging.getLogger("tenantry.gateway")

_SECONDS_LEAST: Final = 0.001


class PeerHandshakes:
    """Accepts on `listener` until it is closed. `called` makes the protocol of a connection whose handshake is over;
    `seconds`: how long one may take."""

    def __init__(
        self, listener: socket.socket, context: ssl.SSLContext, called: Callable[[], Any], seconds: float
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._called = called
        self._seconds = max(seconds, _SECONDS_LEAST)
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = HandshakeRoom()
        self._acceptor = Acceptor(listener, self._arrive)

    def close(self) -> None:
        """Accept no more. Who is in the middle of a handshake is told: at its end it would send a request."""
        self._acceptor.close()
        for raw in self._room:
            _end(raw)

    def _arrive(self, raw: socket.socket, peer: str) -> None:
        has_room, given_up = self._room.enter(raw, peer, self._loop.time())
        if given_up is not None:
            _end(given_up)
        if not has_room:
            raw.close()
            return
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._shake_hands(raw, peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _shake_hands(self, raw: socket.socket, peer: str) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._called, raw, ssl=self._context, ssl_handshake_timeout=self._seconds
            )
        except OSError as error:  # time-outs and TLS among them
            log.debug("no TLS with %s, which calls as a gateway would: %s", peer, error)
            raw.close()
        finally:
            self._room.leave(raw)


def _end(raw: socket.socket) -> None:
    """Whoever waits for it sees its end."""
    with contextlib.suppress(OSError):  # it has gone
        raw.shutdown(socket.SHUT_RDWR)
