"""Cells: in no order of events do two gateways grant for one tenant or one capacity, and no budget is passed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tenantry.domain import cells
from tenantry.domain.budgets import Budget, Cap
from tenantry.domain.ceilings import Ceiling, unknown
from tenantry.domain.cells import (
    CellRow,
    Component,
    Linkage,
    Tenure,
    group_of,
    groups_of,
    judge,
    lease_end,
    names_to_read,
)
from tenantry.domain.holds import CEILING, Account, Hold, place

UTC = ZoneInfo("UTC")
NOON_US = 1_795_608_000_000_000
LEASE = 30.0
BUDGET = 1_000
LEAST = 50
GATEWAYS = ("gw-a", "gw-b", "gw-c")
TENANTS = ("acme", "bolt", "cato")
CAPACITIES = ("org-1", "org-2", "org-3")


def linkage(directory: Mapping[str, tuple[str, ...]]) -> Linkage:
    links = Linkage()
    for tenant_id, capacities in directory.items():
        links.put(tenant_id, capacities)
    return links


class Store:
    """What the store does in one transaction each; `now` is its clock, seconds.

    `tests/unit/storage/test_cells.py` puts the real one in its place.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.leases: dict[str, float] = {}
        self.cells: dict[str, tuple[str, int]] = {}
        self.pins: dict[str, str] = {}
        self.takings: dict[tuple[str, str], int] = {}
        self.booked: list[tuple[str, str, int]] = []  # gateway, tenant, cost
        self.closed: set[str] = set()

    def is_live(self, gateway_id: str) -> bool:
        return self.leases.get(gateway_id, 0.0) > self.now

    def renew(self, gateway_id: str) -> bool:
        if not self.is_live(gateway_id):
            return False
        self.leases[gateway_id] = self.now + LEASE
        return True

    def rejoin(self, gateway_id: str) -> tuple[dict[str, int], dict[str, str]]:
        self.leases[gateway_id] = self.now + LEASE
        mine = {name: epoch for name, (owner, epoch) in self.cells.items() if owner == gateway_id}
        return mine, {tenant: cell for tenant, cell in self.pins.items() if cell in mine}

    def claim(
        self, gateway_id: str, tenant_id: str, component: Component
    ) -> tuple[str, dict[str, int], dict[str, str]] | None:
        """Whose the tenant is, the claimant's cells of the component, and its pins; None: its own lease has run out."""
        if not self.is_live(gateway_id):
            return None
        names = names_to_read(component, self.pins)
        rows = {
            name: CellRow(name, *self.cells[name], self.is_live(self.cells[name][0]))
            for name in names
            if name in self.cells
        }
        verdict = judge(gateway_id, tenant_id, component, rows, self.pins)
        for name in verdict.take:
            self.cells[name] = (gateway_id, self.cells.get(name, ("", 0))[1] + 1)
        self.pins.update(verdict.pins)
        mine = {name: self.cells[name][1] for name in names if self.cells.get(name, ("", 0))[0] == gateway_id}
        return verdict.owner, mine, {one: self.pins[one] for one in component.homes if one in self.pins}

    def take(self, gateway_id: str, tenant_id: str, taken: int) -> bool:
        owner = self.cells.get(self.pins.get(tenant_id, ""), ("", 0))[0]
        if owner != gateway_id or not self.is_live(gateway_id):
            return False
        self.takings[gateway_id, tenant_id] = taken
        return True

    def give(self, gateway_id: str, epochs: Mapping[str, int], to: str, lowered: Mapping[str, int]) -> bool:
        is_mine = all(self.cells.get(name) == (gateway_id, epoch) for name, epoch in epochs.items())
        if not is_mine or not self.is_live(gateway_id) or not self.is_live(to):
            return False
        for name, epoch in epochs.items():
            self.cells[name] = (to, epoch + 1)
        for tenant_id, taken in lowered.items():
            self.takings[gateway_id, tenant_id] = min(taken, self.takings.get((gateway_id, tenant_id), 0))
        return True

    def lend(self, owner: str, gateway_id: str, tenant_id: str, taken: int) -> bool:
        if self.cells.get(self.pins.get(tenant_id, ""), ("", 0))[0] != owner or not self.is_live(owner):
            return False
        self.takings[gateway_id, tenant_id] = max(taken, self.takings.get((gateway_id, tenant_id), 0))
        return True

    def taken(self) -> dict[tuple[str, str], int]:
        return self.takings

    def known(self, gateway_id: str, tenant_id: str) -> int:
        return sum(cost for gateway, tenant, cost in self.booked if (gateway, tenant) == (gateway_id, tenant_id))


