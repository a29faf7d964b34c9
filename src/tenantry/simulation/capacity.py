"""Capacity planning: a scenario, run to its end, and what it showed."""

from __future__ import annotations

from collections.abc import Callable

from tenantry.domain.directory import UNLIMITED, Credential, GatewayKey, KeyStatus, Tenant, TenantStatus, Upstream
from tenantry.domain.opening import Opening
from tenantry.domain.prices import PriceTable
from tenantry.simulation.arrivals import Arrivals
from tenantry.simulation.calls import Call
from tenantry.simulation.chance import chance
from tenantry.simulation.clock import Clock
from tenantry.simulation.figures import Figures, TenantFigures
from tenantry.simulation.gateway import Client, Gateway, Surroundings, Wants
from tenantry.simulation.planned_fleet import PlannedFleet
from tenantry.simulation.scenario import Scenario
from tenantry.simulation.upstream import Organization

# Limits are looked at so often over a run: means to a percent, whatever its length.
SAMPLES = 4_000
# A run goes on in so many steps, so that somebody can be told how far it is.
STEPS = 100
# Those that are under way at the end are waited for, so long.
TAIL_SECONDS = 1_200.0

Came = Callable[[float], None]


def clients_of(scenario: Scenario) -> dict[str, Client]:
    """The directory of a scenario: each tenant has one key, and a credential of its organization."""
    upstreams = {
        name: Upstream(
            f"ups_{name}",
            name,
            "https://simulated.invalid",
            capacity=one.limits if one.declared else UNLIMITED,
            shares_capacity=True,
        )
        for name, one in scenario.organizations.items()
    }
    found: dict[str, Client] = {}
    for slug, plan in scenario.tenants.items():
        tenant_id = f"tnt_{slug}"
        credential = Credential(f"crd_{slug}", slug, upstreams[plan.organization], "")
        tenant = Tenant(
            tenant_id, slug, slug, TenantStatus.ACTIVE, plan.tier, plan.limits, credential, budget=plan.budget
        )
        key = GatewayKey(f"key_{slug}", tenant_id, slug.encode(), KeyStatus.ACTIVE)
        found[slug] = Client(tenant, key, plan.organization)
    return found


class Planning:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario, prices: PriceTable) -> None:
        self.scenario = scenario
        self.clock = Clock()
        self.surroundings = Surroundings(
            self.clock, chance(scenario.seed, "site"), prices, scenario.zone, scenario.start_us
        )
        for name, one in scenario.organizations.items():
            self.surroundings.organizations[name] = Organization(
                name, one.limits, one.manner, self.clock, chance(scenario.seed, name)
            )
        self.gateway = Gateway("g", self.surroundings, Opening(scenario.start_us))
        self.clients = clients_of(scenario)
        plan = scenario.fleet
        is_alone = plan.gateways == 1
        self.fleet = (
            None if is_alone else PlannedFleet(self.surroundings, self.clients, plan, scenario.seed, scenario.start_us)
        )
        self.figures = Figures(
            scenario.seconds,
            {slug: TenantFigures(slug, plan.tier) for slug, plan in scenario.tenants.items()},
        )
        self._is_open = True
        self._slug_of = {client.tenant.tenant_id: slug for slug, client in self.clients.items()}
        self._name_of = {f"ups_{name}": name for name in scenario.organizations}

    def run(self, came: Came | None = None) -> Figures:
        for slug, plan in self.scenario.tenants.items():
            for number, traffic in enumerate(plan.traffic):
                random = chance(self.scenario.seed, slug, number)
                ask = self._asker(slug)
                Arrivals(traffic, random, self.clock, self.scenario.start.astimezone(self.scenario.zone), ask).begin()
        if self.fleet is not None:
            self.fleet.begin()
        self._look()
        seconds = self.scenario.seconds
        for step in range(1, STEPS + 1):
            self.clock.run(seconds * step / STEPS)
            if came is not None:
                came(step / STEPS)
        self._is_open = False
        if self.fleet is not None:
            self.figures.fleet = self.fleet.as_json(seconds, self.figures.requests)
            self.fleet.rest()
        self.clock.run(seconds + TAIL_SECONDS)
        self.figures.upstream_refusals = {name: one.refused for name, one in self.surroundings.organizations.items()}
        self.figures.finish()
        return self.figures

    def _asker(self, slug: str) -> Callable[[Wants], None]:
        return lambda wants: self._ask(slug, wants)

    def _ask(self, slug: str, wants: Wants) -> None:
        if not self._is_open:
            return
        figures, one = self.figures, self.figures.tenants[slug]
        figures.requests += 1
        one.asked += 1
        one.asked_in[figures.slot(self.clock.now)] += 1
        if self.fleet is not None:
            self.fleet.ask(slug, wants, lambda call, reason: self._ended(one, call, reason))
        else:
            Call(self.gateway, self.clients[slug], wants, lambda call: self._ended(one, call, call.reason)).start()

    def _ended(self, one: TenantFigures, call: Call, reason: str) -> None:
        slot = self.figures.slot(call.came_at)
        one.cost_nanos += call.cost_nanos
        if reason:
            one.refusals[reason] += 1
            one.refused_in[slot] += 1
        else:
            one.served += 1
            one.waits.append(call.waited)
            one.wait_in[slot] = max(one.wait_in[slot], call.waited)
        self._blame(one, call)

    def _blame(self, one: TenantFigures, call: Call) -> None:
        found = None
        if call.reason.startswith("budget"):
            found = self.figures.in_the_way(call.reason, "budget", one.slug, call.came_at)
        elif call.blamed is not None:
            lane = call.blamed
            found = self.figures.in_the_way(call.blamed_limit, lane.scope.value, self._whose(lane.name), call.came_at)
        elif call.reason.startswith("upstream_4"):
            found = self.figures.in_the_way("refused", "upstream", call.client.organization, call.came_at)
        if found is not None:
            found.seconds += call.waited
            if call.reason:
                found.refused += 1
            else:
                found.waited += 1

    def _whose(self, lane_name: str) -> str:
        first = lane_name.split(" ", 1)[0]
        return self._slug_of.get(first) or self._name_of.get(first, first)

    def _look(self) -> None:
        now = self.clock.now
        for slug, client in self.clients.items():
            gateway = self.gateway if self.fleet is None else self.fleet.owner_of(client)
            if gateway is not None:
                self.figures.sample(gateway.lanes.register.lane_of(client.tenant, now), slug, now)
        for name, organization in self.surroundings.organizations.items():
            self.figures.sample(organization.lane, name, now)
        if self._is_open:
            self.clock.call_later(max(1.0, self.scenario.seconds / SAMPLES), self._look)


def plan_capacity(scenario: Scenario, prices: PriceTable, came: Came | None = None) -> Figures:
    """Run a scenario. `came` is told how much of it is done."""
    return Planning(scenario, prices).run(came)
