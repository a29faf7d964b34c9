"""Asking the upstream how many tokens a prompt has: free, and exact where a bound from bytes is not (reference 1.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from tenantry.gateway.upstream import ConnectFailed, Pool, UpstreamConnection

if TYPE_CHECKING:
    from tenantry.gateway.core import Gateway

# The client waits meanwhile; upstream counts in some hundred milliseconds.
COUNT_SECONDS_MAX = 10.0
ANSWER_BYTES_MAX = 64 * 1024


class _Answer(msgspec.Struct):
    input_tokens: int


_DECODER = msgspec.json.Decoder(_Answer)


class Count:
    """One question. `then` hears the tokens, or None when there was no answer; never after `stop`."""

    __slots__ = ("_body", "_connection", "_gateway", "_status", "_task", "_then", "_timer")

    def __init__(self, gateway: Gateway, then: Callable[[int | None], None]) -> None:
        self._gateway = gateway
        self._then: Callable[[int | None], None] | None = then
        self._connection: UpstreamConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._status = 0
        self._body = b""

    def ask(self, pool: Pool, head: bytes, body: bytes) -> None:
        """`head` is the upstream head of the count, but for its end; `body` what is to be counted."""
        request = head + b"content-length: %d\r\n\r\n" % len(body) + body
        self._timer = self._gateway.call_later(COUNT_SECONDS_MAX, self._time_out)
        connection = pool.take()
        if connection is not None:
            self._send(connection, request)
        else:
            self._task = asyncio.get_running_loop().create_task(self._connect(pool, request))

    async def _connect(self, pool: Pool, request: bytes) -> None:
        try:
            connection = await pool.connect()
        except ConnectFailed:
            self._tell(None)
            return
        if self._then is None:
            connection.close()
        else:
            self._send(connection, request)

    def _send(self, connection: UpstreamConnection, request: bytes) -> None:
        self._connection = connection
        connection.send(self, request, b"")

    def _time_out(self) -> None:
        then = self._then
        self.stop()
        if then is not None:
            then(None)

    def stop(self) -> None:
        """Nobody waits for the answer any more."""
        self._then = None
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None

    def _tell(self, tokens: int | None) -> None:
        then, self._then = self._then, None
        if self._timer is not None:
            self._timer.cancel()
        self._connection = None
        if then is not None:
            then(tokens)

    # What the upstream's connection tells

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status

    def on_body(self, data: bytes) -> None:
        if len(self._body) <= ANSWER_BYTES_MAX:
            self._body += data

    def on_flush(self) -> None:
        return

    def on_end(self) -> None:
        try:
            tokens = _DECODER.decode(self._body).input_tokens if self._status == 200 else None
        except msgspec.DecodeError:
            tokens = None
        self._tell(tokens if tokens is not None and tokens >= 0 else None)

    def on_broken(self, reason: str) -> None:
        self._tell(None)
