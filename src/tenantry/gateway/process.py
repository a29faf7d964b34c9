"""The gateway process: its parts, and its housekeeping beside requests."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator

from tenantry.domain.attempts import Tally
from tenantry.domain.directory import Change, KeyStatus, Snapshot, TenantStatus
from tenantry.domain.errors import ApiError, KeyNotActive, NotReady, TenantDisabled
from tenantry.domain.hosts import HostRule
from tenantry.domain.lanes import Lanes
from tenantry.domain.opening import Opening
from tenantry.domain.owners import Cells
from tenantry.domain.prices import PriceTable
from tenantry.domain.till import Till
from tenantry.gateway.authentication import Principal
from tenantry.gateway.bodies import Beside, Bodies
from tenantry.gateway.deadlines import Deadlines
from tenantry.gateway.health import Health
from tenantry.gateway.live import LiveChanges
from tenantry.gateway.parts import Clock, Latest, Parts
from tenantry.gateway.peers.calling import Peers
from tenantry.gateway.peers.proofs import derive_peer_key
from tenantry.gateway.policy import Policies
from tenantry.gateway.population import Population, Served
from tenantry.gateway.recorder import Recorder
from tenantry.gateway.slowing import Slowing
from tenantry.gateway.tallies import Tallies
from tenantry.gateway.telling import Telling
from tenantry.gateway.upstream import Pools
from tenantry.ledger.journal import JournalWriter
from tenantry.settings import GatewaySettings

# Everything live at start is frozen and the collector is off under traffic: a full collection stops the world.
COLLECT_SECONDS = 30.0
# Or when so many objects more are there than then: some 5 ms. Ten thousand tenants in use are 600,000.
COLLECT_OBJECTS = 10_000
# So many tenants and keys of a change are looked at before the event loop does other things: some 2 ms.
CHANGED_AT_ONCE = 256
# So many streams are looked at before the event loop does other things: some 1 ms.
STREAMS_AT_ONCE = 128


def build_parts(
    settings: GatewaySettings,
    snapshot: Snapshot,
    pepper: bytes,
    prices: PriceTable,
    journal: JournalWriter,
    opening: Opening,
    clock: Clock,
    beside: Beside,
    cells: Cells | None = None,
) -> Parts:
    """The parts of one gateway process, or of a test's."""
    pools = Pools(settings.idle_upstream_connections_max, clock.now)
    return Parts(
        settings=settings,
        pepper=pepper,
        host_rule=HostRule(settings.public_domain, settings.public_host),
        version_default=settings.anthropic_version.encode(),
        prices=prices,
        clock=clock,
        latest=Latest(snapshot),
        population=Population(),
        deadlines=Deadlines(clock.now),
        lanes=Lanes(clock.now, clock.call_later),
        till=Till(prices, settings.zone, opening, cells.asked if cells is not None else None, settings.envelope_nanos),
        health=Health(clock.now),
        recorder=Recorder(journal, clock.call_soon, clock.now),
        tallies=Tallies(),
        policies=Policies(prices.models()),
        pools=pools,
        telling=Telling(settings.zone, settings.contact),
        bodies=Bodies(beside),
        cells=cells,
        peers=Peers(pools, derive_peer_key(pepper)) if cells is not None else None,
    )


