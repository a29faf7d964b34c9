"""What goes wrong beside money: read from the ledger's rows, from refusals, from what live gateways say, from the disk.

Each watch has `look`, which yields what is the case now; that it is told once is the outbox's business.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, func, or_, select

from tenantry.domain.alerts import (
    Alert,
    Holder,
    dead_until_alert,
    disk_alert,
    is_nearly_full,
    journal_alert,
    refusals_alert,
    refused_upstream_alert,
    tool_loop_alert,
    unpriced_alert,
    upstream_down_alert,
)
from tenantry.domain.attempts import RUNAWAY_LOOP, Outcome
from tenantry.domain.periods import period_of
from tenantry.ledger.journal import STANDING_FILE, is_alive
from tenantry.storage.tables import credentials, ledger, refusals, tenants

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
_FACTS_BYTES_MAX = 16 * 1024 * 1024


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
        yield from self._unpriced(after, newest)
        yield from self._refused(after, newest, at_us)
        self._entry_id = newest

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

    def look(self, at_us: int) -> Iterator[Alert]:
        if self._looked_us is not None and abs(at_us - self._looked_us) < _LOOK_US:
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
        for health in self._live_health():
            yield from alerts_of_health(health, datetime.now(UTC))

    def _live_health(self) -> Iterator[dict[str, Any] | None]:
        if not self._journal_dir.is_dir():
            return
        for run in sorted(self._journal_dir.iterdir()):
            path = run / STANDING_FILE
            try:
                if not run.is_dir() or not is_alive(run):
                    continue
                age_seconds = time.time() - os.stat(path).st_mtime
                document = _read_facts(path)
            except (OSError, ValueError):
                continue  # not there yet, gone with its run, or torn: nothing is known
            if "health" in document:
                yield None if age_seconds > _STALE_SECONDS else document["health"]


def _read_facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        document = json.loads(file.read(_FACTS_BYTES_MAX))
    return cast("dict[str, Any]", document) if isinstance(document, dict) else {}


def alerts_of_health(health: object, now: datetime) -> Iterator[Alert]:
    """What the facts of one gateway say; None: it has stopped writing them. What is missing or malformed is unknown."""
    if health is None:
        yield journal_alert("a gateway cannot write to its journal's folder")
        return
    if not isinstance(health, dict):
        return
    facts = cast("dict[str, Any]", health)
    if facts.get("journal_works") is False:
        yield journal_alert("a gateway cannot write its journal and answers 503")
    down = facts.get("upstreams_down")
    for name in cast("list[object]", down) if isinstance(down, list) else []:
        yield upstream_down_alert(str(name))
    dead = facts.get("credentials_dead")
    for name, until in (cast("dict[str, object]", dead) if isinstance(dead, dict) else {}).items():
        if _is_spent(until, now):
            yield dead_until_alert(name, str(until or ""))


def _is_spent(until: object, now: datetime) -> bool:
    """Whether a credential is of no use for long; a short pause is a refusal, which its row in the ledger tells."""
    try:
        return datetime.fromisoformat(str(until)) - now > _PAUSE_MAX
    except (ValueError, TypeError):  # no date, or one without its offset
        return True