@dataclass
class Doubt:
    nanos: int
    known: int


@dataclass
class Opened:
    """What was read for a tenant, on its way to the gateway."""

    life: int
    cells: dict[str, int]
    tenant_id: str
    cell: str
    spent: int
    before: int
    doubts: dict[str, Doubt]


@dataclass
class Gateway:
    """One gateway: its own clock, what it knows, what it has in flight, its journal on its own disk."""

    gateway_id: str
    offset: float
    pace: float
    tenure: Tenure = field(default_factory=Tenure)
    links: Linkage = field(default_factory=Linkage)
    accounts: dict[str, Account] = field(default_factory=dict[str, Account])
    doubts: dict[tuple[str, str], Doubt] = field(default_factory=dict[tuple[str, str], Doubt])
    coming: list[Opened] = field(default_factory=list[Opened])
    renewing: tuple[float, int] | None = None
    flights: list[tuple[str, Hold]] = field(default_factory=list[tuple[str, Hold]])
    journal: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    drained: int = 0
    is_dead: bool = False

    def clock(self, store: Store) -> float:
        return self.offset + store.now * self.pace

    def may_grant(self, tenant_id: str, capacity: str, store: Store) -> bool:
        return not self.is_dead and self.tenure.may_grant(tenant_id, capacity, self.clock(store))


