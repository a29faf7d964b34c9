"""Watches spending and everything else that the agency is to hear of, and raises each thing once.

A look is cheap when nothing has happened, and is made several times a second: a threshold is told within two seconds
of the row that passed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, func, select

from tenantry.domain.alerts import (
    PROJECTION_DAYS,
    TRAILING_DAYS,
    Alert,
    Holder,
    budget_alerts,
    projection_alert,
    spike_alert,
)
from tenantry.domain.budgets import Budget
from tenantry.domain.periods import Period, period_of, previous_period
from tenantry.ledger.counted import NOTHING, Counted, counted_by_holder
from tenantry.ledger.facts import HealthWatch, QuarantineWatch, RefusalWatch, RowWatch
from tenantry.ledger.outbox import SECOND_US, Outbox
from tenantry.ledger.spending import spent_by_tenant
from tenantry.storage.caps import read_budgets
from tenantry.storage.database import reading
from tenantry.storage.directory.alert_targets import read_thresholds_of
from tenantry.storage.tables import ledger, tenants
from tenantry.storage.versions import directory_version

_MINUTE_US = 60 * SECOND_US
# A day's rows may be booked this long after it ended; then its sum is kept.
_SETTLED_US = 3600 * SECOND_US
# Occasions that are known to be told, so that they are not looked up again.
_TOLD_MAX = 100_000


class Watch(Protocol):
    """Something that can say what is the case."""

    def look(self, at_us: int) -> Iterator[Alert]: ...


class AlertWatch:
    """Raises what the watches see, through the outbox."""

    def __init__(self, outbox: Outbox, watches: list[Watch], clock: Callable[[], int]) -> None:
        self._outbox = outbox
        self._watches = watches
        self._clock = clock
        self._told: set[str] = set()

    def step(self) -> int:
        """Raise what is new; how much that was."""
        at_us = self._clock()
        return sum(self._tell(alert, at_us) for watch in self._watches for alert in watch.look(at_us))

    def _tell(self, alert: Alert, at_us: int) -> bool:
        if alert.occasion in self._told:
            return False
        raised = self._outbox.raise_alert(alert, at_us)
        if alert.occasion is not None:
            if len(self._told) >= _TOLD_MAX:
                self._told.clear()
            self._told.add(alert.occasion)
        return raised


def open_watch(
    engine: Engine,
    zone: ZoneInfo,
    thresholds: tuple[int, ...],
    data_dir: Path,
    journal_dir: Path,
    clock: Callable[[], int],
) -> AlertWatch:
    """The watch of a site. `thresholds` hold for tenants without their own."""
    watches: list[Watch] = [
        BudgetWatch(engine, zone, thresholds),
        PaceWatch(engine, zone),
        RowWatch(engine, zone),
        RefusalWatch(engine, zone),
        QuarantineWatch(engine, zone),
        HealthWatch(data_dir, journal_dir),
    ]
    return AlertWatch(Outbox(engine), watches, clock)


@dataclass(frozen=True, slots=True)
class _Terms:
    """Budgets by holder, thresholds and slugs by tenant id."""

    budgets: Mapping[tuple[str, str], Budget]
    thresholds: Mapping[str, tuple[int, ...]]
    slugs: Mapping[str, str]


def _read_terms(engine: Engine) -> _Terms:
    with engine.connect() as connection:
        return _Terms(
            read_budgets(connection),
            read_thresholds_of(connection),
            {row.tenant_id: row.slug for row in connection.execute(select(tenants.c.tenant_id, tenants.c.slug))},
        )


class BudgetWatch:
    """Thresholds of budgets, of tenants and of keys."""

    def __init__(self, engine: Engine, zone: ZoneInfo, thresholds: tuple[int, ...]) -> None:
        self._engine = engine
        self._zone = zone
        self._thresholds = thresholds
        self._seen: tuple[int, int, int] | None = None

    def look(self, at_us: int) -> Iterator[Alert]:
        state = self._state(at_us)
        if state == self._seen:
            return
        yield from self._passed(at_us)
        self._seen = state

    def _state(self, at_us: int) -> tuple[int, int, int]:
        """What thresholds depend on: rows, the directory, and the time to the minute (periods and raises end)."""
        with self._engine.connect() as connection:
            newest = connection.execute(select(func.max(ledger.c.entry_id))).scalar() or 0
            return newest, directory_version(connection), at_us // _MINUTE_US

    def _passed(self, at_us: int) -> Iterator[Alert]:
        terms = _read_terms(self._engine)
        periods: dict[str, Period] = {}
        counted: dict[str, Mapping[tuple[str, str], Counted]] = {}
        for (tenant_id, key_id), budget in terms.budgets.items():
            holder = Holder(tenant_id, terms.slugs[tenant_id], key_id)
            for cap in budget.caps:
                if cap.period not in periods:
                    period = periods[cap.period] = period_of(cap.period, at_us, self._zone)
                    with reading(self._engine) as connection:
                        counted[cap.period] = counted_by_holder(connection, period.start_us, period.end_us)
                period = periods[cap.period]
                nanos = counted[cap.period].get((tenant_id, key_id), NOTHING).nanos
                thresholds = terms.thresholds.get(tenant_id, self._thresholds)
                yield from budget_alerts(holder, cap, period, nanos, thresholds, at_us)


class PaceWatch:
    """Spikes and projections. Looks once a minute."""

    def __init__(self, engine: Engine, zone: ZoneInfo) -> None:
        self._engine = engine
        self._zone = zone
        self._looked_us: int | None = None
        self._days: dict[int, dict[str, int]] = {}

    def look(self, at_us: int) -> Iterator[Alert]:
        if self._looked_us is not None and abs(at_us - self._looked_us) < _MINUTE_US:
            return
        terms = _read_terms(self._engine)
        today = period_of("day", at_us, self._zone)
        month = period_of("month", at_us, self._zone)
        days = self._trailing(today)
        sums = [self._sum_of(day, at_us) for day in days]
        of_today = spent_by_tenant(self._engine, today.start_us, today.end_us)
        of_month = spent_by_tenant(self._engine, month.start_us, month.end_us)
        recent_us = sum(day.end_us - day.start_us for day in days[:PROJECTION_DAYS])
        for tenant_id, slug in terms.slugs.items():
            holder = Holder(tenant_id, slug)
            trailing = [one.get(tenant_id, 0) for one in sums]
            spike = spike_alert(holder, today, of_today.get(tenant_id, 0), trailing, at_us)
            if spike is not None:
                yield spike
            recent = sum(trailing[:PROJECTION_DAYS])
            for cap in terms.budgets[tenant_id, ""].caps:
                if cap.period != "month":
                    continue
                spent = of_month.get(tenant_id, 0)
                projected = projection_alert(holder, cap, month, spent, recent, recent_us, at_us)
                if projected is not None:
                    yield projected
        self._looked_us = at_us

    def _trailing(self, today: Period) -> list[Period]:
        """The days before today, newest first."""
        days = [previous_period(today, self._zone)]
        while len(days) < TRAILING_DAYS:
            days.append(previous_period(days[-1], self._zone))
        return days

    def _sum_of(self, day: Period, at_us: int) -> dict[str, int]:
        found = self._days.get(day.start_us)
        if found is None:
            found = dict(spent_by_tenant(self._engine, day.start_us, day.end_us))
            if day.end_us + _SETTLED_US < at_us:
                if len(self._days) > 2 * TRAILING_DAYS:
                    self._days.clear()
                self._days[day.start_us] = found
        return found
