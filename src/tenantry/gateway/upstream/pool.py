"""Connections to upstreams: one pool per upstream, credential and tenant, so tenants never share a connection.

Also where they share a credential: what an upstream says out of turn must not reach another tenant, and bytes that came
while nobody looked cannot be told from the answer to the next request. What is idle is counted over all pools: one
limit, one order of expiry, the least recently used first.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, cast
from urllib.parse import urlsplit

from tenantry.domain.directory import Upstream
from tenantry.domain.subclassing import mypyc_attr
from tenantry.domain.values import value
from tenantry.gateway.upstream.connection import ConnectionOwner, UpstreamConnection

# Shorter than the idle time-out of common front ends (nginx 75 s, load balancers 60 s), so that we close first.
IDLE_SECONDS_MAX: Final = 30.0
# An upstream that closes idle connections after some time is not given one that has been idle for half of that: the
# request could cross the closing on the wire. What was learned is forgotten when it has not been seen for so long.
IDLE_SHARE: Final = 0.5
RELEARN_SECONDS: Final = 60.0
# Over all pools, where no setting says otherwise.
IDLE_CONNECTIONS_MAX: Final = 1000
# How many of the longest known pools are looked at for each new one: two, so that those forgotten catch up.
LOOKED_AT: Final = 2


@value
class ConnectFailed:
    """No connection to the upstream could be made; nothing was sent. `reason` is for the log."""

    reason: str


Key = tuple[str, str | None, float, str, str]


@mypyc_attr(allow_interpreted_subclasses=True)
class Connecting:
    """A connection on its way. Its receiver is told exactly once, unless it cancels."""

    __slots__ = ("_pool", "_task", "_then")

    def __init__(self, pool: Pool, then: Callable[[UpstreamConnection | ConnectFailed], None]) -> None:
        self._pool = pool
        self._then: Callable[[UpstreamConnection | ConnectFailed], None] | None = then
        self._task: asyncio.Task[None] | None = asyncio.get_running_loop().create_task(self._connect())

    def cancel(self) -> None:
        """Nobody wants it any more; the receiver hears nothing."""
        task, self._task, self._then = self._task, None, None
        if task is not None:
            task.cancel()

    async def _connect(self) -> None:
        found = await self._pool.open_connection()
        # The task is let go here and in `cancel`: its error's frame would keep what holds it.
        self._task = None
        then, self._then = self._then, None
        if then is not None:
            then(found)
        elif isinstance(found, UpstreamConnection):
            found.close()


@mypyc_attr(allow_interpreted_subclasses=True)
class Pool(ConnectionOwner):
    """Idle connections of one tenant to one upstream under one credential, newest first."""

    __slots__ = (
        "_ca_file",
        "_connect_seconds",
        "_hostname",
        "_idle",
        "_idle_seconds",
        "_is_tls",
        "_learned_at",
        "_making",
        "_open",
        "_pools",
        "_port",
        "host",
        "key",
        "path_prefix",
    )

    def __init__(self, pools: Pools, key: Key, upstream: Upstream) -> None:
        parts = urlsplit(upstream.base_url)
        self._pools = pools
        self._hostname = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._is_tls = parts.scheme == "https"
        self._ca_file = upstream.ca_file
        self._connect_seconds = upstream.connect_seconds
        self._idle: dict[UpstreamConnection, None] = {}  # in the order of `idle_since`
        self._open: set[UpstreamConnection] = set()
        self._making = 0
        self._idle_seconds = IDLE_SECONDS_MAX
        self._learned_at = 0.0
        self.key = key
        self.host = parts.netloc.rpartition("@")[2].encode()
        self.path_prefix = parts.path.rstrip("/").encode()

    @property
    def is_empty(self) -> bool:
        """Whether it has no connection and makes none."""
        return not self._open and not self._making

    def take(self) -> UpstreamConnection | None:
        """An idle connection that still looks alive, and that the upstream is not about to close; or None."""
        while self._idle:
            connection, _ = self._idle.popitem()
            self._pools.remove_idle(connection)
            if connection.is_usable and not self._is_about_to_close(connection):
                return connection
            connection.close()
        return None

    def _is_about_to_close(self, connection: UpstreamConnection) -> bool:
        """Whether it has been idle for nearly as long as the upstream was seen to let connections idle."""
        limit = self._idle_seconds
        if limit == IDLE_SECONDS_MAX:
            return False
        now = self._pools.now()
        if now - self._learned_at > RELEARN_SECONDS:
            self._idle_seconds = IDLE_SECONDS_MAX  # an upstream that was restarted closed what was young, too
            return False
        return now - connection.idle_since >= limit

    def connect(self, then: Callable[[UpstreamConnection | ConnectFailed], None]) -> Connecting:
        """Make a new connection and hand it to `then`, never before this returns.

        `ConnectFailed`: refused, unreachable, too slow, or TLS could not be verified.
        """
        return Connecting(self, then)

    async def open_connection(self) -> UpstreamConnection | ConnectFailed:
        """The work of `connect`."""
        loop = asyncio.get_running_loop()
        self.begin_making()
        try:
            tls = self._pools.context(self._ca_file) if self._is_tls else None
            async with asyncio.timeout(self._connect_seconds):
                _, protocol = await loop.create_connection(self._new, self._hostname, self._port, ssl=tls)
            made = cast(UpstreamConnection, protocol)
            if made.transport is None:  # closed between the handshake and this turn of the loop
                return ConnectFailed("closed as soon as it was made")
            self._open.add(made)
            return made
        except (OSError, ValueError) as error:  # time-outs and TLS among the first, a name that is none the second
            return ConnectFailed(str(error))
        finally:
            self.end_making()

    def begin_making(self) -> None:
        """A connection is being made: the pool is known, whatever becomes of it."""
        self._pools.remember(self)
        self._making += 1

    def end_making(self) -> None:
        self._making -= 1
        if self.is_empty:
            self._pools.forget(self)

    def adopt(self, transport: asyncio.Transport | None, *, is_tls: bool) -> UpstreamConnection | ConnectFailed:
        """Take a connection that was made by another protocol, which has nothing more to say on it."""
        if transport is None or transport.is_closing():
            return ConnectFailed("closed as soon as it was made")
        made = UpstreamConnection(self, is_tls)
        transport.set_protocol(cast(Any, made))  # by its methods
        made.connection_made(transport)
        self._open.add(made)
        return made

    def _new(self) -> Any:
        """A protocol as the loop takes it: by its methods."""
        return UpstreamConnection(self, self._is_tls)

    def on_idle(self, connection: UpstreamConnection) -> None:
        self._idle[connection] = None
        self._pools.add_idle(connection, self)

    def on_lost(self, connection: UpstreamConnection) -> None:
        if connection in self._idle or connection.was_closed_as_reused:
            self._learn_idle(connection)
        self.discard(connection)
        self._pools.remove_idle(connection)
        self._open.discard(connection)
        if self.is_empty:
            self._pools.forget(self)

    def _learn_idle(self, connection: UpstreamConnection) -> None:
        """The upstream closed it while it was idle: others are not to be used when they have been idle for so long."""
        now = self._pools.now()
        seen = max(0.0, now - connection.idle_since) * IDLE_SHARE
        if seen < self._idle_seconds or now - self._learned_at > RELEARN_SECONDS:
            self._idle_seconds = min(IDLE_SECONDS_MAX, seen)
        self._learned_at = now

    def discard(self, connection: UpstreamConnection) -> None:
        """It is not idle any more."""
        self._idle.pop(connection, None)


@mypyc_attr(allow_interpreted_subclasses=True)
class Pools:
    """All pools of a gateway, by upstream, credential and tenant. A pool without connections is forgotten."""

    def __init__(self, idle_max: int = IDLE_CONNECTIONS_MAX, now: Callable[[], float] = time.monotonic) -> None:
        """At most `idle_max` connections are idle. `now`: seconds, of the clock that `sweep` is told."""
        self._pools: OrderedDict[Key, Pool] = OrderedDict()
        self._idle: OrderedDict[UpstreamConnection, Pool] = OrderedDict()  # in the order of `idle_since`
        self._idle_max = idle_max
        self.now = now
        self._contexts: dict[str | None, ssl.SSLContext] = {}

    def of(self, upstream: Upstream, credential_id: str, tenant_id: str) -> Pool:
        key = (upstream.base_url, upstream.ca_file, upstream.connect_seconds, credential_id, tenant_id)
        pool = self._pools.get(key)
        if pool is None:
            self._forget_empty()
            pool = self._pools[key] = Pool(self, key, upstream)
        return pool

    def find(self, key: Key) -> Pool | None:
        return self._pools.get(key)

    def _forget_empty(self) -> None:
        """Those that were asked for and never connected."""
        for _ in range(min(LOOKED_AT, len(self._pools))):
            key, pool = self._pools.popitem(last=False)
            if not pool.is_empty:
                self._pools[key] = pool

    def context(self, ca_file: str | None) -> ssl.SSLContext:
        """How servers are verified.

        Raises:
            OSError: the file of authorities cannot be read, or holds none.
        """
        context = self._contexts.get(ca_file)
        if context is None:
            context = self._contexts[ca_file] = ssl.create_default_context(cafile=ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    # What pools tell

    def remember(self, pool: Pool) -> None:
        """It is used, by a caller that has kept it, though it may have been forgotten here."""
        self._pools.setdefault(pool.key, pool)

    def forget(self, pool: Pool) -> None:
        if self._pools.get(pool.key) is pool:
            del self._pools[pool.key]

    def add_idle(self, connection: UpstreamConnection, pool: Pool) -> None:
        connection.idle_since = self.now()
        self._idle[connection] = pool
        if len(self._idle) > self._idle_max:
            self._close_oldest()

    def remove_idle(self, connection: UpstreamConnection) -> None:
        self._idle.pop(connection, None)

    def _close_oldest(self) -> None:
        connection, pool = self._idle.popitem(last=False)
        pool.discard(connection)
        connection.close()

    # Chores

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long; costs only what expires. `now`: seconds."""
        expired = now - IDLE_SECONDS_MAX
        while self._idle and next(iter(self._idle)).idle_since < expired:
            self._close_oldest()

    def close(self) -> None:
        """Close all that is idle."""
        while self._idle:
            self._close_oldest()