class Cluster:
    """Claims, lapses, pauses, deaths, and directories that are seen late, in any order: `random` says which."""

    def __init__(self, random: Random, store: Store | None = None) -> None:
        self.random = random
        self.store = Store() if store is None else store
        self.directories = [
            {tenant: tuple(random.sample(CAPACITIES, random.choice((1, 1, 2)))) for tenant in TENANTS} for _ in range(3)
        ]
        self.gateways = {
            name: Gateway(name, random.uniform(0.0, 9_999.0), random.choice((0.995, 1.0, 1.005))) for name in GATEWAYS
        }
        for gateway in self.gateways.values():
            gateway.links = linkage(self.directories[0])
            self._join(gateway)

    def step(self) -> None:
        """One event; then every promise is looked at."""
        name, tenant = self.random.choice(GATEWAYS), self.random.choice(TENANTS)
        self.random.choices([*EVENTS], [*EVENTS.values()])[0](self, name, tenant)
        self.one_grants_for_a_tenant()
        self.one_grants_for_a_capacity()
        self.no_budget_is_passed()

    def _join(self, gateway: Gateway) -> None:
        sent_at = gateway.clock(self.store)
        gateway.tenure.lapse()
        found = self.store.rejoin(gateway.gateway_id)
        if self.random.random() < 0.1:
            return  # nobody hears of it
        for tenant_id in gateway.tenure.keep(*found, lease_end(sent_at, LEASE)):
            self._lose(gateway, tenant_id)

    def _lose(self, gateway: Gateway, tenant_id: str) -> None:
        for key in [key for key in gateway.doubts if key[1] == tenant_id]:
            gateway.accounts[tenant_id].doubt(-gateway.doubts.pop(key).nanos)

    # The clock, the lease

    def time_goes_on(self, _name: str, _tenant: str) -> None:
        self.store.now += self.random.choice((0.1, 0.1, 1.0, 1.0, 5.0, 5.0, 14.0, 29.0, 29.4, 29.9, 31.0, 60.0))

    def asks_to_renew(self, name: str, _tenant: str) -> None:
        gateway = self.gateways[name]
        if gateway.is_dead or gateway.renewing is not None:
            return
        sent_at = gateway.clock(self.store)
        if self.store.renew(name) and not gateway.tenure.is_between:
            gateway.renewing = (lease_end(sent_at, LEASE), gateway.tenure.life)
        else:
            self._join(gateway)

    def hears_that_it_is_renewed(self, name: str, _tenant: str) -> None:
        gateway = self.gateways[name]
        if gateway.renewing is not None:
            gateway.tenure.renewed(*gateway.renewing)
            gateway.renewing = None

    def sees_another_directory(self, name: str, _tenant: str) -> None:
        self.gateways[name].links = linkage(self.random.choice(self.directories))

    def dies(self, name: str, _tenant: str) -> None:
        self.gateways[name].is_dead = True

    # Claims

    def claims(self, name: str, tenant: str) -> None:
        gateway, store = self.gateways[name], self.store
        if gateway.is_dead or tenant in gateway.tenure.tenants:
            return
        life = gateway.tenure.life
        found = store.claim(name, tenant, gateway.links.around(tenant))
        if found is None or found[0] != name:
            return
        _, mine, pins = found
        gateway.tenure.take(mine, pins, life)
        if pins.get(tenant) in mine:
            gateway.coming.append(self._read(gateway, tenant, mine, pins[tenant], life))

    def _read(self, gateway: Gateway, tenant: str, mine: dict[str, int], cell: str, life: int) -> Opened:
        """What the ledger says, its own journal, and what others have taken that cannot be asked."""
        store = self.store
        own = gateway.journal[gateway.drained :]
        spent = sum(cost for _, one, cost in store.booked if one == tenant) + sum(c for one, c in own if one == tenant)
        account = gateway.accounts.get(tenant)
        before = account.used_nanos - _held(gateway, tenant) if account is not None else 0
        doubts = {
            other: Doubt(unknown(taken, store.known(other, tenant)), store.known(other, tenant))
            for (other, one), taken in store.taken().items()
            if one == tenant and other != gateway.gateway_id and other not in store.closed
        }
        return Opened(life, mine, tenant, cell, spent, before, doubts)

    def opens(self, name: str, _tenant: str) -> None:
        gateway = self.gateways[name]
        if gateway.is_dead or not gateway.coming:
            return
        opened = gateway.coming.pop(0)
        tenant = opened.tenant_id
        if tenant in gateway.tenure.tenants or not gateway.tenure.open(tenant, opened.cell, opened.life):
            return
        account = gateway.accounts.get(tenant)
        if account is None:
            budget = Budget((Cap("month", BUDGET, ()),), "hard")
            account = gateway.accounts[tenant] = Account(tenant, budget, UTC, {"month": opened.spent}, NOON_US)
            account.limit_by(Ceiling(LEAST))
        else:
            since = account.used_nanos - _held(gateway, tenant) - opened.before
            account.begin_again({"month": opened.spent}, NOON_US, since)
        for other, doubt in opened.doubts.items():
            gateway.doubts[other, tenant] = doubt
            account.doubt(doubt.nanos)

    # Moves

    def gives(self, name: str, tenant: str) -> None:
        """What it is in the middle of stays here, under what is left of what it has taken."""
        gateway, tenure = self.gateways[name], self.gateways[name].tenure
        cell = tenure.tenants.get(tenant)
        if gateway.is_dead or cell is None:
            return
        group = group_of([cell], tenure.cells, gateway.links, tenure.tenants)
        epochs = {one: tenure.cells[one] for one in group}
        gone = tenure.release(group)
        lowered: dict[str, int] = {}
        for one in gone:
            self._lose(gateway, one)
            lowered[one] = what_stays(gateway.accounts[one])
            gateway.accounts[one].lower_ceiling(lowered[one])
        # Whether or not it hears what became of that: it does not grant until it has asked.
        self.store.give(name, epochs, self.random.choice([one for one in GATEWAYS if one != name]), lowered)

    def lends(self, name: str, _tenant: str) -> None:
        """An answer that has stayed may cost more: the next owner is asked, and holds it first."""
        giver, store = self.gateways[name], self.store
        stayed = [(one, hold) for one, hold in giver.flights if one not in giver.tenure.tenants]
        owners = [
            (one, tenant, hold)
            for one in self.gateways.values()
            for tenant, hold in stayed
            if (name, tenant) in one.doubts
        ]
        if giver.is_dead or not owners:
            return
        owner, tenant, hold = self.random.choice(owners)
        if owner.is_dead or tenant not in owner.tenure.tenants:
            return
        more = min(4 * LEAST, owner.accounts[tenant].left_nanos(NOON_US))
        taken = store.taken().get((name, tenant), 0) + more
        hold_what_is_lent(owner.accounts[tenant], owner.doubts[name, tenant], more)
        if store.lend(owner.gateway_id, name, tenant, taken):
            giver.accounts[tenant].taken(taken, NOON_US)
            hold.extend(more, NOON_US)

    # Requests

    def is_asked(self, name: str, tenant: str) -> None:
        gateway, store = self.gateways[name], self.store
        for capacity in gateway.links.capacities_of(tenant):
            if gateway.may_grant(tenant, capacity, store):
                nanos = self.random.randint(1, 300)
                account = gateway.accounts[tenant]
                found = place([account], nanos, NOON_US)
                if not isinstance(found, Hold) and found.period == CEILING:
                    self._raise(gateway, tenant, account)
                    found = place([account], nanos, NOON_US)
                if isinstance(found, Hold):
                    gateway.flights.append((tenant, found))
                return

    def _raise(self, gateway: Gateway, tenant: str, account: Account) -> None:
        ceiling = account.ceiling
        assert ceiling is not None
        wanted = ceiling.next_taken(account.used_nanos, account.left_nanos(NOON_US))
        if self.store.take(gateway.gateway_id, tenant, wanted):
            account.taken(wanted, NOON_US)

    def an_answer_ends(self, name: str, _tenant: str) -> None:
        gateway = self.gateways[name]
        if gateway.is_dead or not gateway.flights:
            return
        tenant, hold = gateway.flights.pop(0)
        cost = int(hold.held_nanos * self.random.choice((0.0, 0.3, 0.9, 1.0, 1.0)))
        hold.settle(cost, NOON_US)
        gateway.journal.append((tenant, cost))

    def an_answer_grows(self, name: str, _tenant: str) -> None:
        gateway = self.gateways[name]
        if not gateway.is_dead and gateway.flights:
            gateway.flights[0][1].extend(self.random.randint(1, 300), NOON_US)

    # Booking

    def is_drained(self, name: str, _tenant: str) -> None:
        self._drain(name, self.random.randint(1, 3))

    def _drain(self, name: str, lines: int) -> None:
        gateway, store = self.gateways[name], self.store
        for tenant, cost in gateway.journal[gateway.drained : gateway.drained + lines]:
            store.booked.append((name, tenant, cost))
            gateway.drained += 1

    def is_booked_to_its_end(self, name: str, _tenant: str) -> None:
        """Of a dead one: what it had in flight is booked at its hold."""
        gateway, store = self.gateways[name], self.store
        if not gateway.is_dead or name in store.closed:
            return
        gateway.journal += [(tenant, hold.held_nanos) for tenant, hold in gateway.flights]
        gateway.flights.clear()
        self._drain(name, len(gateway.journal))
        store.closed.add(name)

    def looks_what_is_known_by_now(self, name: str, _tenant: str) -> None:
        gateway, store = self.gateways[name], self.store
        for (other, tenant), doubt in list(gateway.doubts.items()):
            if tenant not in gateway.tenure.tenants:
                continue
            account, known = gateway.accounts[tenant], store.known(other, tenant)
            found = known - doubt.known
            less = doubt.nanos if other in store.closed else min(doubt.nanos, found)
            account.find({"month": found}, NOON_US)
            account.doubt(-less)
            doubt.known, doubt.nanos = known, doubt.nanos - less
            if other in store.closed:
                del gateway.doubts[other, tenant]

    # The promises

    def one_grants_for_a_tenant(self) -> None:
        for tenant in TENANTS:
            granting = [one.gateway_id for one in self.gateways.values() if one.may_grant(tenant, "", self.store)]
            assert len(granting) <= 1, (tenant, granting)

    def one_grants_for_a_capacity(self) -> None:
        for capacity in CAPACITIES:
            granting = [
                one.gateway_id
                for one in self.gateways.values()
                if any(one.may_grant(tenant, capacity, self.store) for tenant in TENANTS)
            ]
            assert len(granting) <= 1, (capacity, granting)

    def no_budget_is_passed(self) -> None:
        for tenant in TENANTS:
            real = sum(
                sum(cost for one, cost in gateway.journal if one == tenant) + _held(gateway, tenant)
                for gateway in self.gateways.values()
            )
            assert real <= BUDGET, tenant


