"""What all connections of a gateway process share, and its housekeeping."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tenantry.domain.directory import KeyStatus, Snapshot, TenantStatus
from tenantry.domain.errors import ApiError, KeyNotActive, NotReady, TenantDisabled
from tenantry.domain.prices import PriceTable
from tenantry.gateway.health import Health
from tenantry.gateway.policy import Policies
from tenantry.gateway.quota_headers import QuotaHeaders
from tenantry.gateway.recorder import Recorder
from tenantry.gateway.tallies import Tallies
from tenantry.gateway.till import Till
from tenantry.gateway.traffic import CallLater, Traffic
from tenantry.gateway.upstream import Pools
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.live import Live, LiveHealth, LiveUse
from tenantry.ledger.opening import Opening
from tenantry.settings import GatewaySettings

if TYPE_CHECKING:
    from tenantry.gateway.authentication import Principal
    from tenantry.gateway.exchange import Exchange
    from tenantry.gateway.server import ClientConnection

SWEEP_SECONDS = 0.25
COLLECT_SECONDS = 30.0


def _call_later(seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, callback)


class Gateway:
    """The composition in `gateway/run.py` makes it. `now` is the event loop's time, in seconds."""

    def __init__(
        self,
        settings: GatewaySettings,
        snapshot: Snapshot,
        pepper: bytes,
        prices: PriceTable,
        journal: JournalWriter,
        opening: Opening,
        now: Callable[[], float],
        call_later: CallLater = _call_later,
    ) -> None:
        self.settings = settings
        self.snapshot = snapshot
        self.pepper = pepper
        self.prices = prices
        self.now = now
        self.call_later = call_later
        self.version_default = settings.anthropic_version.encode()
        self.recorder = Recorder(journal)
        self.traffic = Traffic(now, call_later)
        self.till = Till(prices, settings.zone, settings.contact, opening)
        self.health = Health(now)
        self.tallies = Tallies()
        self.policies = Policies()
        self.quota_headers = QuotaHeaders()
        self.pools = Pools()
        self.exchanges: set[Exchange] = set()
        self.connections: set[ClientConnection] = set()
        self.peers: dict[str, int] = {}
        self.stopping = False
        self._last_collect = now()
        self._all_closed: asyncio.Future[None] | None = None

    def apply(self, snapshot: Snapshot) -> None:
        """Go on under another directory: new limits act at once, and who may not go on is cut off."""
        self.snapshot = snapshot
        self.traffic.apply(snapshot)
        self.till.apply(snapshot, time.time_ns() // 1000)
        for exchange in list(self.exchanges):
            principal = exchange.principal
            refusal = _no_longer_allowed(snapshot, principal) if principal is not None else None
            if refusal is not None:
                exchange.interrupt(refusal.reason, refusal)

    def sweep(self) -> None:
        """End what is overdue. Called every `SWEEP_SECONDS`."""
        now = self.now()
        for exchange in list(self.exchanges):
            if exchange.deadline < now:
                exchange.overdue()
            else:
                exchange.count_output()
        for connection in [connection for connection in self.connections if connection.deadline < now]:
            connection.overdue()
        self.pools.sweep(now)
        # Everything live at start is frozen and the collector is off under traffic: a full collection stops the world.
        if not self.exchanges and now - self._last_collect > COLLECT_SECONDS:
            self._last_collect = now
            self.traffic.sweep()
            gc.collect()

    def tell_tallies(self) -> None:
        """Journal what has been counted since the last time."""
        tally = self.tallies.take()
        if tally is not None:
            self.recorder.tally(tally)

    def standing(self) -> Live:
        """What goes on now, for people: use of lanes and money by tenant, and health."""
        tenants = {tenant_id: LiveUse(**use) for tenant_id, use in self.traffic.standing().items()}
        for tenant_id, money in self.till.standing().items():
            use = tenants.setdefault(tenant_id, LiveUse())
            use.held_nanos, use.spent_nanos = money["held_nanos"], money["spent_nanos"]
            use.excess_nanos = money["excess_nanos"]
        return Live(time.time(), tenants, LiveHealth(**self.health.facts(), journal_works=self.recorder.works))

    def exchange_closed(self) -> None:
        if self._all_closed is not None and not self.exchanges and not self._all_closed.done():
            self._all_closed.set_result(None)

    async def drain(self, seconds: float) -> None:
        """Refuse new work, let what runs end within `seconds`, then end it with an `error` event."""
        self.stopping = True
        for connection in list(self.connections):
            connection.stop_when_idle()
        for exchange in list(self.exchanges):
            exchange.stop_waiting()
        if self.exchanges:
            self._all_closed = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_closed], timeout=seconds)
            for exchange in list(self.exchanges):
                exchange.interrupt("gateway_stopping", NotReady("The gateway is restarting. Try again."))
            await asyncio.sleep(0.05)  # one turn of the loop for the last bytes to leave
        for connection in list(self.connections):
            connection.abort()
        self.pools.close()


def _no_longer_allowed(snapshot: Snapshot, principal: Principal) -> ApiError | None:
    key = snapshot.keys.get(principal.key.digest)
    if key is None or key.status is not KeyStatus.ACTIVE:
        return KeyNotActive()
    tenant = snapshot.tenants.get(key.tenant_id)
    if tenant is None or tenant.status is not TenantStatus.ACTIVE:
        return TenantDisabled()
    return None
