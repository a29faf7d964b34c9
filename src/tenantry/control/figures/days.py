"""Sums of whole days: of those that are over they are remembered, for a month of many tenants is long to add up.

The ledger only grows at its end. A row that came since and belongs to a day that is over (a journal that was booked
late) makes that day be read anew; so what is told is what the roll-up holds, always.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, func, select

from tenantry.control.figures.time import days_between, last_days
from tenantry.domain.periods import DAY, Period, period_of
from tenantry.domain.proof import is_of_proof
from tenantry.ledger.series import NOTHING, Cell, Selection, Sums, cells_of, sum_of, summed
from tenantry.storage.database import reading
from tenantry.storage.tables import ledger

# Two months and some: the running one, and the one that is billed just now.
REMEMBERED_DAYS_MAX: Final = 70
WARMED_DAYS: Final = 32

Cells = Mapping[Cell, Sums]


class DaySums:
    """Asked from several threads."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._lock = threading.Lock()
        self._days: dict[str, Cells] = {}
        self._newest: int | None = None

    def warm(self, engine: Engine, now_us: int, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Read what a page of this month would need, before somebody opens one; as long as `is_wanted`."""
        for day in reversed(last_days(now_us, self._zone, WARMED_DAYS)):
            if not is_wanted():
                return
            with reading(engine) as connection:
                self.of_days(connection, [day], now_us)

    def between(self, connection: Connection, start_us: int, end_us: int, now_us: int) -> list[Cells]:
        """Of the days from `start_us` up to and without `end_us`, both of which begin a day."""
        return self.of_days(connection, days_between(start_us, end_us, self._zone), now_us)

    def of_days(self, connection: Connection, days: Sequence[Period], now_us: int) -> list[Cells]:
        """As the view of `connection` has them, each by tenant, key, model and outcome."""
        today = period_of(DAY, now_us, self._zone)
        with self._lock:
            self._forget_changed(connection, today.start_us)
            found = [self._of(connection, day, today) for day in days]
            while len(self._days) > REMEMBERED_DAYS_MAX:
                del self._days[min(self._days)]
        return found

    def sum_of(self, connection: Connection, of: Selection, now_us: int) -> Sums:
        """Of a selection: its whole days as they are remembered, what is left of it at either end read."""
        found = NOTHING
        for day in days_between(of.start_us, of.end_us, self._zone):
            if of.start_us <= day.start_us and day.end_us <= of.end_us:
                found += selected(self.of_days(connection, [day], now_us), of)
            else:
                part = (max(of.start_us, day.start_us), min(of.end_us, day.end_us))
                found += sum_of(connection, replace(of, start_us=part[0], end_us=part[1]))
        return found

    def _of(self, connection: Connection, day: Period, today: Period) -> Cells:
        known = self._days.get(day.label)
        if known is not None:
            return known
        if day.start_us > today.start_us:
            return {}
        cells = cells_of(connection, Selection(day.start_us, day.end_us))
        if day.end_us <= today.start_us:
            self._days[day.label] = cells
        return cells

    def _forget_changed(self, connection: Connection, today_us: int) -> None:
        """Days that are over and have a row that was booked since."""
        newest = connection.execute(select(func.max(ledger.c.entry_id))).scalar() or 0
        if self._newest is not None and newest > self._newest and self._days:
            late = select(ledger.c.ended_at_us).where(ledger.c.entry_id > self._newest, ledger.c.ended_at_us < today_us)
            for (at_us,) in connection.execute(late):
                self._days.pop(period_of(DAY, at_us, self._zone).label, None)
        self._newest = max(newest, self._newest or 0)


def total(days: Iterable[Cells], tenant_ids: Collection[str] | None = None) -> Sums:
    """Of some tenants, or of all that are no isolation proof's."""
    return summed(
        sums
        for cells in days
        for cell, sums in cells.items()
        if (not is_of_proof(cell[0]) if tenant_ids is None else cell[0] in tenant_ids)
    )


def of_proof(days: Iterable[Cells]) -> Sums:
    """Of the isolation proof's own tenants: with `total` it is all that the ledger holds."""
    return summed(sums for cells in days for cell, sums in cells.items() if is_of_proof(cell[0]))


def by_tenant(days: Iterable[Cells]) -> dict[str, int]:
    """What it cost, by tenant id."""
    found: dict[str, int] = {}
    for cells in days:
        for (tenant_id, *_), sums in cells.items():
            found[tenant_id] = found.get(tenant_id, 0) + sums.cost_nanos
    return found


def by_holder(days: Iterable[Cells]) -> dict[tuple[str, str], int]:
    """What it cost, by tenant id and key id."""
    found: dict[tuple[str, str], int] = {}
    for cells in days:
        for (tenant_id, key_id, *_), sums in cells.items():
            found[tenant_id, key_id] = found.get((tenant_id, key_id), 0) + sums.cost_nanos
    return found


def selected(days: Iterable[Cells], of: Selection) -> Sums:
    """Of a selection; its times are passed over."""
    wanted = (None, of.key_id, of.model, of.outcome)
    return summed(
        sums
        for cells in days
        for cell, sums in cells.items()
        if (of.tenant_ids is None or cell[0] in of.tenant_ids)
        and of.is_proof in (None, is_of_proof(cell[0]))
        and all(want is None or want == have for want, have in zip(wanted, cell, strict=True))
    )


def unpriced(days: Iterable[Cells]) -> list[str]:
    """Models with attempts of clients that have no price, the most of them first."""
    counts: dict[str, int] = {}
    for cells in days:
        for (tenant_id, _, model, _), sums in cells.items():
            if sums.unpriced and not is_of_proof(tenant_id):
                counts[model] = counts.get(model, 0) + sums.unpriced
    return sorted((model for model, count in counts.items() if count > 0), key=lambda one: (-counts[one], one))
