"""Connections of the control address, bounded as the gateway's are.

Uvicorn waits for the head of a request for ever, and keeps it however long it gets: whoever reaches the address, with
no token and no session, would have the memory and the descriptors of this process.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# As the gateway has it (DESIGN 4.1).
HEAD_SECONDS_MAX: Final = 10.0
# Browsers and proxies send some KiB; the gateway takes as many.
HEAD_BYTES_MAX: Final = 64 * 1024
# Far more than the pages and programs of an agency hold open, and within the 1,024 descriptors of a bare machine.
CONNECTIONS_MAX: Final = 512


class BoundedProtocol(HttpToolsProtocol):
    """Ends a connection whose head does not come, or does not end, and one that is too many."""

    # Of the head that is under way; None: it is there.
    _head_bytes: int | None = 0
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- as uvicorn has it
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._end()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._await_head()

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        self._stop_waiting()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Uvicorn ends what is idle then; whoever sends an empty line is not idle to it."""
        super().on_response_complete()
        if self.cycle.response_complete and self._waiting is None:
            self._await_head()

    def _await_head(self) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(HEAD_SECONDS_MAX, self._end)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _end(self) -> None:
        self._stop_waiting()
        transport = cast("asyncio.Transport | None", self.transport)
        if transport is not None:
            transport.abort()
