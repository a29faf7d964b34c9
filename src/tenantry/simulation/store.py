"""The store of a simulated site where several gateways serve, and the line to it, which is slow, lost, or cut.

Each statement here is what one transaction of `storage/cells.py` does; what it decides is decided by `domain/cells.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

from tenantry.domain.cells import CellRow, Component, judge, names_to_read
from tenantry.domain.doubts import Taken
from tenantry.simulation.clock import Clock

T = TypeVar("T")

# A statement's way to the store in the same network, or its answer's way back.
TRIP_SECONDS = 0.001
# After so long a statement whose answer has not come has failed (`storage/`: the driver's own time).
LOST_SECONDS = 2.0
_NOBODY = ("", 0)


@dataclass(frozen=True, slots=True)
class Claimed:
    """As `storage/cells.py` has it. `rested`: seconds for which nobody has granted for what was another's."""

    owner: str
    cells: Mapping[str, int]
    pins: Mapping[str, str]
    rested: Mapping[str, float]


class Store:
    """`statements` counts what it was asked for, by kind. `planted`: faults, to see that the promises notice."""

    def __init__(self, clock: Clock, planted: frozenset[str] = frozenset()) -> None:
        self.statements = Counter[str]()
        self.leases: dict[str, float] = {}
        self.cells: dict[str, tuple[str, int]] = {}
        self.pins: dict[str, str] = {}
        self.ceilings: dict[str, dict[tuple[str, str, str], Taken]] = {}  # by tenant, then by key, unit and gateway
        self.forgotten_us: dict[str, int] = {}
        self._clock = clock
        self._planted = planted
        self._owned: dict[str, dict[str, None]] = {}  # cells by gateway
        self._pinned: dict[str, dict[str, None]] = {}  # tenants by cell

    def is_live(self, gateway_id: str) -> bool:
        return self.leases.get(gateway_id, 0.0) > self._clock.now

    def owner_of(self, tenant_id: str) -> str:
        """Who owns the cell that a tenant is pinned to, living or not; "": nobody."""
        return self.cells.get(self.pins.get(tenant_id, ""), _NOBODY)[0]

    # Leases

    def join(self, gateway_id: str, lease_seconds: float) -> None:
        self.statements["join"] += 1
        self.leases[gateway_id] = self._clock.now + lease_seconds

    def renew(self, gateway_id: str, lease_seconds: float) -> bool:
        self.statements["renew"] += 1
        if not self.is_live(gateway_id):
            return False
        self.leases[gateway_id] = self._clock.now + lease_seconds
        return True

    def rejoin(self, gateway_id: str, lease_seconds: float) -> tuple[dict[str, int], dict[str, str]]:
        self.statements["rejoin"] += 1
        self.leases[gateway_id] = self._clock.now + lease_seconds
        mine = {name: self.cells[name][1] for name in self._owned.get(gateway_id, ())}
        return mine, {tenant_id: name for name in mine for tenant_id in self._pinned.get(name, ())}

    def end(self, gateway_id: str) -> None:
        self.statements["end"] += 1
        self.leases[gateway_id] = min(self.leases.get(gateway_id, 0.0), self._clock.now)

    # Claims

    def claim(self, gateway_id: str, tenant_id: str, component: Component) -> Claimed | None:
        self.statements["look"] += 1
        ignores_leases = "live-owner-ignored" in self._planted
        owner = self.owner_of(tenant_id)
        if owner not in ("", gateway_id) and self.is_live(owner) and self.is_live(gateway_id) and not ignores_leases:
            return Claimed(owner, {}, {}, {})
        self.statements["claim"] += 1
        if not self.is_live(gateway_id):
            return None
        pins = {one: self.pins[one] for one in component.homes if one in self.pins}
        names = names_to_read(component, pins)
        rows = {
            name: CellRow(name, *self.cells[name], not ignores_leases and self.is_live(self.cells[name][0]))
            for name in names
            if name in self.cells
        }
        found = judge(gateway_id, tenant_id, component, rows, pins)
        epochs = {name: row.epoch for name, row in rows.items() if row.gateway_id == gateway_id and row.is_live}
        rested: dict[str, float] = {}
        for name in found.take:
            owner, epoch = self.cells.get(name, _NOBODY)
            if owner:
                rested[name] = max(0.0, self._clock.now - self.leases.get(owner, 0.0))
            epochs[name] = epoch + 1
            self._give(name, owner, gateway_id, epochs[name])
        for one, to in found.pins.items():
            self._pin(one, to)
        return Claimed(found.owner, epochs, pins | dict(found.pins), rested)

    def _give(self, name: str, owner: str, to: str, epoch: int) -> None:
        self._owned.get(owner, {}).pop(name, None)
        self._owned.setdefault(to, {})[name] = None
        self.cells[name] = (to, epoch)

    def _pin(self, tenant_id: str, cell: str) -> None:
        self._pinned.get(self.pins.get(tenant_id, ""), {}).pop(tenant_id, None)
        self._pinned.setdefault(cell, {})[tenant_id] = None
        self.pins[tenant_id] = cell

    def _owns(self, gateway_id: str, tenant_id: str) -> bool:
        return self.owner_of(tenant_id) == gateway_id and self.is_live(gateway_id)

    def repin(self, gateway_id: str, tenant_id: str, cell: str, to: str) -> bool:
        self.statements["repin"] += 1
        if not self._owns(gateway_id, tenant_id) or self.pins[tenant_id] != cell:
            return False
        self._pin(tenant_id, to)
        return True

    # Ceilings

    def take(self, rows: Sequence[Taken]) -> list[Taken]:
        self.statements["take"] += len(rows)
        written = [row for row in rows if self._owns(row.gateway_id, row.tenant_id)]
        for row in written:
            self.ceilings.setdefault(row.tenant_id, {})[row.key_id, row.unit, row.gateway_id] = row
        return written

    def lower(self, rows: Sequence[Taken]) -> None:
        self.statements["lower"] += len(rows)
        for row in rows:
            found = self.ceilings.get(row.tenant_id, {})
            known = found.get((row.key_id, row.unit, row.gateway_id))
            if known is not None and known.taken != row.taken:  # more, where something cost more than was held for it
                found[row.key_id, row.unit, row.gateway_id] = replace(known, taken=row.taken)

    def taken_of(self, tenant_id: str, but: str) -> list[Taken]:
        """What other gateways have taken of a tenant's accounts."""
        return [row for row in self.ceilings.get(tenant_id, {}).values() if row.gateway_id != but]

    def tidy(self, closed: set[str]) -> None:
        """What those had taken whose journals are booked to their ends."""
        self.statements["tidy"] += 1
        for rows in self.ceilings.values():
            for name in [name for name, row in rows.items() if row.gateway_id in closed]:
                del rows[name]