def what_stays(account: Account) -> int:
    """What a giver has used; that is what the next owner counts of it."""
    return account.used_nanos


def hold_what_is_lent(account: Account, doubt: Doubt, more: int) -> None:
    account.doubt(more)
    doubt.nanos += more


def _held(gateway: Gateway, tenant: str) -> int:
    return sum(hold.held_nanos for one, hold in gateway.flights if one == tenant)


# What happens, and how often beside the others.
EVENTS: dict[Callable[[Cluster, str, str], None], float] = {
    Cluster.time_goes_on: 4,
    Cluster.asks_to_renew: 5,
    Cluster.hears_that_it_is_renewed: 5,
    Cluster.sees_another_directory: 1,
    Cluster.dies: 0.03,
    Cluster.claims: 8,
    Cluster.opens: 8,
    Cluster.gives: 1,
    Cluster.lends: 4,
    Cluster.is_asked: 12,
    Cluster.an_answer_ends: 6,
    Cluster.an_answer_grows: 3,
    Cluster.is_drained: 2,
    Cluster.is_booked_to_its_end: 1,
    Cluster.looks_what_is_known_by_now: 3,
}
CLUSTERS, STEPS = 100, 400


def storm(clusters: int, steps: int = STEPS, make_store: Callable[[int], Store] | None = None) -> int:
    """Each cluster has a seed, which repeats what happens to it. How many answers have ended."""
    ended = 0
    for seed in range(clusters):
        cluster = Cluster(Random(seed), make_store(seed) if make_store is not None else None)
        for step in range(steps):
            try:
                cluster.step()
            except AssertionError as error:
                error.add_note(f"seed {seed}, step {step}")
                raise
        ended += sum(len(gateway.journal) for gateway in cluster.gateways.values())
    return ended


