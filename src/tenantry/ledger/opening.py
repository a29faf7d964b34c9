"""What had been spent when a gateway starts: the ledger's sums and what journals hold beside it.

A gateway that was killed leaves lines that are not booked yet. They count from the first request on, so the counters
are right before the gateway accepts one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, select

from tenantry.domain.periods import Period, period_of
from tenantry.domain.prices import PriceTable
from tenantry.ledger.adjustments import held_unpriced, newest_entry
from tenantry.ledger.booking import already_booked
from tenantry.ledger.events import EndedAttempt, RunReader
from tenantry.ledger.journal import is_alive, last_signs
from tenantry.ledger.quarantine import attempts_in_quarantine, counted_nanos, held_in_quarantine
from tenantry.ledger.spending import spent_by_holder
from tenantry.storage.database import reading
from tenantry.storage.tables import journals

PERIODS = ("day", "week", "month")

Holder = tuple[str, str]


@dataclass(slots=True)
class Opening:
    """Nano-dollars by tenant and key, by period kind, at `at_us`; key "" is the tenant as a whole.

    `entry_id` is the last row of the ledger that is in it: `adjustments_since` goes on from there.
    """

    at_us: int
    entry_id: int = 0
    spent: dict[Holder, dict[str, int]] = field(default_factory=dict[Holder, dict[str, int]])

    def of(self, tenant_id: str, key_id: str = "") -> dict[str, int]:
        return self.spent.get((tenant_id, key_id), {})

    def add(self, tenant_id: str, key_id: str, kind: str, nanos: int) -> None:
        for holder in ((tenant_id, ""), (tenant_id, key_id)):
            kinds = self.spent.setdefault(holder, {})
            kinds[kind] = kinds.get(kind, 0) + nanos


def open_counters(engine: Engine, journal_dir: Path, prices: PriceTable, zone: ZoneInfo, at_us: int) -> Opening:
    """Sum the ledger and the journals below `journal_dir` for the periods that hold `at_us`."""
    # The journals first: what is booked between the two is found in the ledger and not counted from its line.
    unbooked = _read_journals(engine, journal_dir, prices)
    periods = [period_of(kind, at_us, zone) for kind in PERIODS]
    opening = Opening(at_us)
    with reading(engine) as connection:
        opening.entry_id = newest_entry(connection)
        booked = already_booked(connection, [one.begun.attempt_id for one in unbooked])
        booked |= attempts_in_quarantine(connection)
        for period in periods:
            for sums in (spent_by_holder, held_unpriced, held_in_quarantine):
                for (tenant_id, key_id), nanos in sums(connection, period.start_us, period.end_us).items():
                    opening.add(tenant_id, key_id, period.kind, nanos)
    for one in unbooked:
        if one.begun.attempt_id not in booked:
            booked.add(one.begun.attempt_id)
            _count(opening, periods, one)
    return opening


def _count(opening: Opening, periods: list[Period], one: EndedAttempt) -> None:
    for period in periods:
        if period.start_us <= one.end.ended_at_us < period.end_us:
            opening.add(one.begun.tenant_id, one.begun.key_id, period.kind, counted_nanos(one))


def _read_journals(engine: Engine, journal_dir: Path, prices: PriceTable) -> list[EndedAttempt]:
    """Every attempt that has ended, or whose gateway is dead, from where the drain had come to."""
    found: list[EndedAttempt] = []
    if not journal_dir.is_dir():
        return found
    for run in [entry for entry in journal_dir.iterdir() if entry.is_dir()]:
        with engine.connect() as connection:
            cursor = connection.execute(select(journals).where(journals.c.run_id == run.name)).first()
        alive = is_alive(run)
        reader = RunReader(run, cursor.file_number, cursor.offset) if cursor is not None else RunReader(run)
        reader.read()
        found.extend(reader.fold.ended)
        if not alive:
            found.extend(reader.fold.orphans(prices, time.time_ns() // 1000, last_signs(run)))
    return found
