"""A client's TLS connection whose requests another gateway answers: its bytes go through a pipe, both ways.

TLS cannot be handed over. The other gateway closes its end with the next answer, and so the connection ends.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

# What may wait for a side that reads slowly.
WRITE_BUFFER_BYTES_MAX = 64 * 1024
# RFC 9112 9.6, as for every connection that ends: a client that does not close its side either is not waited for.
LINGER_SECONDS_MAX = 2.0


class _Side(asyncio.Protocol):
    """One end: what comes in is written to the other; what the other cannot take yet is not read."""

    def __init__(self, transport: asyncio.Transport | None, done: asyncio.Future[None]) -> None:
        self._transport = transport
        self._done = done
        self.other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.write(data)

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        other = self.other
        if other is not None and other._transport is not None:
            other._transport.pause_reading()

    def resume_writing(self) -> None:
        other = self.other
        if other is not None and other._transport is not None and not other._transport.is_closing():
            other._transport.resume_reading()

    def eof_received(self) -> bool:
        return False  # both are closed: neither a client of ours nor a gateway closes one side alone and reads on

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        other, self.other = self.other, None
        if other is not None and other._transport is not None:
            other._transport.close()  # when it has taken what was written
            asyncio.get_running_loop().call_later(LINGER_SECONDS_MAX, other.abort)
        if not self._done.done() and (other is None or other._transport is None):
            self._done.set_result(None)


async def bridge(client: asyncio.Transport, pipe: socket.socket) -> None:
    """Carry bytes between a client and a pipe until one of them ends. The client's transport is not reading."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    of_client, of_pipe = _Side(client, done), _Side(None, done)
    of_client.other, of_pipe.other = of_pipe, of_client
    client.set_protocol(of_client)
    await loop.connect_accepted_socket(lambda: of_pipe, pipe)
    if client.is_closing():
        of_client.connection_lost(None)
    else:
        client.resume_reading()
    await done
