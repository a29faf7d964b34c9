"""Exports on schedule: each ended week and month once, for every tenant and for all, as CSV in `<data_dir>/exports`.

The order survives a kill at any point: the file takes its name, then its row in `exports` says that it is done. Killed
in between, the file is written again, the same to the byte: its period has ended, and the ledger only grows at its end.
Two control processes that do the same at once write the same, and one row, which names the machine that has the file.
"""

from __future__ import annotations

import contextlib
import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, func, insert, select
from sqlalchemy.exc import IntegrityError

from tenantry.control.completeness import unbooked_elsewhere
from tenantry.control.site import host
from tenantry.domain.periods import MONTH, WEEK, Period, period_of, previous_period
from tenantry.domain.values import value
from tenantry.ledger.exports import Exported, Wanted, file_name, write_csv, write_exports
from tenantry.settings import Settings
from tenantry.storage.columns import now_utc, utc
from tenantry.storage.tables import exports, ledger, tenants

log = logging.getLogger("tenantry.control")

# A row belongs to the period in which its attempt ended, and is booked within a second after that; an hour covers a
# store that was away for a while and clocks that differ between machines.
MARGIN = timedelta(hours=1)
# How far a control process that was down catches up.
PERIODS_BACK_MAX = {WEEK: 9, MONTH: 3}
# A leftover of a process that was killed while it wrote.
_PART_SECONDS_MAX = 24 * 3600
_ALL = ""


@value
class Due:
    """The files that are missing for one period: tenant ids with their slugs, None for all tenants."""

    period: Period
    missing: list[tuple[str | None, str | None]]


def due_exports(engine: Engine, settings: Settings, now: datetime) -> list[Due]:
    """What is to be written now, oldest period first."""
    with engine.connect() as connection:
        first_us = connection.execute(select(func.min(ledger.c.ended_at_us))).scalar()
        if first_us is None:
            return []
        done = {(row.period, row.tenant_id) for row in connection.execute(select(exports))}
        known = list(connection.execute(select(tenants.c.tenant_id, tenants.c.slug, tenants.c.created_at)))
    due: list[Due] = []
    for period in _ended(settings, now, first_us):
        end = datetime.fromtimestamp(period.end_us // 1_000_000, UTC)
        there = [(row.tenant_id, row.slug) for row in known if (utc(row.created_at) or end) < end]
        missing = [(one, slug) for one, slug in [(None, None), *there] if (period.label, one or _ALL) not in done]
        if missing:
            due.append(Due(period, missing))
    return due


def _ended(settings: Settings, now: datetime, first_us: int) -> list[Period]:
    kinds = (WEEK, MONTH) if settings.billing_export_interval == "weekly" else (MONTH,)
    at_us = int((now - MARGIN).timestamp()) * 1_000_000
    found: list[Period] = []
    for kind in kinds:
        period = period_of(kind, at_us, settings.zone)
        for _ in range(PERIODS_BACK_MAX[kind]):
            period = previous_period(period, settings.zone)
            if period.end_us <= first_us:
                break
            found.append(period)
    return sorted(found, key=lambda period: (period.end_us, period.kind))


class Exporter:
    """The chore of the control process."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._folder = settings.data_dir / "exports"
        self._told = ""

    def step(self, now: datetime | None = None) -> int:
        """Write what is due; the number of files."""
        written = 0
        self._sweep()
        found = due_exports(self._engine, self._settings, now or datetime.now(UTC))
        if found and (unbooked := unbooked_elsewhere(self._engine, self._settings)):
            self._wait(found, unbooked)
            return 0
        for due in found:
            wanted = [Wanted(file_name(due.period, slug, "csv"), tenant_id) for tenant_id, slug in due.missing]
            done = write_exports(self._engine, due.period, wanted, self._folder, write_csv)
            for one in done:
                self._note(due.period, one)
            log.info("exported %s: %d files in %s", due.period.label, len(done), self._folder)
            written += len(done)
        return written

    def _wait(self, found: list[Due], why: str) -> None:
        words = f"exports wait ({', '.join(one.period.label for one in found)}): {why}"
        if words != self._told:
            log.warning("%s", words)
            self._told = words

    def _note(self, period: Period, done: Exported) -> None:
        values = {
            "period": period.label,
            "tenant_id": done.tenant_id or _ALL,
            "file_name": done.path.name,
            "row_count": done.row_count,
            "cost_nanos": done.cost_nanos,
            "sha256": done.sha256,
            "written_at": now_utc(),
            "machine": host(),
        }
        # Another control process was as quick.
        with contextlib.suppress(IntegrityError), self._engine.begin() as connection:
            connection.execute(insert(exports).values(values))

    def _sweep(self) -> None:
        for part in self._folder.glob(".*.part"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - _changed_at(part) > _PART_SECONDS_MAX:
                    part.unlink()


def _changed_at(path: Path) -> float:
    return path.stat().st_mtime
