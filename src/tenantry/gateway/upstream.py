"""Connections to upstreams: one pool per upstream and credential, so tenants never share a connection.

A connection carries one response at a time. It goes back to the pool only after a complete exchange that left nothing
behind in either direction; anything else closes it.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import httptools

from tenantry.domain.directory import Upstream

# Shorter than the idle time-out of common front ends (nginx 75 s, load balancers 60 s), so that we close first.
IDLE_SECONDS_MAX = 30.0
RESPONSE_HEAD_BYTES_MAX = 64 * 1024


class ConnectFailed(Exception):
    """No connection to the upstream could be made; nothing was sent."""


class ResponseSink:
    """Who receives a response. Exactly one of `on_end` and `on_broken` comes last."""

    __slots__ = ()

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None: ...
    def on_body(self, data: bytes) -> None: ...
    def on_flush(self) -> None: ...
    def on_end(self) -> None: ...
    def on_broken(self, reason: str) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """One socket to an upstream. llhttp does the framing of responses."""

    __slots__ = (
        "__weakref__",
        "_body",
        "_complete",
        "_give_back",
        "_has_framing",
        "_head_bytes",
        "_head_done",
        "_headers",
        "_keep_alive",
        "_parser",
        "_sink",
        "_until_close",
        "idle_since",
        "transport",
    )

    def __init__(self, give_back: Callable[[UpstreamConnection, bool], None]) -> None:
        self._give_back = give_back
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0
        self._sink: ResponseSink | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._head_done = False
        self._head_bytes = 0
        self._complete = False
        self._has_framing = False
        self._until_close = False
        self._keep_alive = False

    # The exchange's side

    def send(self, sink: ResponseSink, head: bytes, body: bytes) -> None:
        """Send one request; its response goes to `sink`."""
        assert self.transport is not None  # noqa: S101 -- a pooled connection has been made
        self._sink = sink
        if not body:
            self.transport.write(head)
        elif len(body) <= 16384:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))

    def pause(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None:
            self.transport.resume_reading()

    def abandon(self) -> None:
        """Close at once; the sink hears nothing more."""
        self._sink = None
        self.close()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    @property
    def is_usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # pyright: ignore[reportAttributeAccessIssue] -- a stream transport by construction

    def data_received(self, data: bytes) -> None:
        if self._sink is None:
            self.close()  # bytes that nobody asked for: the next response could not be trusted
            return
        if not self._head_done:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._deliver_body()
            self._break("upstream_invalid_http")
            return
        if not self._head_done and self._head_bytes > RESPONSE_HEAD_BYTES_MAX:
            self._break("upstream_invalid_http")
            return
        self._deliver_body()
        if self._complete:
            self._finish()
        else:
            self._flush()

    def _deliver_body(self) -> None:
        parts, sink = self._body, self._sink
        if parts and sink is not None:
            self._body = []
            sink.on_body(parts[0] if len(parts) == 1 else b"".join(parts))

    def _flush(self) -> None:
        if self._sink is not None:  # the body just delivered may have made the exchange abandon this connection
            self._sink.on_flush()

    def _finish(self) -> None:
        sink, self._sink = self._sink, None
        transport = self.transport
        reusable = (
            self._keep_alive
            and not self._until_close
            and transport is not None
            and transport.get_write_buffer_size() == 0
        )
        self._reset()
        self._give_back(self, reusable)
        if sink is not None:
            sink.on_end()

    def _break(self, reason: str) -> None:
        sink, self._sink = self._sink, None
        self.close()
        if sink is not None:
            sink.on_broken(reason)

    def eof_received(self) -> bool:
        return False  # close our side too; connection_lost follows

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        sink, self._sink = self._sink, None
        if sink is not None:
            if self._until_close and exc is None:
                sink.on_end()
            else:
                sink.on_broken("upstream_dropped")
        self._give_back(self, False)

    # httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._has_framing = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # an interim response (RFC 9110 15.2); the real one follows
            self._headers = []
            self._has_framing = False
            return
        self._head_done = True
        self._until_close = not self._has_framing and status not in (204, 304)
        if self._sink is not None:
            self._sink.on_head(status, self._headers)

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._head_done:
            self._complete = True
            # Asked now: once the parser goes on, it has forgotten this message's head.
            self._keep_alive = self._parser.should_keep_alive()


class Pool:
    """Idle connections of one upstream and credential, newest first."""

    def __init__(self, upstream: Upstream, tls: ssl.SSLContext | None) -> None:
        parts = urlsplit(upstream.base_url)
        self._hostname = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = tls
        self._connect_seconds = upstream.connect_seconds
        self._idle: list[UpstreamConnection] = []
        self._now: Callable[[], float] = time.monotonic
        self.host = parts.netloc.rpartition("@")[2].encode()
        self.path_prefix = parts.path.rstrip("/").encode()
        self.open = 0

    def take(self) -> UpstreamConnection | None:
        """An idle connection that still looks alive, or None."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
        return None

    def connect(self, then: Callable[[UpstreamConnection | ConnectFailed], None]) -> Connecting:
        async def run() -> None:
            try:
                made = await self._connect()
            except ConnectFailed as error:
                then(error)
            else:
                then(made)

        return Connecting(asyncio.get_running_loop().create_task(run()))

    async def _connect(self) -> UpstreamConnection:
        """A new connection.

        Raises:
            ConnectFailed: refused, unreachable, too slow, or TLS could not be verified.
        """
        loop = asyncio.get_running_loop()
        self._now = loop.time  # kept: finding the loop asks the kernel for the process's id each time
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self._give_back), self._hostname, self._port, ssl=self._tls
                )
        except (OSError, TimeoutError, ssl.SSLError) as error:
            raise ConnectFailed(str(error)) from error
        self.open += 1
        return connection

    def _give_back(self, connection: UpstreamConnection, reusable: bool) -> None:
        if reusable and connection.is_usable:
            connection.idle_since = self._now()
            self._idle.append(connection)
            return
        if connection.transport is None:
            self.open -= 1
            if connection in self._idle:
                self._idle.remove(connection)
        else:
            connection.close()

    def close_idle(self, older_than: float) -> None:
        """Close connections idle since before `older_than` (loop time, seconds)."""
        kept: list[UpstreamConnection] = []
        for connection in self._idle:
            if connection.idle_since < older_than:
                connection.close()
            else:
                kept.append(connection)
        self._idle = kept


class Pools:
    """All pools of a gateway, by upstream and credential."""

    def __init__(self) -> None:
        self._pools: dict[tuple[str, str | None, float, str], Pool] = {}
        self._contexts: dict[str | None, ssl.SSLContext] = {}

    def of(self, upstream: Upstream, credential_id: str) -> Pool:
        key = (upstream.base_url, upstream.ca_file, upstream.connect_seconds, credential_id)
        pool = self._pools.get(key)
        if pool is None:
            tls = self._context(upstream.ca_file) if upstream.base_url.startswith("https:") else None
            pool = self._pools[key] = Pool(upstream, tls)
        return pool

    def _context(self, ca_file: str | None) -> ssl.SSLContext:
        context = self._contexts.get(ca_file)
        if context is None:
            context = self._contexts[ca_file] = ssl.create_default_context(cafile=ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def sweep(self, now: float) -> None:
        for pool in self._pools.values():
            pool.close_idle(now - IDLE_SECONDS_MAX)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close_idle(float("inf"))


class Connecting:
    """A connection that is being made."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def cancel(self) -> None:
        self._task.cancel()