class Line:
    """From one machine to the store. `works`: False while it is cut. `loss`: the share of answers that never come,
    though what was asked for is done. `slow_seconds`: beside the usual time, each way."""

    def __init__(self, clock: Clock, random: Random) -> None:
        self.works = True
        self.loss = 0.0
        self.slow_seconds = 0.0
        self._clock = clock
        self._random = random

    def _trip(self) -> float:
        return TRIP_SECONDS + (self._random.uniform(0.0, self.slow_seconds) if self.slow_seconds else 0.0)

    def ask(
        self,
        statement: Callable[[], T],
        then: Callable[[T], None],
        failed: Callable[[], None],
        do: Callable[[Callable[[], None]], None],
    ) -> None:
        """`do` lets the asking process do something, when it runs: what was sent is done though that one is dead."""

        def arrives() -> None:
            if not self.works:
                self._clock.call_later(LOST_SECONDS, lambda: do(failed))
                return
            found = statement()
            is_lost = bool(self.loss) and self._random.random() < self.loss
            self._clock.call_later(self._trip(), lambda: comes(found, is_lost))

        def comes(found: T, is_lost: bool) -> None:
            if self.works and not is_lost:
                do(lambda: then(found))
            else:
                self._clock.call_later(LOST_SECONDS, lambda: do(failed))

        self._clock.call_later(self._trip(), arrives)
