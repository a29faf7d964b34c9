"""The world of a storm where several gateways share all tenants: leases, cells, ceilings, and hops between gateways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tenantry.domain.directory import Change, Credential, Snapshot, Tenant
from tenantry.domain.limits import Limits
from tenantry.domain.opening import Opening
from tenantry.domain.owners import At
from tenantry.domain.periods import DAY, period_of
from tenantry.domain.prices import PriceTable
from tenantry.simulation.books import MachineBooks
from tenantry.simulation.calls import Call
from tenantry.simulation.chance import chance
from tenantry.simulation.disk import Journal
from tenantry.simulation.gateway import Client, Gateway, Wants
from tenantry.simulation.hops import Hop
from tenantry.simulation.ownership import Ownership, Terms
from tenantry.simulation.store import Line, Store
from tenantry.simulation.world import NANOS_PER_CENT, POLL_SECONDS, ZONE, Host, World

# Two gateways on one machine, and one on another.
MACHINES = {"g1": "m1", "g2": "m1", "g3": "m2"}
# A balancer that hashes tenants sends so many of their requests to the same gateway.
HASHED_SHARE = 0.6
NOTICED_SHARE = 0.8
DAY_US = 86_400_000_000


@dataclass(eq=False, slots=True)
class Request:
    """One client's request; it is answered once."""

    number: int
    slug: str
    gateway: Gateway
    has_begun: bool = False
    answers: int = 0
    leave: Callable[[], None] | None = None


