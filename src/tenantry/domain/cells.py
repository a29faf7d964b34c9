"""Which of several gateways grants for whom (docs/decisions/0021-cells.md).

What counts together is small: a tenant with its keys, and the capacities of its credential and fallback. A *cell* is
one capacity with the tenants that are pinned to it; it has one owner at a time, which decides in memory as a single
gateway does. Tenants that draw on two capacities link their cells, and who claims one claims all that are linked.

The rule that everything follows from: a request of a tenant is granted by the owner of the cell that the tenant is
pinned to, and goes out under a capacity only when that is the same owner's. So gateways that see the directory at
different moments disagree about links, never about who counts.

Pure: the store decides which rows are read and written together (`storage/cells.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from tenantry.domain.directory import Tenant
from tenantry.domain.values import value

# How far a gateway's own clock may be off its store's, as one part in so many. Crystals are within one in ten thousand.
DRIFT_DIVISOR: Final = 100
# Between the look at the lease and the first byte upstream: a turn of the event loop, and the kernel's.
MARGIN_SECONDS: Final = 0.5
# So often a lease is renewed within itself: nine may fail, and a store that comes back is heard of soon.
RENEWALS_PER_LEASE: Final = 10
NEVER: Final = float("-inf")
# A cell that nobody owned before has this one, and each owner one more than the one before.
FIRST_EPOCH: Final = 1


class AmongOthers(Exception):
    """Gateways of several machines share the store, and one of them is told to grant by itself."""


@value
class Component:
    """What counts together with one tenant: the capacity that each tenant draws on first, and all capacities."""

    homes: Mapping[str, str]
    capacities: tuple[str, ...]


class Linkage:
    """Who draws on which capacities, as one directory has it; a component is found by walking, not by searching."""

    __slots__ = ("_capacities", "_tenants")

    def __init__(self) -> None:
        self._capacities: dict[str, tuple[str, ...]] = {}  # by tenant, the first one first
        self._tenants: dict[str, dict[str, None]] = {}  # by capacity

    def put(self, tenant_id: str, capacities: Iterable[str]) -> None:
        """A tenant draws on these, and on no others; on none, it is gone."""
        found = tuple(dict.fromkeys(capacities))
        before = self._capacities.get(tenant_id, ())
        if found == before:
            return
        for name in before:
            tenants = self._tenants[name]
            del tenants[tenant_id]
            if not tenants:
                del self._tenants[name]
        if found:
            self._capacities[tenant_id] = found
        else:
            del self._capacities[tenant_id]
        for name in found:
            self._tenants.setdefault(name, {})[tenant_id] = None

    def capacities_of(self, tenant_id: str) -> tuple[str, ...]:
        return self._capacities.get(tenant_id, ())

    def tenants_of(self, capacity: str) -> Iterable[str]:
        return self._tenants.get(capacity, ())

    def around(self, tenant_id: str) -> Component:
        """The component of a tenant; empty for one that draws on nothing."""
        homes: dict[str, str] = {}
        capacities: dict[str, None] = dict.fromkeys(self.capacities_of(tenant_id))
        waiting = list(capacities)
        while waiting:
            for other in self._tenants[waiting.pop()]:
                if other in homes:
                    continue
                drawn = self._capacities[other]
                homes[other] = drawn[0]
                new = [name for name in drawn if name not in capacities]
                capacities.update(dict.fromkeys(new))
                waiting += new
        return Component(homes, tuple(sorted(capacities)))


@value
class CellRow:
    """A cell as the store has it. `is_live`: its owner's lease has not run out, by the store's clock."""

    name: str
    gateway_id: str
    epoch: int
    is_live: bool


@value
class Verdict:
    """Who grants for a tenant, and what is written for it: cells that become the claimant's, pins that change.

    `is_whole`: the owner has every capacity that the tenant draws on. Where it has not, two gateways own what the
    directory has linked, and the tenant waits for a move, or goes on without its fallback.
    """

    owner: str
    take: tuple[str, ...]
    pins: Mapping[str, str]
    is_whole: bool


def names_to_read(component: Component, pins: Mapping[str, str]) -> tuple[str, ...]:
    """The cells on which a claim depends: those of the component, and those that its tenants are pinned to."""
    pinned = {pins[tenant_id] for tenant_id in component.homes if tenant_id in pins}
    return tuple(sorted({*component.capacities, *pinned}))


def judge(
    me: str, tenant_id: str, component: Component, cells: Mapping[str, CellRow], pins: Mapping[str, str]
) -> Verdict:
    """What a claim of the gateway `me` for a tenant comes to. `cells` has those of `names_to_read` that there are.

    Where somebody alive owns the cell that the tenant is pinned to, it is that one's, whatever the directory says.
    Else it goes to who owns what it draws on, so that what is linked comes together; else to the claimant.
    """
    names = names_to_read(component, pins)
    live = {name: row.gateway_id for name in names if (row := cells.get(name)) is not None and row.is_live}
    home, pinned = component.homes[tenant_id], pins.get(tenant_id)
    owner = live.get(pinned) if pinned is not None else None
    for name in (home, *component.capacities):
        owner = owner or live.get(name)
    if owner is not None and owner != me:
        return Verdict(owner, (), {}, is_whole=False)
    take = tuple(name for name in names if name not in live)
    mine = {*take, *(name for name, gateway_id in live.items() if gateway_id == me)}
    changed = {
        other: to
        for other, to in component.homes.items()
        if to in mine and pins.get(other) != to and (other not in pins or pins[other] in mine)
    }
    return Verdict(me, take, changed, is_whole=mine.issuperset(component.capacities))


def group_of(names: Iterable[str], owned: Collection[str], links: Linkage, pins: Mapping[str, str]) -> tuple[str, ...]:
    """What moves with cells: all that the same gateway owns and tenants link with them, as the directory or pins say.

    Looks at each pin once, however many cells there are.
    """
    return _walk(names, owned, links, pins, _by_cell(pins))


def groups_of(owned: Collection[str], links: Linkage, pins: Mapping[str, str]) -> list[tuple[str, ...]]:
    """All that a gateway owns, by what moves together. Looks at each pin once, however many cells there are."""
    left, pinned, found = dict.fromkeys(owned), _by_cell(pins), list[tuple[str, ...]]()
    while left:
        group = _walk((next(iter(left)),), owned, links, pins, pinned)
        found.append(group)
        for cell in group:
            left.pop(cell, None)
    return found


def _by_cell(pins: Mapping[str, str]) -> dict[str, list[str]]:
    """The tenants that are pinned to each cell."""
    found: dict[str, list[str]] = {}
    for tenant_id, cell in pins.items():
        found.setdefault(cell, []).append(tenant_id)
    return found


def _walk(
    names: Iterable[str],
    owned: Collection[str],
    links: Linkage,
    pins: Mapping[str, str],
    pinned: Mapping[str, Collection[str]],
) -> tuple[str, ...]:
    found = dict.fromkeys(names)
    waiting = list(found)
    while waiting:
        cell = waiting.pop()
        for tenant_id in (*links.tenants_of(cell), *pinned.get(cell, ())):
            for other in (*links.capacities_of(tenant_id), pins.get(tenant_id, "")):
                if other in owned and other not in found:
                    found[other] = None
                    waiting.append(other)
    return tuple(sorted(found))


def lease_end(sent_at: float, lease_seconds: float) -> float:
    """Until when a gateway may grant by its own clock, which was read before the statement was sent."""
    return sent_at + lease_seconds - lease_seconds / DRIFT_DIVISOR - MARGIN_SECONDS


class Tenure:
    """What one gateway owns, by what it knows: asked for each request, in memory.

    `cells`: by name, the epoch in which it was taken. `pins`: the tenants of these, each with its cell. `tenants`: the
    same, of those whose counters are open here. `until`: seconds of the gateway's own clock, which counts suspends.
    `life`: how often the lease has run out; what the store said in another life is no longer so. `is_between`: it has,
    and which cells are still owned is not known yet; to have the lease again says nothing of them.

    `vouched`: tenants, as one directory has them, that are open here with the capacity that they draw on first. It says
    nothing that the others do not, in one look; it is empty again as soon as anything is lost.
    """

    __slots__ = ("cells", "is_between", "life", "pins", "tenants", "until", "vouched")

    def __init__(self) -> None:
        self.cells: dict[str, int] = {}
        self.pins: dict[str, str] = {}
        self.tenants: dict[str, str] = {}
        self.until = NEVER
        self.life = 0
        self.is_between = False
        self.vouched: dict[str, Tenant] = {}

    def may_grant(self, tenant_id: str, capacity: str, now: float) -> bool:
        """Whether a request of the tenant may go out under a capacity; "" for what draws on none."""
        return now < self.until and tenant_id in self.tenants and (not capacity or capacity in self.cells)

    def owns(self, capacities: Iterable[str]) -> bool:
        """Whether all of these are this gateway's."""
        return self.cells.keys() >= {*capacities}

    def renewed(self, until: float, life: int) -> None:
        """The lease goes on until then."""
        if life == self.life and not self.is_between:
            self.until = max(self.until, until)

    def strange(self, cells: Mapping[str, int]) -> list[str]:
        """Those of these cells, with their epochs, that somebody owned before this gateway, which knows nothing of it.

        It may be itself that the store has given them to, by an answer that never came here.
        """
        return [name for name, epoch in cells.items() if epoch > FIRST_EPOCH and self.cells.get(name) != epoch]

    def take(self, cells: Mapping[str, int], pins: Mapping[str, str], life: int) -> bool:
        """These are owned, each in its epoch, and these tenants pinned so. False: that was said in another life."""
        if life != self.life:
            return False
        self.cells.update(cells)
        self._pin(pins)
        return True

    def _pin(self, pins: Mapping[str, str]) -> None:
        tenants = self.tenants
        for tenant_id, cell in pins.items():
            if cell in self.cells:
                self.pins[tenant_id] = cell
            if tenant_id in tenants:
                tenants[tenant_id] = cell

    def unpin(self, tenant_id: str) -> None:
        """A tenant is pinned to another cell."""
        self.pins.pop(tenant_id, None)

    def open(self, tenant_id: str, cell: str, life: int) -> bool:
        """The counters of a tenant stand. False: what they were read for has been lost meanwhile."""
        if life != self.life or cell not in self.cells:
            return False
        self.tenants[tenant_id] = cell
        return True

    def close(self, tenant_id: str) -> None:
        """A tenant is granted for no longer."""
        self.vouched.clear()
        self.tenants.pop(tenant_id, None)

    def release(self, names: Iterable[str]) -> list[str]:
        """These cells are to be another gateway's: nothing of them is granted from now on; the tenants that were."""
        self.vouched.clear()
        given = {*names}
        for name in given:
            self.cells.pop(name, None)
        self.pins = {tenant_id: cell for tenant_id, cell in self.pins.items() if cell not in given}
        gone = [tenant_id for tenant_id, cell in self.tenants.items() if cell in given]
        for tenant_id in gone:
            del self.tenants[tenant_id]
        return gone

    def lapse(self) -> int:
        """The lease has run out: which cells are still owned, only the store can say. The life that begins now."""
        self.vouched.clear()
        self.until = NEVER
        self.is_between = True
        self.life += 1
        return self.life

    def keep(self, cells: Mapping[str, int], pins: Mapping[str, str], until: float) -> list[str]:
        """Begin again with those cells of which the store says that nobody took them meanwhile; the tenants lost.

        `pins`: of the tenants of all `cells`. An answer of the store that never came may have moved some of them.
        """
        self.vouched.clear()
        self.cells = {name: epoch for name, epoch in self.cells.items() if cells.get(name) == epoch}
        lost = [tenant_id for tenant_id in self.tenants if pins.get(tenant_id, "") not in self.cells]
        for tenant_id in lost:
            del self.tenants[tenant_id]
        self.pins = {}
        self._pin(pins)
        self.until, self.is_between = until, False
        return lost
