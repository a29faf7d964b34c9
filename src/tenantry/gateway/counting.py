"""Asking the upstream how many tokens a prompt has: free, and exact where a bound from bytes is not (reference 1.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from tenantry.gateway.upstream import ConnectFailed, Connecting, Pool, ResponseHead, ResponseSink, UpstreamConnection
from tenantry.wire.shapes import Counted

ANSWER_BYTES_MAX: Final = 64 * 1024


_DECODER: Final = msgspec.json.Decoder(Counted)


class Count(ResponseSink):
    """One question. `then` hears the tokens, or None when there was no answer; never after `stop`."""

    __slots__ = ("_body", "_connecting", "_connection", "_request", "_status", "_then")

    def __init__(self, then: Callable[[int | None], None]) -> None:
        self._then: Callable[[int | None], None] | None = then
        self._connection: UpstreamConnection | None = None
        self._connecting: Connecting | None = None
        self._request = b""
        self._status = 0
        self._body = b""

    def ask(self, pool: Pool, head: bytes, asked: bytes) -> None:
        """`head` is the upstream head of the count, but for its end; `asked` its body."""
        self._request = head + b"content-length: %d\r\n\r\n" % len(asked) + asked
        connection = pool.take()
        if connection is not None:
            self._send(connection)
        else:
            self._connecting = pool.connect(self._on_connected)

    def _on_connected(self, made: UpstreamConnection | ConnectFailed) -> None:
        self._connecting = None
        if isinstance(made, ConnectFailed):
            self._tell(None)
        else:
            self._send(made)

    def _send(self, connection: UpstreamConnection) -> None:
        request, self._request = self._request, b""
        self._connection = connection
        connection.send(self, request, b"")

    def stop(self) -> None:
        """Nobody waits for the answer any more."""
        self._then = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None

    def _tell(self, tokens: int | None) -> None:
        then, self._then = self._then, None
        self._connection = None
        if then is not None:
            then(tokens)

    # What the upstream's connection tells

    def on_head(self, head: ResponseHead) -> None:
        self._status = head.status

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        self._connection = None
        super().on_whole(head, body)

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