class Fleet(World):
    """`open`: the requests that have not been answered; `twice`: those that were answered more than once."""

    def __init__(self, seed: str, prices: PriceTable, planted: frozenset[str] = frozenset()) -> None:
        super().__init__(seed, prices, planted)
        random = self.random
        self.hosts = {name: Host(name, machine=machine) for name, machine in MACHINES.items()}
        self.store = Store(self.clock, planted)
        self.terms = Terms(random.choice((5.0, 10.0, 30.0)), random.choice((1, 5, 100)) * NANOS_PER_CENT)
        self.lines = {name: Line(self.clock, chance("storm", seed, name)) for name in MACHINES}
        self.paces = {name: random.choice((0.992, 1.0, 1.008)) for name in MACHINES}
        self.cut: set[frozenset[str]] = set()
        self.hops: dict[Hop, None] = {}
        self.open: dict[Request, None] = {}
        self.twice: list[int] = []
        rate, burst = random.choice((40, 90)), random.choice((3, 10))
        limits = replace(self.upstreams["shared"].capacity, requests_per_minute=rate, request_burst=burst)
        self._declare(limits)

    def _declare(self, limits: Limits) -> None:
        """All tenants of the declared organization draw on it under these limits."""
        found = self.upstreams["shared"] = replace(self.upstreams["shared"], capacity=limits)
        for slug, client in self.clients.items():
            if client.organization == "shared":
                credential = replace(client.credential, upstream=found)
                self.clients[slug] = replace(client, tenant=replace(client.tenant, credential=credential))

    # Processes

    def _make_gateway(
        self, host: Host, name: str, opening: Opening, journal: Callable[[Callable[[], int]], Journal]
    ) -> Gateway:
        books = MachineBooks(self.ledger, self.store, host.machine)

        def own(gateway: Gateway) -> Ownership:
            return Ownership(gateway, self.store, self.lines[host.name], books, self.terms, self.paces[host.name])

        gateway = Gateway(
            name, self.surroundings, opening, journal, host.skew_us, self._planted, own, self.terms.envelope_nanos
        )
        gateway.busy_until = self.busy_until
        gateway.clients = dict(self.clients)
        self.store.tidy(self.ledger.closed)
        if gateway.ownership is not None:
            gateway.ownership.link({one.tenant.tenant_id: one.tenant for one in self.clients.values()})
            gateway.ownership.begin()
        return gateway

    def begin_chores(self) -> None:
        super().begin_chores()
        for gateway in self.gateways():
            gateway.busy_until = self.busy_until
            if gateway.ownership is not None:
                gateway.ownership.rouse()

    def gateways(self) -> list[Gateway]:
        return [host.gateway for host in self.hosts.values() if host.gateway is not None]

    def _bury(self, host: Host, gateway: Gateway) -> None:
        super()._bury(host, gateway)
        for hop in list(self.hops):
            if hop.gateway is gateway:
                hop.end("gateway_died")
        for request in [one for one in self.open if one.gateway is gateway and not one.has_begun]:
            self._count(request, "gateway_died")

    def see_store(self, host: Host, sees: bool) -> None:
        host.sees_store = self.lines[host.name].works = sees

    def is_jump_fair(self, host: Host, by_us: int) -> bool:
        """A clock that shows tomorrow spends of tomorrow's budget, and no other gateway knows when that day comes."""
        now_us = self.control_us()
        told_us = now_us + host.skew_us + by_us
        day = period_of(DAY, now_us, ZONE)
        return day.start_us <= told_us < day.end_us or abs(told_us - now_us) > 2 * DAY_US

    def stop(self, host: Host, seconds: float) -> None:
        """Its process is stopped, and goes on (SIGSTOP, SIGCONT)."""
        if host.gateway is not None:
            self.tell(f"{host.gateway.name} is stopped for {seconds:.1f} s")
            host.gateway.stopped_until = self.clock.now + seconds

    def leave(self, host: Host, seconds: float) -> None:
        """It is told to end: it finishes what it has, gives up its lease, and another begins after so long."""
        gateway = host.gateway
        if gateway is not None and not gateway.is_stopping:
            self.tell(f"{gateway.name} is to end")
            gateway.is_stopping = True
            self._leave(host, gateway, seconds)

    def _leave(self, host: Host, gateway: Gateway, seconds: float) -> None:
        if gateway.is_dead:
            return
        if gateway.calls or any(hop.gateway is gateway for hop in self.hops):
            gateway.call_later(0.5, lambda: self._leave(host, gateway, seconds))
            return
        gateway.flush()
        if gateway.ownership is not None:
            gateway.ownership.leave()
        self._bury(host, gateway)
        self.clock.call_later(seconds, lambda: self._start(host))

    def lose_machine(self, machine: str, seconds: float, *, is_forgotten: bool) -> None:
        """A machine is off: its gateways are dead, and nobody can read their journals until it is on again."""
        hosts = [host for host in self.hosts.values() if host.machine == machine and host.gateway is not None]
        names = [host.gateway.name for host in hosts if host.gateway is not None]
        for host in hosts:
            self.crash(host, seconds)
        away = [run for run in self.ledger.runs if run.machine == machine]
        for run in away:
            run.is_away = True
        if is_forgotten:
            self.store.forgotten_us |= dict.fromkeys(names, self.control_us())

        def comes_back() -> None:
            for run in away:
                run.is_away = False

        self.clock.call_later(seconds - 0.01, comes_back)

    def cut_off(self, one: str, other: str, seconds: float) -> None:
        """The way between two gateways is cut."""
        pair = frozenset((one, other))
        self.cut.add(pair)
        for hop in list(self.hops):
            if hop.owner is not None and frozenset((_host(hop.gateway), _host(hop.owner))) == pair:
                hop.gateway.do(hop.lose_owner)
        self.clock.call_later(seconds, lambda: self.cut.discard(pair))

    def reach(self, gateway: Gateway, gateway_id: str) -> Gateway | None:
        found = next((one for one in self.gateways() if one.name == gateway_id), None)
        if found is None or frozenset((_host(gateway), _host(found))) in self.cut:
            return None
        return found

    # The directory

    def change(self, slug: str, changed: Tenant, *, is_noticed: bool) -> None:
        """Each gateway hears of it by itself, or finds it by looking."""
        self.clients[slug] = replace(self.clients[slug], tenant=changed)
        self._version += 1
        for host in self.hosts.values():
            hears = is_noticed and self.random.random() < NOTICED_SHARE
            self.clock.call_later(0.02 if hears else POLL_SECONDS, lambda host=host: self._tell_host(host, slug))

    def change_credential(self, slug: str, organization: str) -> None:
        """A tenant's requests go out under another organization from now on."""
        client = self.clients[slug]
        credential = Credential(f"crd_{slug}_{organization}", slug, self.upstreams[organization], "")
        self.clients[slug] = replace(client, organization=organization)
        self.change(slug, replace(client.tenant, credential=credential, fallback=None), is_noticed=True)

    def change_fallback(self, slug: str, organization: str | None) -> None:
        """What a tenant falls back to links its cell with another one."""
        client = self.clients[slug]
        other = Credential(f"crd_{slug}_b", f"{slug}-b", self.upstreams[organization], "") if organization else None
        self.change(slug, replace(client.tenant, fallback=other), is_noticed=True)

    def _tell_host(self, host: Host, slug: str) -> None:
        gateway = host.gateway
        if gateway is None:
            return
        if not host.sees_store:
            self.clock.call_later(POLL_SECONDS, lambda: self._tell_host(host, slug))
            return
        gateway.do(lambda: self._apply(gateway, slug))

    def _apply(self, gateway: Gateway, slug: str) -> None:
        client = gateway.clients[slug] = self.clients[slug]
        snapshot = Snapshot(
            self._version,
            {one.key.digest: one.key for one in gateway.clients.values()},
            {one.tenant.tenant_id: one.tenant for one in gateway.clients.values()},
        )
        gateway.apply(Change(snapshot, frozenset((client.tenant.tenant_id,)), frozenset((client.key.digest,))))

    # Requests

    def ask(self, slug: str, wants: Wants, leaves_after: float | None) -> None:
        self.requests += 1
        gateways = [one for one in self.gateways() if not one.is_stopping]
        if not gateways:
            self.outcomes["no_gateway"] += 1
            return
        at = sum(slug.encode()) if self.random.random() < HASHED_SHARE else self.random.randrange(99)
        gateway = gateways[at % len(gateways)]
        request = Request(self.requests, slug, gateway)
        self.open[request] = None
        gateway.do(lambda: self._begin(gateway, request, gateway.clients[slug], wants))
        if leaves_after is not None:
            gateway.call_later(leaves_after, lambda: request.leave() if request.leave is not None else None)

    def _begin(self, gateway: Gateway, request: Request, client: Client, wants: Wants) -> None:
        def passes(call: Call, owner: At) -> None:
            self._pass(request, call, owner)

        request.has_begun = True
        call = Call(gateway, client, wants, lambda call: self._answer(request, call, call.reason), passes)
        request.leave = call.leave
        call.start()

    def _pass(self, request: Request, call: Call, owner: At) -> None:
        self.outcomes["(passed on)"] += 1

        def ended(found: Call | None, reason: str) -> None:
            self.hops.pop(hop, None)
            self._answer(request, found or call, reason)

        def back() -> None:
            self.hops.pop(hop, None)
            gateway = call.gateway
            self._begin(gateway, request, gateway.clients[request.slug], call.wants)

        hop = Hop(self, call, ended, back)
        self.hops[hop] = None
        request.leave = hop.leave
        hop.go(owner)

    def _answer(self, request: Request, call: Call, reason: str) -> None:
        self._count(request, reason)
        self.tell(f"{request.slug} {call.name}: {reason or 'served'}")

    def _count(self, request: Request, reason: str) -> None:
        request.answers += 1
        request.leave = None
        if request.answers > 1:
            self.twice.append(request.number)
        self.open.pop(request, None)
        self.outcomes[reason or "served"] += 1


def _host(gateway: Gateway) -> str:
    return gateway.name.split("-")[0]
