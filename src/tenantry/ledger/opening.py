"""What had been spent when a gateway starts: the ledger's sums and what journals hold beside it.

A gateway that was killed leaves lines that are not booked yet. They count from the first request on, so the counters
are right before the gateway accepts one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, select

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, AttemptProgress
from tenantry.domain.periods import Period, period_of
from tenantry.domain.prices import PriceTable
from tenantry.ledger.booking import orphan
from tenantry.ledger.journal import files_of, is_alive, read_file
from tenantry.ledger.spending import spent_by_holder
from tenantry.storage.database import reading
from tenantry.storage.tables import journals, ledger

PERIODS = ("day", "week", "month")
# SQLite takes 32,766 variables in a statement.
_IDS_AT_ONCE = 500

Holder = tuple[str, str]


@dataclass(slots=True)
class Opening:
    """Nano-dollars by tenant and key, by period kind, at `at_us`; key "" is the tenant as a whole."""

    at_us: int
    spent: dict[Holder, dict[str, int]] = field(default_factory=dict[Holder, dict[str, int]])

    def of(self, tenant_id: str, key_id: str = "") -> dict[str, int]:
        return self.spent.get((tenant_id, key_id), {})

    def add(self, tenant_id: str, key_id: str, kind: str, nanos: int) -> None:
        for holder in ((tenant_id, ""), (tenant_id, key_id)):
            kinds = self.spent.setdefault(holder, {})
            kinds[kind] = kinds.get(kind, 0) + nanos


@dataclass(slots=True)
class _Line:
    begun: AttemptBegun
    progress: AttemptProgress | None = None
    ended: AttemptEnded | None = None


def open_counters(engine: Engine, journal_dir: Path, prices: PriceTable, zone: ZoneInfo, at_us: int) -> Opening:
    """Sum the ledger and the journals below `journal_dir` for the periods that hold `at_us`."""
    # The journals first: what is booked between the two is found in the ledger and not counted from its line.
    unbooked = _read_journals(engine, journal_dir, prices)
    periods = [period_of(kind, at_us, zone) for kind in PERIODS]
    opening = Opening(at_us)
    with reading(engine) as connection:
        booked = _booked(connection, list(unbooked))
        for period in periods:
            for (tenant_id, key_id), nanos in spent_by_holder(connection, period.start_us, period.end_us).items():
                opening.add(tenant_id, key_id, period.kind, nanos)
    for attempt_id, (begun, ended) in unbooked.items():
        if attempt_id not in booked:
            _count(opening, periods, begun, ended)
    return opening


def _count(opening: Opening, periods: list[Period], begun: AttemptBegun, ended: AttemptEnded) -> None:
    for period in periods:
        if period.start_us <= ended.ended_at_us < period.end_us:
            opening.add(begun.tenant_id, begun.key_id, period.kind, ended.cost_nanos or 0)


def _read_journals(
    engine: Engine, journal_dir: Path, prices: PriceTable
) -> dict[str, tuple[AttemptBegun, AttemptEnded]]:
    """Every attempt that has ended, or whose gateway is dead, from where the drain had come to."""
    found: dict[str, tuple[AttemptBegun, AttemptEnded]] = {}
    if not journal_dir.is_dir():
        return found
    for run in [entry for entry in journal_dir.iterdir() if entry.is_dir()]:
        with engine.connect() as connection:
            cursor = connection.execute(select(journals).where(journals.c.run_id == run.name)).first()
        alive = is_alive(run)
        for attempt_id, line in _read_run(run, cursor.file_number if cursor else 1, cursor.offset if cursor else 0):
            if line.ended is not None:
                found[attempt_id] = (line.begun, line.ended)
            elif not alive:
                found[attempt_id] = (line.begun, orphan(line.begun, line.progress, prices))
    return found


def _read_run(run: Path, file_number: int, offset: int) -> list[tuple[str, _Line]]:
    lines: dict[str, _Line] = {}
    for path in files_of(run):
        number = int(path.stem)
        if number < file_number:
            continue
        try:
            entries = list(read_file(path, offset if number == file_number else 0))
        except FileNotFoundError:  # it has been booked and removed at this moment
            continue
        for entry in entries:
            event = entry.event
            if isinstance(event, AttemptBegun):
                lines[event.attempt_id] = _Line(event)
            elif isinstance(event, AttemptProgress) and event.attempt_id in lines:
                lines[event.attempt_id].progress = event
            elif isinstance(event, AttemptEnded) and event.attempt_id in lines:
                lines[event.attempt_id].ended = event
    return list(lines.items())


def _booked(connection: Connection, attempt_ids: list[str]) -> set[str]:
    booked: set[str] = set()
    for start in range(0, len(attempt_ids), _IDS_AT_ONCE):
        some = attempt_ids[start : start + _IDS_AT_ONCE]
        booked.update(connection.execute(select(ledger.c.attempt_id).where(ledger.c.attempt_id.in_(some))).scalars())
    return booked
