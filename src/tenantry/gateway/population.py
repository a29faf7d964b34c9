"""Who is in the gateway now: requests that are served, and connections of clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from tenantry.domain.errors import ApiError, NoRoomForBodies, TooManyBodies
from tenantry.domain.subclassing import mypyc_attr
from tenantry.gateway.authentication import Principal
from tenantry.gateway.deadlines import Timed

# Bodies that come, or wait for their turn, are held in memory: four of the largest of one tenant, sixteen of all.
TENANT_BODY_BYTES_MAX: Final = 128 * 1024 * 1024
BODY_BYTES_MAX: Final = 512 * 1024 * 1024
# What is kept beyond that for tenants that hold little, so that four which hold all they may keep nobody else out: one
# of the largest of one tenant, eight of all.
SMALL_HOLDING_BYTES: Final = 32 * 1024 * 1024
SPARE_BODY_BYTES: Final = 256 * 1024 * 1024


class Served(Timed):
    """A request that is being served, as the process sees it. `principal` is whose it is."""

    __slots__ = ("principal",)

    def __init__(self, principal: Principal) -> None:
        super().__init__()
        self.principal = principal

    @property
    def model(self) -> str:
        """Which it asks for; "": that is not known here."""
        raise NotImplementedError

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its turn."""
        raise NotImplementedError

    def cut(self, reason: str, error: ApiError) -> None:
        """It may not go on. `reason` is what the ledger says, `error` what the client is told."""
        raise NotImplementedError

    def stop(self) -> None:
        """The gateway is about to stop: who is not being served yet is sent away."""
        raise NotImplementedError

    def client_gone(self) -> None:
        """Its client has left."""
        raise NotImplementedError

    def client_ended(self) -> bool:
        """Its client sends no more; whether it is still waited for."""
        raise NotImplementedError

    def client_paused(self) -> None:
        """Its client takes no bytes at the moment."""
        raise NotImplementedError

    def client_resumed(self) -> None:
        raise NotImplementedError

    @property
    def is_unsent(self) -> bool:
        """Whether nothing goes upstream for it at the moment."""
        raise NotImplementedError

    def pass_on(self) -> None:
        """Another gateway begins anew with it: of one that is unsent."""
        raise NotImplementedError

    def move_on(self) -> None:
        """Another gateway is about to grant for its tenant: what is not being sent begins anew."""
        raise NotImplementedError

    def look(self) -> None:
        """Called four times a second: count what a stream has produced."""
        raise NotImplementedError


class Connected(Timed):
    """A client's connection, as the process sees it."""

    __slots__ = ()

    @property
    def has_unsent(self) -> bool:
        """Whether its client has not taken all that it was given."""
        raise NotImplementedError

    def stop_when_idle(self) -> None:
        raise NotImplementedError

    def pass_when_idle(self) -> None:
        """Pass it on, now or when it owes no answer any more."""
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError

    def forget(self) -> None:
        """Its socket is another's from now on."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Heir:
    """Another gateway, which has taken this one's place and goes on with its clients' connections."""

    __slots__ = ()

    def take(self, connection: Connected, transport: asyncio.Transport, peer: str, unread: bytes) -> None:
        """Give it a connection that owes no answer; `unread` is what has come of its next request."""
        raise NotImplementedError


class Population:
    """`streams` are the served whose answers flow.

    `heir`: who has taken this gateway's place; then it `is_stopping` too.
    """

    __slots__ = (
        "_bodies",
        "_connections",
        "_on_empty",
        "_peers",
        "body_bytes",
        "connections",
        "heir",
        "is_stopping",
        "served",
        "streams",
    )

    def __init__(self) -> None:
        self.served: set[Served] = set()
        self.streams: set[Served] = set()
        self.connections: set[Connected] = set()
        self.is_stopping = False
        self.heir: Heir | None = None
        self.body_bytes = 0  # of all bodies that come, or wait for their turn
        self._bodies: dict[str, int] = {}
        self._connections: dict[str, int] = {}  # by the tenant that uses them
        self._peers: dict[str, int] = {}  # the same by address
        self._on_empty: Callable[[], None] | None = None

    def make_room(self, tenant_id: str, size: int) -> ApiError | None:
        """Count `size` bytes more of bodies of a tenant; or why not, when it or all have too many."""
        own, of_all = self._bodies.get(tenant_id, 0) + size, self.body_bytes + size
        if own > TENANT_BODY_BYTES_MAX:
            return TooManyBodies()
        if of_all > BODY_BYTES_MAX + (SPARE_BODY_BYTES if own <= SMALL_HOLDING_BYTES else 0):
            return NoRoomForBodies()
        self._bodies[tenant_id] = own
        self.body_bytes = of_all
        return None

    def arrive(self, connection: Connected, peer: str) -> int:
        """A client has come from that address; how many connections it has now. Told twice, it counts once."""
        if connection in self.connections:
            return self._peers[peer]
        self.connections.add(connection)
        return _one_more(self._peers, peer)

    def depart(self, connection: Connected, peer: str) -> None:
        if connection in self.connections:
            self.connections.discard(connection)
            _less(self._peers, peer)

    def join(self, tenant_id: str) -> int:
        """A tenant uses one connection more; how many it uses now."""
        return _one_more(self._connections, tenant_id)

    def part(self, tenant_id: str) -> None:
        """A tenant uses one connection less."""
        _less(self._connections, tenant_id)

    def let_go(self, tenant_id: str, size: int) -> None:
        """The turn of a body has come, or it will not come to its end."""
        self.body_bytes -= size
        _less(self._bodies, tenant_id, size)

    def leave(self, served: Served) -> None:
        self.served.discard(served)
        self.streams.discard(served)
        if self._on_empty is not None and not self.served:
            self._on_empty()

    async def empty(self, seconds: float) -> None:
        """Wait until nothing is served any more, or for so long."""
        if not self.served:
            return
        done = asyncio.Event()
        self._on_empty = done.set
        try:
            await asyncio.wait_for(done.wait(), seconds)
        except TimeoutError:
            return
        finally:
            self._on_empty = None


def _one_more(counts: dict[str, int], name: str) -> int:
    count = counts[name] = counts.get(name, 0) + 1
    return count


def _less(counts: dict[str, int], name: str, by: int = 1) -> None:
    """What comes to nothing is not kept."""
    left = counts.get(name, 0) - by
    if left > 0:
        counts[name] = left
    else:
        counts.pop(name, None)
