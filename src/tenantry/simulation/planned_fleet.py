"""Several gateways of a scenario: who serves whom, what is passed on, and what the store is asked for."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any
from zlib import crc32

from tenantry.domain.cells import Linkage
from tenantry.domain.doubts import Doubt
from tenantry.domain.opening import Opening
from tenantry.domain.owners import At
from tenantry.simulation.calls import Call
from tenantry.simulation.chance import chance
from tenantry.simulation.figures import percentile
from tenantry.simulation.gateway import Client, Gateway, Surroundings, Wants
from tenantry.simulation.hops import Hop
from tenantry.simulation.leftovers import Takeover
from tenantry.simulation.ownership import Ownership, Terms
from tenantry.simulation.scenario import BY_TENANT, Fleet
from tenantry.simulation.store import Line, Store

# A gateway asks for the directory's version so often, beside the notices (`storage/notices.py`).
POLLS_PER_SECOND = 2.0


class NothingBefore:
    """Books of a site that begins: nobody has spent anything, and nobody dies."""

    def open_tenants(self, tenant_ids: Sequence[str], at_us: int, me: str) -> Takeover:
        return Takeover(Opening(at_us), [], {})

    def look_again(self, doubts: Sequence[Doubt], at_us: int, me: str) -> tuple[list[Doubt], set[str]]:
        return list(doubts), set()

    def is_dead(self, gateway_id: str, me: str) -> bool:
        return False


class PlannedFleet:
    """`passed`: requests that came to another gateway than their tenant's; `waits`: for the store, seconds."""

    def __init__(
        self, surroundings: Surroundings, clients: Mapping[str, Client], plan: Fleet, seed: int, start_us: int
    ) -> None:
        self.passed = 0
        self.waits = array("d")
        self.store = Store(surroundings.clock)
        self._clients = clients
        self._plan = plan
        self._random: Random = chance(seed, "balancer")
        links = Linkage()
        books, terms = NothingBefore(), Terms(plan.lease_seconds, plan.envelope_nanos)
        self.gateways: dict[str, Gateway] = {}
        for number in range(plan.gateways):
            name = f"g{number + 1}"
            line = Line(surroundings.clock, chance(seed, name))

            def own(gateway: Gateway, line: Line = line) -> Ownership:
                return Ownership(gateway, self.store, line, books, terms)

            gateway = Gateway(name, surroundings, Opening(start_us), own=own, envelope_nanos=plan.envelope_nanos)
            self.gateways[name] = gateway
            if gateway.ownership is not None:
                gateway.ownership.links = links
        first = next(iter(self.gateways.values()))
        if first.ownership is not None:
            first.ownership.link({one.tenant.tenant_id: one.tenant for one in clients.values()})
        self._names = list(self.gateways)

    def begin(self) -> None:
        """They come one after the other, as processes do: their renewals are not all at one moment."""
        for number, gateway in enumerate(self.gateways.values()):
            if gateway.ownership is not None:
                gateway.call_later(number * self._plan.lease_seconds / 10 / len(self._names), gateway.ownership.begin)

    def rest(self) -> None:
        """What is done by the clock ends."""
        for gateway in self.gateways.values():
            gateway.busy_until = 0.0

    def owner_of(self, client: Client) -> Gateway | None:
        return self.gateways.get(self.store.owner_of(client.tenant.tenant_id))

    def reach(self, gateway: Gateway, gateway_id: str) -> Gateway | None:
        return self.gateways.get(gateway_id)

    def ask(self, slug: str, wants: Wants, ended: Callable[[Call, str], None]) -> None:
        """One request, at the gateway that a balancer chooses."""
        names = self._names
        at = crc32(slug.encode()) if self._plan.balancer == BY_TENANT else self._random.randrange(len(names))
        self._begin(self.gateways[names[at % len(names)]], slug, wants, ended)

    def _begin(self, gateway: Gateway, slug: str, wants: Wants, ended: Callable[[Call, str], None]) -> None:
        def passes(call: Call, owner: At) -> None:
            self._pass(call, owner, ended)

        def done(call: Call) -> None:
            self._waited(call)
            ended(call, call.reason)

        Call(gateway, self._clients[slug], wants, done, passes).start()

    def _waited(self, call: Call) -> None:
        if call.claimed > 0.0:
            self.waits.append(call.claimed)

    def _pass(self, call: Call, owner: At, ended: Callable[[Call, str], None]) -> None:
        self.passed += 1
        call.claimed = call.gateway.surroundings.clock.now - call.came_at
        self._waited(call)

        def answered(found: Call | None, reason: str) -> None:
            ended(found or call, reason)

        def back() -> None:
            self._begin(call.gateway, call.client.tenant.slug, call.wants, ended)

        Hop(self, call, answered, back).go(owner)

    def as_json(self, seconds: float, requests: int) -> dict[str, Any]:
        waits = array("d", sorted(self.waits))
        rates = {kind: round(count / seconds, 3) for kind, count in sorted(self.store.statements.items())}
        return {
            "gateways": len(self.gateways),
            "balancer": self._plan.balancer,
            "requests_passed_on": self.passed,
            "passed_on_percent": round(100 * self.passed / max(1, requests), 1),
            "requests_waited_for_the_store": len(waits),
            "store_wait_p99_seconds": round(percentile(waits, 0.99), 4),
            "store_statements_per_second": rates | {"poll": POLLS_PER_SECOND * len(self.gateways)},
        }