class GatewayProcess:
    """The housekeeping of a gateway: what is done beside requests, and how it stops."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.collects = True  # tests that count garbage turn it off
        self.live = LiveChanges(parts)
        self.followers: list[Callable[[Change], None]] = []  # who else goes on under another directory
        self._slowing = Slowing(parts.latest.snapshot)
        self._last_collect = parts.clock.now()

    def apply(self, change: Change) -> None:
        """Go on under another directory: new limits act at once, and who may not go on is cut off."""
        for _ in self.applying(change):
            pass

    def applying(self, change: Change) -> Iterator[None]:
        """`apply` in steps, between which other things may be done."""
        yield from self._apply(self._slowing.over(change))

    def _apply(self, change: Change) -> Iterator[None]:
        parts = self.parts
        parts.latest.snapshot = change.snapshot
        self.live.apply(change)
        parts.health.apply(change)
        for follow in self.followers:
            follow(change)
        for number, part in enumerate(change.parts(CHANGED_AT_ONCE)):
            parts.lanes.apply(part)
            parts.till.apply(part, parts.clock.wall_us())
            if number == 0:
                self._cut_off(change)
            yield

    def _cut_off(self, change: Change) -> None:
        """Who waits goes first, so that nobody is given a turn only to be cut off."""
        snapshot, served = change.snapshot, self.parts.population.served
        for one in sorted(_suspects(change, served), key=_is_waiting, reverse=True):
            refusal = _no_longer_allowed(snapshot, one.principal)
            if refusal is not None and one in served:
                one.cut(refusal.reason, refusal)

    def correct(self, tenant_id: str, key_id: str, at_us: int, nanos: int) -> None:
        """Count a correction that was booked since the opening, in the periods that hold `at_us`."""
        self.parts.till.adjust(tenant_id, key_id, at_us, nanos)
        self.live.tell_again(tenant_id)

    def reopen(self, opening: Opening) -> None:
        """The clock is about to go to another time: what was spent in the periods that hold that time."""
        self.parts.till.reopen(opening)
        self.live.tell_all_again()

    def tick(self) -> None:
        """End what is overdue, count what streams have produced. Called every `TICK_SECONDS`."""
        for _ in self.ticking():
            pass

    def ticking(self) -> Iterator[None]:
        """`tick` in steps, between which other things may be done."""
        parts = self.parts
        parts.deadlines.sweep()
        streams = list(parts.population.streams)
        for first in range(0, len(streams), STREAMS_AT_ONCE):
            for served in streams[first : first + STREAMS_AT_ONCE]:
                if served in parts.population.streams:
                    served.look()
            yield
        turned = self._slowing.turn(parts.till.slow(parts.clock.wall_us()))
        if turned is not None:
            yield from self._apply(turned)
        now = parts.clock.now()
        parts.pools.sweep(now)
        parts.lanes.sweep()
        if self.collects and not parts.population.served:
            self._collect(now)

    def _collect(self, now: float) -> None:
        """What has stayed is frozen: the next collection looks only at what came after, not at every tenant in use."""
        if gc.get_count()[0] > COLLECT_OBJECTS or now - self._last_collect > COLLECT_SECONDS:
            self._last_collect = now
            gc.collect()
            gc.freeze()

    def tell_tallies(self) -> None:
        """Journal what has been counted since the last time; a journal that could not be written is tried anyway."""
        for _ in self.telling_tallies():
            pass

    def telling_tallies(self) -> Iterator[None]:
        """`tell_tallies` in steps, between which other things may be done."""
        recorder, tallies = self.parts.recorder, self.parts.tallies
        if not tallies.steps and not recorder.works:
            recorder.tally(Tally([], []))
        for _ in range(tallies.steps):  # what comes meanwhile has its turn the next time
            tally = tallies.take()
            if tally is not None:
                recorder.tally(tally)
            yield

    async def drain(self, seconds: float, *, sends_away: bool = True) -> None:
        """Refuse new work, let what runs end within `seconds`, then end it with an `error` event.

        `sends_away`: who is not being served yet is refused at once; else it goes on to the gateways that serve it now.
        """
        parts, population = self.parts, self.parts.population
        population.is_stopping = True
        for connection in list(population.connections):
            connection.stop_when_idle()
        for served in list(population.served) if sends_away else ():
            if served in population.served:  # what one gives back may have ended another
                served.stop()
        until = parts.clock.now() + seconds
        await population.empty(seconds)
        for served in list(population.served):
            served.cut("gateway_stopping", NotReady("The gateway is restarting. Try again."))
        await asyncio.sleep(0.05)  # one turn of the loop for the last bytes to leave
        # Sockets do not say when the kernel has taken their last byte.
        while self._has_unwritten() and parts.clock.now() < until:  # noqa: ASYNC110 -- see above
            await asyncio.sleep(0.05)
        for connection in list(population.connections):
            connection.abort()
        parts.pools.close()

    def _has_unwritten(self) -> bool:
        """To a client, or to a disk that is full: what answers cost is known here alone."""
        parts = self.parts
        return parts.recorder.is_behind or any(one.has_unsent for one in parts.population.connections)


def _is_waiting(served: Served) -> bool:
    return served.is_waiting


def _suspects(change: Change, served: set[Served]) -> list[Served]:
    """The requests of tenants and keys that a change ends; most changes end nobody."""
    if change.tenants is None or change.keys is None:
        return list(served)
    snapshot = change.snapshot
    tenants = {one for one in change.tenants if not _is_tenant_active(snapshot, one)}
    keys = {one for one in change.keys if not _is_key_active(snapshot, one)}
    if not tenants and not keys:
        return []
    return [one for one in served if one.principal.tenant.tenant_id in tenants or one.principal.key.digest in keys]


def _no_longer_allowed(snapshot: Snapshot, principal: Principal) -> ApiError | None:
    if not _is_key_active(snapshot, principal.key.digest):
        return KeyNotActive()
    if not _is_tenant_active(snapshot, principal.key.tenant_id):
        return TenantDisabled()
    return None


def _is_key_active(snapshot: Snapshot, digest: bytes) -> bool:
    key = snapshot.keys.get(digest)
    return key is not None and key.status is KeyStatus.ACTIVE


def _is_tenant_active(snapshot: Snapshot, tenant_id: str) -> bool:
    tenant = snapshot.tenants.get(tenant_id)
    return tenant is not None and tenant.status is TenantStatus.ACTIVE
