"""Watches spending and everything else that the agency is to hear of, and raises each thing once.

A look is cheap when nothing has happened, and is made several times a second: a threshold is told within two seconds
of the row that passed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, select

from tenantry.domain.alerts import (
    PLAN_THRESHOLDS,
    PROJECTION_DAYS,
    TRAILING_DAYS,
    Alert,
    Holder,
    budget_alerts,
    plan_alerts,
    projection_alert,
    spike_alert,
)
from tenantry.domain.allowances import PLAN, Allowance, has_number
from tenantry.domain.budgets import Budget, Cap, amount_at
from tenantry.domain.periods import MONTH, Period, period_of, previous_period
from tenantry.ledger.facts import HealthWatch, QuarantineWatch, RefusalWatch, RowWatch
from tenantry.ledger.outbox import SECOND_US, Outbox
from tenantry.ledger.running_sums import RunningSums
from tenantry.ledger.spending import spent_by_tenant
from tenantry.storage.allowances import read_allowances, tokens_of
from tenantry.storage.caps import read_budgets
from tenantry.storage.changes import StoreChanges
from tenantry.storage.database import reading
from tenantry.storage.directory.alert_targets import read_thresholds_of
from tenantry.storage.tables import tenants
from tenantry.storage.versions import directory_version

_MINUTE_US = 60 * SECOND_US
# A day's rows may be booked this long after it ended; then its sum is kept.
_SETTLED_US = 3600 * SECOND_US
# Occasions that are known to be told, so that they are not looked up again.
_TOLD_MAX = 100_000


def _always() -> bool:
    return True


class Watch(Protocol):
    """Something that can say what is the case."""

    def look(self, at_us: int) -> Iterator[Alert]: ...


class WatchOfNow(Watch, Protocol):
    """A watch that says by itself when it looks next."""

    def is_due(self, at_us: int) -> bool: ...


class AlertWatch:
    """Raises what the watches see, through the outbox.

    `of_store` are watches of what the store keeps: they look when it may have changed, and once a minute, for periods
    end; and only while this process leads the site, so that several control processes do not ask the same. `of_now`
    look when they are due.
    """

    def __init__(
        self,
        outbox: Outbox,
        of_store: list[Watch],
        of_now: list[WatchOfNow],
        clock: Callable[[], int],
        changes: StoreChanges | None = None,
        is_leading: Callable[[], bool] = _always,
    ) -> None:
        self._outbox = outbox
        self._is_leading = is_leading
        self._of_store = of_store
        self._of_now = of_now
        self._clock = clock
        self._changes = changes
        self._minute: int | None = None  # of the last look that came to its end
        self._told: set[str] = set()

    def is_due(self) -> bool:
        """Whether a step would look at anything."""
        at_us = self._clock()
        return self._is_store_due(at_us) or any(one.is_due(at_us) for one in self._of_now)

    def _is_store_due(self, at_us: int) -> bool:
        if self._changes is None or self._changes.may_have():
            self._minute = None  # until a look has come to its end
        return self._is_leading() and at_us // _MINUTE_US != self._minute

    def step(self) -> int:
        """Raise what is new; how much that was."""
        at_us = self._clock()
        watches: list[Watch] = [one for one in self._of_now if one.is_due(at_us)]
        is_store_due = self._is_store_due(at_us)
        if is_store_due:
            self._minute = None
            watches = [*self._of_store, *watches]
        raised = sum(self._tell(alert, at_us) for watch in watches for alert in watch.look(at_us))
        if is_store_due:
            self._minute = at_us // _MINUTE_US
        return raised

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
    changes: StoreChanges | None = None,
    is_leading: Callable[[], bool] = _always,
) -> AlertWatch:
    """The watch of a site. `thresholds` hold for tenants without their own; without `changes` each look is at all."""
    of_store: list[Watch] = [
        BudgetWatch(engine, zone, thresholds),
        PaceWatch(engine, zone),
        RowWatch(engine, zone),
        RefusalWatch(engine, zone),
        QuarantineWatch(engine, zone),
    ]
    return AlertWatch(Outbox(engine), of_store, [HealthWatch(data_dir, journal_dir)], clock, changes, is_leading)


@dataclass(frozen=True, slots=True)
class _Terms:
    """Budgets by holder; thresholds, slugs and what plans include by tenant id."""

    budgets: Mapping[tuple[str, str], Budget]
    thresholds: Mapping[str, tuple[int, ...]]
    slugs: Mapping[str, str]
    allowances: Mapping[str, Allowance]


def _read_terms(engine: Engine, zone: ZoneInfo, at_us: int) -> _Terms:
    """As they are at one moment: whoever is made meanwhile is in none of them."""
    today = datetime.fromtimestamp(at_us // SECOND_US, zone).date()
    with reading(engine) as connection:
        return _Terms(
            read_budgets(connection),
            read_thresholds_of(connection),
            {row.tenant_id: row.slug for row in connection.execute(select(tenants.c.tenant_id, tenants.c.slug))},
            read_allowances(connection, None, today, zone, has_number),
        )


class BudgetWatch:
    """Thresholds of budgets, of tenants and of keys, and of what plans include.

    Looks at those alone of whom something was booked: at all of them when the directory has changed, and once a
    minute, for periods and raises end.
    """

    def __init__(self, engine: Engine, zone: ZoneInfo, thresholds: tuple[int, ...]) -> None:
        self._engine = engine
        self._zone = zone
        self._thresholds = thresholds
        self._sums = RunningSums(engine, zone)
        self._terms: _Terms | None = None
        # What the terms are of: the directory's version, and the minute.
        self._seen: tuple[int, int] | None = None
        self._left: set[tuple[str, str]] = set()

    def look(self, at_us: int) -> Iterator[Alert]:
        touched = self._sums.follow(at_us)
        if touched is None:
            self._seen = None
        else:
            self._left |= touched
        with self._engine.connect() as connection:
            seen = directory_version(connection), at_us // _MINUTE_US
        if self._terms is None or self._seen is None or seen[0] != self._seen[0]:
            self._terms = _read_terms(self._engine, self._zone, at_us)
        if seen != self._seen:
            self._left.update(self._terms.budgets)
            self._seen = seen
        # Kept until all are told: who could not be is looked at again.
        for holder in sorted(self._left):
            yield from self._passed(self._terms, holder, at_us)
        self._left = set()

    def _passed(self, terms: _Terms, of: tuple[str, str], at_us: int) -> Iterator[Alert]:
        budget = terms.budgets.get(of)
        if budget is None:
            return
        tenant_id, key_id = of
        holder = Holder(tenant_id, terms.slugs[tenant_id], key_id)
        thresholds = terms.thresholds.get(tenant_id, self._thresholds)
        for cap in budget.caps:
            period, nanos = self._sums.period(cap.period), self._sums.of(cap.period, tenant_id, key_id)
            yield from budget_alerts(holder, cap, period, nanos, thresholds, at_us)
        allowance = terms.allowances.get(tenant_id) if not key_id else None
        if allowance is not None:
            yield from self._included(holder, allowance, budget, terms, at_us)

    def _included(
        self, holder: Holder, allowance: Allowance, budget: Budget, terms: _Terms, at_us: int
    ) -> Iterator[Alert]:
        """What the tenant's plan includes now. Of a window that began in the month: what the month has had since."""
        window, thresholds = allowance.included(at_us, self._zone), terms.thresholds.get(holder.tenant_id)
        if window.nanos is not None:
            before = allowance.spent_before(window.start_us, self._zone)
            used = self._sums.of(MONTH, holder.tenant_id) - (before.nanos if before is not None else 0)
            amount = amount_at(Cap(PLAN, window.nanos, budget.plan_raises), at_us)
        elif window.tokens is not None:
            with self._engine.connect() as connection:
                used = tokens_of(connection, holder.tenant_id, window.start_us)
            amount = window.tokens
        else:
            return
        wanted = PLAN_THRESHOLDS if thresholds is None else thresholds
        yield from plan_alerts(holder, window, self._zone, amount, used, wanted)


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
        terms = _read_terms(self._engine, self._zone, at_us)
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
