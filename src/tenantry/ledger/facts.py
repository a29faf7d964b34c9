"""What goes wrong beside money: read from the ledger's rows, from refusals, from what live gateways say, from the disk.

Each watch has `look`, which yields what is the case now; that it is told once is the outbox's business.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, func, or_, select

from tenantry.domain.alerts import (
    Alert,
    Holder,
    dead_until_alert,
    disk_alert,
    flawed_usage_alert,
    is_nearly_full,
    journal_alert,
    quarantine_alert,
    refusals_alert,
    refused_upstream_alert,
    tool_loop_alert,
    unpriced_alert,
    upstream_down_alert,
)
from tenantry.domain.attempts import RUNAWAY_LOOP, Outcome
from tenantry.domain.periods import period_of
from tenantry.ledger.live import LiveGateway, read_health
from tenantry.storage.tables import credentials, ledger, quarantine, refusals, tenants, upstreams

SECOND_US = 1_000_000
# Rows that were booked while nobody watched; what they say is told once, so reading some twice does not matter.
_ROWS_BACK = 10_000
# A refusal by the upstream that is older says nothing of now.
_FRESH_US = 60 * SECOND_US
# `budget_in_use` is not one: it passes when requests in flight end.
_BY_BUDGET = ("budget", "key.budget")
_REFUSED = ("authentication_error", "billing_error")
# A gateway writes its facts every second; one that lives and has not for this long cannot.
_STALE_SECONDS = 30.0
# How long a gateway passes over a credential that was merely refused is below it.
_PAUSE_MAX = timedelta(minutes=5)
_LOOK_US = 2 * SECOND_US


class RowWatch:
    """New rows of the ledger: models without a price, credentials that the upstream refuses."""

    def __init__(self, engine: Engine, zone: ZoneInfo) -> None:
        self._engine = engine
        self._zone = zone
        self._entry_id: int | None = None

    def look(self, at_us: int) -> Iterator[Alert]:
        newest = self._newest()
        if newest == self._entry_id:
            return
        # Fewer rows than before: the store was restored from a backup.
        after = self._entry_id if self._entry_id is not None and self._entry_id < newest else newest - _ROWS_BACK
        if self._has_any(after, newest):
            yield from self._unpriced(after, newest)
            yield from self._refused(after, newest, at_us)
            yield from self._flawed(after, newest)
        self._entry_id = newest

    def _has_any(self, after: int, newest: int) -> bool:
        """Whether a row says anything at all: nearly always none does, and new rows are then read once."""
        columns = ledger.c
        query = select(columns.entry_id).where(
            columns.entry_id > after,
            columns.entry_id <= newest,
            or_(
                columns.outcome == Outcome.UNPRICED.value,
                columns.status.in_((401, 402)),
                columns.error.in_(_REFUSED),
                columns.flaws.is_not(None),
            ),
        )
        with self._engine.connect() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def _newest(self) -> int:
        with self._engine.connect() as connection:
            return connection.execute(select(func.max(ledger.c.entry_id))).scalar() or 0

    def _unpriced(self, after: int, newest: int) -> Iterator[Alert]:
        model = func.coalesce(ledger.c.model_served, ledger.c.model_requested).label("model")
        query = (
            select(model, func.max(ledger.c.ended_at_us).label("at_us"))
            .where(
                ledger.c.entry_id > after,
                ledger.c.entry_id <= newest,
                ledger.c.outcome == Outcome.UNPRICED.value,
            )
            .group_by(model)
        )
        with self._engine.connect() as connection:
            rows = list(connection.execute(query))
        for row in rows:
            yield unpriced_alert(row.model, period_of("month", row.at_us, self._zone))

    def _refused(self, after: int, newest: int, at_us: int) -> Iterator[Alert]:
        query = (
            select(credentials.c.name, func.max(ledger.c.error).label("error"))
            .join(credentials, credentials.c.credential_id == ledger.c.credential_id)
            .where(
                ledger.c.entry_id > after,
                ledger.c.entry_id <= newest,
                ledger.c.ended_at_us > at_us - _FRESH_US,
                or_(ledger.c.status.in_((401, 402)), ledger.c.error.in_(_REFUSED)),
            )
            .group_by(credentials.c.name)
        )
        with self._engine.connect() as connection:
            rows = list(connection.execute(query))
        for row in rows:
            yield refused_upstream_alert(row.name, row.error or "401 or 402")

    def _flawed(self, after: int, newest: int) -> Iterator[Alert]:
        """Answers whose usage could not be read as it stands: what was booked for them is what had been held."""
        query = (
            select(upstreams.c.name, ledger.c.flaws, func.max(ledger.c.ended_at_us).label("at_us"))
            .join(upstreams, upstreams.c.upstream_id == ledger.c.upstream_id)
            .where(ledger.c.flaws.is_not(None), ledger.c.entry_id > after, ledger.c.entry_id <= newest)
            .group_by(upstreams.c.name, ledger.c.flaws)
        )
        with self._engine.connect() as connection:
            rows = list(connection.execute(query))
        for row in rows:
            yield flawed_usage_alert(row.name, row.flaws, period_of("day", row.at_us, self._zone))


class QuarantineWatch:
    """Lines of journals that could not be booked."""

    def __init__(self, engine: Engine, zone: ZoneInfo) -> None:
        self._engine = engine
        self._zone = zone
        self._line_id = 0

    def look(self, at_us: int) -> Iterator[Alert]:
        columns = quarantine.c
        query = (
            select(func.count().label("lines"), func.max(columns.line_id), tenants.c.tenant_id, tenants.c.slug)
            .outerjoin(tenants, tenants.c.tenant_id == columns.tenant_id)
            .where(columns.line_id > self._line_id)
            .group_by(tenants.c.tenant_id, tenants.c.slug)
        )
        with self._engine.connect() as connection:
            rows = list(connection.execute(query))
        day = period_of("day", at_us, self._zone)
        for lines, _, tenant_id, slug in rows:
            yield quarantine_alert(Holder(tenant_id, slug) if tenant_id is not None else None, lines, day)
        self._line_id = max([self._line_id, *(newest for _, newest, _, _ in rows)])


class RefusalWatch:
    """What gateways count by reason: requests refused because a budget was reached, tool loops that ran away."""

    def __init__(self, engine: Engine, zone: ZoneInfo) -> None:
        self._engine = engine
        self._zone = zone

    def look(self, at_us: int) -> Iterator[Alert]:
        day = period_of("day", at_us, self._zone)
        query = (
            select(refusals.c.tenant_id, tenants.c.slug, refusals.c.reason)
            .join(tenants, tenants.c.tenant_id == refusals.c.tenant_id)
            .where(refusals.c.last_at_us >= day.start_us, refusals.c.reason.in_((*_BY_BUDGET, RUNAWAY_LOOP)))
            .distinct()
        )
        with self._engine.connect() as connection:
            rows = list(connection.execute(query))
        for row in rows:
            alert = tool_loop_alert if row.reason == RUNAWAY_LOOP else refusals_alert
            yield alert(Holder(row.tenant_id, row.slug), day)


class HealthWatch:
    """What live gateways say of themselves, and the disk. Something counts when two looks in a row see it."""

    def __init__(self, data_dir: Path, journal_dir: Path) -> None:
        self._data_dir = data_dir
        self._journal_dir = journal_dir
        self._looked_us: int | None = None
        self._before: set[tuple[str, str]] = set()

    def is_due(self, at_us: int) -> bool:
        return self._looked_us is None or abs(at_us - self._looked_us) >= _LOOK_US

    def look(self, at_us: int) -> Iterator[Alert]:
        if not self.is_due(at_us):
            return
        self._looked_us = at_us
        found = {(alert.kind.value, alert.subject): alert for alert in self._now()}
        lasting = [alert for key, alert in found.items() if key in self._before]
        self._before = set(found)
        yield from lasting

    def _now(self) -> Iterator[Alert]:
        usage = shutil.disk_usage(self._data_dir)
        if is_nearly_full(usage.total, usage.free):
            yield disk_alert(usage.total, usage.free)
        for gateway in read_health(self._journal_dir):
            yield from alerts_of_live(gateway, datetime.now(UTC))


def alerts_of_live(gateway: LiveGateway, now: datetime) -> Iterator[Alert]:
    """What one living gateway says of itself; where nothing can be read of it, nothing is known."""
    if gateway.age_seconds is not None and gateway.age_seconds > _STALE_SECONDS:
        yield journal_alert(
            f"a gateway has told nothing of itself for {gateway.age_seconds:.0f} s: it is frozen, or cannot write"
        )
        return
    if gateway.told is None:
        return
    health = gateway.told.health
    if health.journal_works is False:
        yield journal_alert("a gateway cannot write its journal and answers 503")
    for name in health.upstreams_down:
        yield upstream_down_alert(name)
    for name, until in health.credentials_dead.items():
        if _is_spent(until, now):
            yield dead_until_alert(name, until or "")


def _is_spent(until: str | None, now: datetime) -> bool:
    """Whether a credential is of no use for long; a short pause is a refusal, which its row in the ledger tells."""
    try:
        return datetime.fromisoformat(until or "") - now > _PAUSE_MAX
    except (ValueError, TypeError):  # no date, or one without its offset
        return True
