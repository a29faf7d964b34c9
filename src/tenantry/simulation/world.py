"""The world of a storm: gateways, a control, organizations, clients and a ledger, under one clock and one seed.

Here each gateway is alone with its tenants (`World.places`); `fleet.py` has the world of several that share them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from tenantry.domain.budgets import Budget, Cap
from tenantry.domain.directory import (
    NO_BUDGET,
    Change,
    Credential,
    GatewayKey,
    KeyStatus,
    Snapshot,
    Tenant,
    TenantStatus,
    Upstream,
)
from tenantry.domain.limits import Limits
from tenantry.domain.opening import Opening
from tenantry.domain.prices import PriceTable
from tenantry.simulation.calls import Call
from tenantry.simulation.chance import chance
from tenantry.simulation.clock import Clock
from tenantry.simulation.disk import Journal, Ledger, Run
from tenantry.simulation.gateway import WALL_LOOK_SECONDS, Client, Gateway, Surroundings, Wants
from tenantry.simulation.upstream import Manner, Organization

DRAIN_SECONDS = 2.0
# A change that no notice tells of is found so late.
POLL_SECONDS = 1.0
TRACE_LINES = 400
# 2026-12-07 00:30 in Berlin, a Monday: midnight lies in the middle of the last hour of a chapter.
START_US = 1_796_599_800_000_000
ZONE = ZoneInfo("Europe/Berlin")
NANOS_PER_CENT = 10_000_000


@dataclass(slots=True)
class Host:
    """Where a gateway runs. `gateway` is None while it is down; `skew_us`: how wrong its clock is."""

    name: str
    gateway: Gateway | None = None
    runs: int = 0
    skew_us: int = 0
    write_seconds: float = 0.0
    disk_works: bool = True
    sees_store: bool = True
    machine: str = ""


class World:
    """Of one chapter. `on_death` hears of each gateway that was killed; `busy_until`: when its chores rest again."""

    def __init__(self, seed: str, prices: PriceTable, planted: frozenset[str] = frozenset()) -> None:
        self.random = chance("storm", seed)
        self.clock = Clock()
        self.surroundings = Surroundings(self.clock, chance("storm", seed, "site"), prices, ZONE, START_US)
        self.ledger = Ledger(prices, ZONE)
        self.ledger.knows_rows = "booked-again" not in planted
        self.hosts = {name: Host(name) for name in ("g1", "g2")}
        self.upstreams: dict[str, Upstream] = {}
        self.places: dict[str, str] = {}
        self.clients: dict[str, Client] = {}
        self.requests = 0
        self.outcomes = Counter[str]()
        self.trace: deque[str] = deque(maxlen=TRACE_LINES)
        self.on_death: Callable[[Gateway], None] | None = None
        self.control_works = True
        self.busy_until = 0.0
        self._seed = seed
        self._planted = planted
        self._version: int = 1
        self._make_organizations()

    def _make_organizations(self) -> None:
        random = self.random
        shared = Limits(
            sessions_max=random.choice((4, 6, 12)),
            requests_per_minute=None,
            request_burst=1,
            input_tokens_per_minute=None,
        )
        for name, limits, declared in (
            ("shared", shared, True),
            (
                "learned",
                Limits(sessions_max=1000, requests_per_minute=60, request_burst=20, input_tokens_per_minute=40_000),
                False,
            ),
        ):
            manner = Manner(random.uniform(0.2, 2.0), 0.5, random.uniform(30.0, 100.0), random.choice((0.0, 0.0, 0.02)))
            self.surroundings.organizations[name] = Organization(
                name, limits, manner, self.clock, chance("storm", self._seed, name), keeps_log=True
            )
            upstream = Upstream(
                f"ups_{name}", name, "https://simulated.invalid", answer_seconds=60.0, shares_capacity=True
            )
            if declared:
                upstream = replace(upstream, capacity=limits)
            self.upstreams[name] = upstream
            slugs, host = (("a", "b", "c"), "g1") if declared else (("d", "e"), "g2")
            for slug in slugs:
                self._make_client(slug, name, upstream, host)

    def begin(self) -> None:
        """Every gateway begins."""
        for host in self.hosts.values():
            self._start(host)

    def _make_client(self, slug: str, organization: str, upstream: Upstream, host: str) -> None:
        random = self.random
        limits = Limits(
            sessions_max=random.choice((2, 5, 15)),
            requests_per_minute=random.choice((None, 60, 120)),
            queue_depth_max=random.choice((8, 64)),
            queue_wait_ms_max=random.choice((0, 2_000, 10_000, 30_000)),
            weight=random.choice((1, 1, 3)),
        )
        credential = Credential(f"crd_{slug}", slug, upstream, "")
        tenant = Tenant(
            f"tnt_{slug}",
            slug,
            slug,
            TenantStatus.ACTIVE,
            "standard",
            limits,
            credential,
            budget=self.draw_budget() if random.random() < 0.8 else NO_BUDGET,
        )
        self.clients[slug] = Client(
            tenant, GatewayKey(f"key_{slug}", f"tnt_{slug}", slug.encode(), KeyStatus.ACTIVE), organization
        )
        self.places[slug] = host

    def draw_budget(self) -> Budget:
        random = self.random
        caps = [Cap("day", random.randint(2, 60) * NANOS_PER_CENT, ())]
        if random.random() < 0.3:
            caps.append(Cap("month", random.randint(20, 300) * NANOS_PER_CENT, ()))
        return Budget(tuple(caps), "hard")

    def clients_at(self, host: str) -> list[Client]:
        """The tenants that a gateway serves."""
        return [client for slug, client in self.clients.items() if self.places[slug] == host.split("-")[0]]

    # Processes

    def _start(self, host: Host) -> None:
        """A gateway begins: with what the ledger and the journals say has been spent."""
        if not host.sees_store:
            self.clock.call_later(1.0, lambda: self._start(host))  # it cannot begin without the store
            return
        host.runs += 1
        name = f"{host.name}-{host.runs}"
        run = Run(name, host.machine)
        at_us = self.surroundings.start_us + int(self.clock.now * 1e6) + host.skew_us
        opening = self.ledger.opening(at_us, host.machine)
        self.ledger.runs.append(run)

        def journal(wall_us: Callable[[], int]) -> Journal:
            return Journal(run, self.clock, wall_us)

        gateway = self._make_gateway(host, name, opening, journal)
        host.gateway = gateway
        self.set_disk(host)
        self._look_at_wall(gateway)
        self.tell(f"{name} begins")

    def _make_gateway(
        self, host: Host, name: str, opening: Opening, journal: Callable[[Callable[[], int]], Journal]
    ) -> Gateway:
        return Gateway(name, self.surroundings, opening, journal, host.skew_us, self._planted)

    def see_store(self, host: Host, sees: bool) -> None:
        """The way between a gateway and the store is cut, or there again."""
        host.sees_store = sees

    def is_jump_fair(self, _host: Host, _by_us: int) -> bool:
        """Whether a clock may be set by so much, and every promise has to hold."""
        return True

    def _look_at_wall(self, gateway: Gateway) -> None:
        gateway.look_at_wall(self._opening_for(gateway))
        gateway.lanes.sweep()
        if self.clock.now < self.busy_until and not gateway.is_dead:
            gateway.call_later(WALL_LOOK_SECONDS, lambda: self._look_at_wall(gateway))

    def _opening_for(self, gateway: Gateway) -> Callable[[int], Opening]:
        machine = gateway.journal.run.machine if gateway.journal is not None else ""
        return lambda at_us: self.ledger.opening(at_us, machine)

    def crash(self, host: Host, seconds: float) -> None:
        """Kill its gateway; another begins after so long."""
        gateway = host.gateway
        if gateway is None or gateway.journal is None:
            return
        self.tell(f"{gateway.name} is killed")
        self._bury(host, gateway)
        self.clock.call_later(seconds, lambda: self._start(host))

    def _bury(self, host: Host, gateway: Gateway) -> None:
        """Its process is gone."""
        if gateway.journal is None:
            return
        gateway.is_dead = True
        host.gateway = None
        gateway.journal.die(self.random)
        gateway.journal.run.died_us = self.surroundings.start_us + int(self.clock.now * 1e6) + host.skew_us
        for call in list(gateway.calls):
            call.kill()
        if self.on_death is not None:
            self.on_death(gateway)

    def _drain(self) -> None:
        if self.control_works:
            self.ledger.drain(self.control_us())
        if self.clock.now < self.busy_until:
            self.clock.call_later(DRAIN_SECONDS, self._drain)

    def control_us(self) -> int:
        return self.surroundings.start_us + int(self.clock.now * 1e6)

    def begin_chores(self) -> None:
        self._drain()
        for host in self.hosts.values():
            if host.gateway is not None:
                self._look_at_wall(host.gateway)

    def set_disk(self, host: Host) -> None:
        gateway = host.gateway
        if gateway is not None and gateway.journal is not None:
            gateway.journal.write_seconds = host.write_seconds
            gateway.journal.works = host.disk_works

    def change(self, slug: str, changed: Tenant, *, is_noticed: bool) -> None:
        """The directory says something else of a tenant; its gateway hears of it, or finds it by looking."""
        self.clients[slug] = replace(self.clients[slug], tenant=changed)
        self._version += 1
        self.clock.call_later(0.02 if is_noticed else POLL_SECONDS, lambda: self._arrive(slug))

    def _arrive(self, slug: str) -> None:
        host = self.hosts[self.places[slug]]
        if not host.sees_store:
            self.clock.call_later(POLL_SECONDS, lambda: self._arrive(slug))
            return
        client = self.clients[slug]
        snapshot = Snapshot(self._version, {client.key.digest: client.key}, {client.tenant.tenant_id: client.tenant})
        if host.gateway is not None:
            host.gateway.apply(Change(snapshot, frozenset((client.tenant.tenant_id,)), frozenset((client.key.digest,))))

    # Requests

    def ask(self, slug: str, wants: Wants, leaves_after: float | None) -> None:
        host = self.hosts[self.places[slug]]
        self.requests += 1
        if host.gateway is None:
            self.outcomes["no_gateway"] += 1
            return
        call = Call(host.gateway, self.clients[slug], wants, self._ended)
        call.start()
        if leaves_after is not None:
            host.gateway.call_later(leaves_after, call.leave)

    def _ended(self, call: Call) -> None:
        self.outcomes[call.reason or "served"] += 1
        self.tell(f"{call.client.tenant.slug} {call.name}: {call.reason or 'served'}")

    def tell(self, text: str) -> None:
        self.trace.append(f"{self.clock.now:11.3f} s  {text}")

    def any_host(self) -> Host:
        return self.random.choice(list(self.hosts.values()))

    def for_a_while(self, seconds: float, undo: Callable[[], None]) -> None:
        self.clock.call_later(seconds, undo)