def row(name: str, gateway_id: str, *, is_live: bool = True) -> dict[str, CellRow]:
    return {name: CellRow(name, gateway_id, 3, is_live)}


def test_what_tenants_link_is_one_component() -> None:
    links = linkage({"acme": ("org-1",), "bolt": ("org-2", "org-1"), "cato": ("org-3",)})
    assert links.around("acme") == Component({"acme": "org-1", "bolt": "org-2"}, ("org-1", "org-2"))
    links.put("bolt", ("org-3",))
    assert links.around("acme").capacities == ("org-1",)
    links.put("acme", ())
    assert links.around("acme") == Component({}, ())


def test_a_lease_that_is_had_again_says_nothing_of_cells_until_the_store_has_told_which_are_kept() -> None:
    tenure = Tenure()
    tenure.renewed(100.0, tenure.life)
    tenure.take({"org-1": 1}, {}, tenure.life)
    tenure.open("acme", "org-1", tenure.life)
    tenure.lapse()
    tenure.renewed(200.0, tenure.life)  # the store knows it as living; what it owns, it was told, and did not hear
    assert not tenure.may_grant("acme", "org-1", 150.0)
    assert tenure.keep({"org-1": 2}, {"acme": "org-1"}, 200.0) == ["acme"]
    assert not tenure.may_grant("acme", "org-1", 150.0)


