"""Accepts connections one by one, for servers that count them before asyncio would tell of them: those over TLS."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Final

from tenantry.gateway.listening import BACKLOG

log = logging.getLogger("tenantry.gateway")

# In a turn of the event loop; nginx's `multi_accept` is off, uvloop takes what is there.
ACCEPTS_AT_ONCE: Final = 64
# After an accept that failed for want of descriptors or memory, as asyncio does it.
ACCEPT_RETRY_SECONDS: Final = 1.0
_SCARCE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Accepts on `listener`, which is its own, until it is closed. `arrive` is given each connection, and from where
    it comes; the socket does not block."""

    def __init__(self, listener: socket.socket, arrive: Callable[[socket.socket, str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrive = arrive
        self._listener = listener
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self._begin()

    def _begin(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Accept no more."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                raw, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._rest(error)
                return
            raw.setblocking(False)
            self._arrive(raw, str(address[0]) if address else "")

    def _rest(self, error: OSError) -> None:
        """Others have to end first; a loop that asked again at once would do nothing else."""
        log.error("a connection could not be accepted: %s", error)
        if error.errno in _SCARCE:
            self._loop.remove_reader(self._listener)
            self._loop.call_later(ACCEPT_RETRY_SECONDS, self._begin)