def test_who_claims_a_tenant_takes_all_that_is_linked() -> None:
    component = linkage({"acme": ("org-1",), "bolt": ("org-2", "org-1")}).around("acme")
    found = judge("gw-a", "acme", component, row("org-1", "gw-dead", is_live=False), {})
    assert found == cells.Verdict("gw-a", ("org-1", "org-2"), {"acme": "org-1", "bolt": "org-2"}, is_whole=True)


def test_a_tenant_goes_to_who_owns_what_it_is_linked_to() -> None:
    component = linkage({"acme": ("org-1",), "bolt": ("org-2", "org-1")}).around("acme")
    assert judge("gw-a", "acme", component, row("org-2", "gw-b"), {}).owner == "gw-b"
    assert judge("gw-b", "acme", component, row("org-2", "gw-b"), {}).take == ("org-1",)


def test_a_tenant_that_changed_its_credential_stays_whose_it_was_until_it_is_moved() -> None:
    component = linkage({"acme": ("org-2",)}).around("acme")
    rows = row("org-1", "gw-a") | row("org-2", "gw-b")
    assert judge("gw-b", "acme", component, rows, {"acme": "org-1"}).owner == "gw-a"
    found = judge("gw-a", "acme", component, rows, {"acme": "org-1"})
    assert found == cells.Verdict("gw-a", (), {}, is_whole=False)


def test_what_moves_with_a_cell_is_what_tenants_link_with_it_here() -> None:
    links = linkage({"acme": ("org-1",), "bolt": ("org-2", "org-1"), "cato": ("org-3",)})
    owned = ("org-1", "org-2", "org-3")
    assert group_of(["org-1"], owned, links, {}) == ("org-1", "org-2")
    assert group_of(["org-1"], ("org-1", "org-3"), links, {}) == ("org-1",)
    assert group_of(["org-3"], owned, links, {"cato": "org-2"}) == ("org-1", "org-2", "org-3")
    assert groups_of(owned, links, {}) == [("org-1", "org-2"), ("org-3",)]
    assert groups_of(owned, links, {"cato": "org-2"}) == [("org-1", "org-2", "org-3")]


class Pins(dict[str, str]):
    """Which counts how often it was looked through."""

    looks = 0

    def items(self) -> Any:
        self.looks += 1
        return super().items()


def test_what_moves_together_is_found_by_one_look_at_the_pins_however_many_cells_there_are() -> None:
    pins = Pins((f"tenant-{number}", f"org-{number}") for number in range(200))
    links = linkage({tenant_id: (cell,) for tenant_id, cell in pins.items()})
    pins.looks = 0
    assert len(groups_of([*pins.values()], links, pins)) == 200
    assert pins.looks == 1
    assert group_of([*pins.values()], [*pins.values()], links, pins) == tuple(sorted(pins.values()))
    assert pins.looks == 2


def test_what_is_given_away_is_granted_for_no_more() -> None:
    tenure = Tenure()
    tenure.take({"org-1": 1, "org-2": 4}, {}, tenure.life)
    tenure.renewed(100.0, tenure.life)
    assert tenure.open("acme", "org-1", tenure.life)
    assert tenure.open("bolt", "org-2", tenure.life)
    assert tenure.release(["org-1"]) == ["acme"]
    assert not tenure.may_grant("acme", "org-1", 1.0)
    assert not tenure.may_grant("bolt", "org-1", 1.0)
    assert tenure.may_grant("bolt", "org-2", 1.0)


def test_no_two_grant_and_no_budget_is_passed_in_any_order_of_events() -> None:
    assert storm(CLUSTERS) > CLUSTERS * 3


def _everyone_else_is_dead(patch: pytest.MonkeyPatch) -> None:
    true_judge = judge

    def judge_wrongly(
        me: str, tenant_id: str, component: Component, rows: Mapping[str, CellRow], pins: Mapping[str, str]
    ) -> cells.Verdict:
        return true_judge(me, tenant_id, component, {}, pins)

    patch.setattr(sys.modules[__name__], "judge", judge_wrongly)


def _no_margin_for_drift(patch: pytest.MonkeyPatch) -> None:
    def end(sent_at: float, seconds: float) -> float:
        return sent_at + seconds

    patch.setattr(sys.modules[__name__], "lease_end", end)


def _the_clock_is_read_when_the_answer_comes(patch: pytest.MonkeyPatch) -> None:
    def hears(self: Tenure, until: float, life: int) -> None:
        self.until = until + 31.0

    patch.setattr(Tenure, "renewed", hears)


def _to_have_the_lease_again_is_enough(patch: pytest.MonkeyPatch) -> None:
    def lapse(self: Tenure) -> int:
        life = true_lapse(self)
        self.is_between = False
        return life

    true_lapse = Tenure.lapse
    patch.setattr(Tenure, "lapse", lapse)


def _what_was_said_in_another_life_counts(patch: pytest.MonkeyPatch) -> None:
    def take(self: Tenure, found: Mapping[str, int], pins: Mapping[str, str], life: int) -> bool:
        self.cells.update(found)
        return True

    def open_anyway(self: Tenure, tenant_id: str, cell: str, life: int) -> bool:
        self.tenants[tenant_id] = cell
        self.cells.setdefault(cell, 1)
        return True

    patch.setattr(Tenure, "take", take)
    patch.setattr(Tenure, "open", open_anyway)


def _a_cell_is_kept_whatever_its_epoch(patch: pytest.MonkeyPatch) -> None:
    def keep(self: Tenure, found: Mapping[str, int], pins: Mapping[str, str], until: float) -> list[str]:
        self.until = until
        return []

    patch.setattr(Tenure, "keep", keep)


def _pins_are_never_read_again(patch: pytest.MonkeyPatch) -> None:
    def no_pins(self: Tenure, pins: Mapping[str, str]) -> None:
        pass

    def keep(self: Tenure, found: Mapping[str, int], pins: Mapping[str, str], until: float) -> list[str]:
        return true_keep(self, found, self.tenants.copy(), until)

    true_keep = Tenure.keep
    patch.setattr(Tenure, "_pin", no_pins)
    patch.setattr(Tenure, "keep", keep)


def _a_capacity_needs_no_owner(patch: pytest.MonkeyPatch) -> None:
    def may_grant(self: Tenure, tenant_id: str, capacity: str, now: float) -> bool:
        return now < self.until and tenant_id in self.tenants

    patch.setattr(Tenure, "may_grant", may_grant)


def _who_is_pinned_elsewhere_is_taken_all_the_same(patch: pytest.MonkeyPatch) -> None:
    true_judge = judge

    def judge_wrongly(
        me: str, tenant_id: str, component: Component, rows: Mapping[str, CellRow], pins: Mapping[str, str]
    ) -> cells.Verdict:
        found = true_judge(me, tenant_id, component, rows, {})
        return replace(found, pins={one: to for one, to in component.homes.items() if found.owner == me})

    patch.setattr(sys.modules[__name__], "judge", judge_wrongly)


def _what_the_dead_had_taken_is_nothing(patch: pytest.MonkeyPatch) -> None:
    def nothing(taken: int, known: int) -> int:
        return 0

    patch.setattr(sys.modules[__name__], "unknown", nothing)


def _who_has_lost_a_cell_goes_on_taking(patch: pytest.MonkeyPatch) -> None:
    def take(self: Store, gateway_id: str, tenant_id: str, taken: int) -> bool:
        return True

    patch.setattr(Store, "take", take)


def _what_others_have_taken_counts_as_own(patch: pytest.MonkeyPatch) -> None:
    def nothing(self: Account, spent: Mapping[str, int], at_us: int) -> None:
        pass

    patch.setattr(Account, "find", nothing)


def _who_gives_a_cell_goes_on_granting(patch: pytest.MonkeyPatch) -> None:
    def release(self: Tenure, names: Collection[str]) -> list[str]:
        return [tenant_id for tenant_id, cell in self.tenants.items() if cell in names]

    patch.setattr(Tenure, "release", release)


def _what_stays_with_the_giver_is_nothing(patch: pytest.MonkeyPatch) -> None:
    def nothing(account: Account) -> int:
        return 0

    patch.setattr(sys.modules[__name__], "what_stays", nothing)


def _what_is_lent_is_not_held(patch: pytest.MonkeyPatch) -> None:
    def nothing(account: Account, doubt: Doubt, more: int) -> None:
        pass

    patch.setattr(sys.modules[__name__], "hold_what_is_lent", nothing)


def _who_has_lost_a_cell_gives_it(patch: pytest.MonkeyPatch) -> None:
    def give(self: Store, gateway_id: str, epochs: Mapping[str, int], to: str, lowered: Mapping[str, int]) -> bool:
        for name, epoch in epochs.items():
            self.cells[name] = (to, epoch + 1)
        return True

    patch.setattr(Store, "give", give)


@pytest.mark.interpreted
@pytest.mark.parametrize(
    "plant",
    [
        _who_gives_a_cell_goes_on_granting,
        _what_stays_with_the_giver_is_nothing,
        _what_is_lent_is_not_held,
        _who_has_lost_a_cell_gives_it,
        _everyone_else_is_dead,
        _no_margin_for_drift,
        _the_clock_is_read_when_the_answer_comes,
        _to_have_the_lease_again_is_enough,
        _what_was_said_in_another_life_counts,
        _a_cell_is_kept_whatever_its_epoch,
        _pins_are_never_read_again,
        _a_capacity_needs_no_owner,
        _who_is_pinned_elsewhere_is_taken_all_the_same,
        _what_the_dead_had_taken_is_nothing,
        _who_has_lost_a_cell_goes_on_taking,
        _what_others_have_taken_counts_as_own,
    ],
)
def test_the_storm_finds_a_planted_fault(plant: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        with pytest.raises(AssertionError):
            storm(CLUSTERS * 20)


def test_the_pins_of_a_tenure_are_those_of_its_cells() -> None:
    tenure = Tenure()
    assert tenure.take({"org-1": 1, "org-2": 1}, {"acme": "org-1", "bolt": "org-2", "cord": "org-3"}, 0)
    assert tenure.pins == {"acme": "org-1", "bolt": "org-2"}  # the third one's cell is another gateway's
    tenure.release(["org-2"])
    assert tenure.pins == {"acme": "org-1"}
    assert tenure.take({"org-2": 1}, {"bolt": "org-2"}, 0)  # it stayed
    tenure.lapse()
    assert not tenure.take({"org-3": 1}, {"cord": "org-3"}, 0)  # said in another life
    assert tenure.keep({"org-1": 1, "org-2": 3}, {"acme": "org-1", "bolt": "org-2"}, 9.0) == []
    assert tenure.pins == {"acme": "org-1"}  # the other cell has been somebody else's meanwhile
    tenure.unpin("acme")
    assert tenure.pins == {}
