"""What had been spent when a gateway starts: the ledger's sums and what journals hold beside it.

A gateway that was killed leaves lines that are not booked yet. They count from the first request on, so the counters
are right before the gateway accepts one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger, Connection, Engine, literal, select

from tenantry.domain.opening import PERIODS, Opening
from tenantry.domain.periods import Period, period_of
from tenantry.domain.plans import PRICED_TOKENS
from tenantry.domain.prices import PriceTable
from tenantry.ledger.adjustments import newest_entry
from tenantry.ledger.booking import IDS_AT_ONCE, already_booked
from tenantry.ledger.counted import counted_by_holder
from tenantry.ledger.events import EndedAttempt, RunReader
from tenantry.ledger.journal import is_alive, last_signs
from tenantry.ledger.lines import Begun
from tenantry.ledger.quarantine import attempts_in_quarantine, counted_nanos
from tenantry.storage.allowances import tenants_counting_tokens, tokens_of
from tenantry.storage.database import reading
from tenantry.storage.tables import journals, ledger

# So many tenants are asked for one by one; of more, the whole ledger's sums are read.
ONE_BY_ONE_MAX = 64


def open_counters(
    engine: Engine,
    journal_dir: Path,
    prices: PriceTable,
    zone: ZoneInfo,
    at_us: int,
    running: Collection[str] = (),
) -> Opening:
    """Sum the ledger and the journals below `journal_dir` for the periods that hold `at_us`.

    `running`: attempts of living gateways, which may have ended by the time that they are looked for here.
    """
    # The journals first: what is booked between the two is found in the ledger and not counted from its line.
    unbooked = [one for run in read_runs(engine, journal_dir, prices) for one in run.ended]
    periods = [period_of(kind, at_us, zone) for kind in PERIODS]
    with reading(engine) as connection:
        return sum_up(connection, unbooked, periods, at_us, running)


def sum_up(
    connection: Connection,
    unbooked: Sequence[EndedAttempt],
    periods: Sequence[Period],
    at_us: int,
    running: Collection[str] = (),
    tenant_ids: Collection[str] | None = None,
) -> Opening:
    """The opening, as one view of the store has it, and of what journals had beside it before; `tenant_ids`: of these
    tenants alone."""
    opening = Opening(at_us, newest_entry(connection))
    booked = already_booked(connection, [*(one.begun.attempt_id for one in unbooked), *running])
    booked |= attempts_in_quarantine(connection)
    counting = tenants_counting_tokens(connection)
    few = tenant_ids if tenant_ids is not None and len(tenant_ids) <= ONE_BY_ONE_MAX else None
    for period in periods:
        for one_tenant in few if few is not None else (None,):
            counted = counted_by_holder(connection, period.start_us, period.end_us, one_tenant)
            for holder, found in counted.items():
                opening.spent.setdefault(holder, {})[period.kind] = found.nanos
        for tenant_id in counting if tenant_ids is None else counting.intersection(tenant_ids):
            tokens = tokens_of(connection, tenant_id, period.start_us, period.end_us)
            opening.tokens.setdefault(tenant_id, {})[period.kind] = tokens
    for one in unbooked:
        if one.begun.attempt_id not in booked:
            booked.add(one.begun.attempt_id)
            _count(opening, periods, one)
    opening.ended = booked.intersection(running)
    return opening


def costs_of(
    engine: Engine, journal_dir: Path, prices: PriceTable, attempt_ids: Sequence[str]
) -> dict[str, tuple[int, int, int]]:
    """What attempts that have ended, or whose gateway is dead, count for: nano-dollars, tokens, and when (us)."""
    wanted = {*attempt_ids}
    unbooked = [one for run in read_runs(engine, journal_dir, prices) for one in run.ended]
    found = {one.begun.attempt_id: (counted_nanos(one), counted_tokens(one), one.end.ended_at_us) for one in unbooked}
    used = sum((ledger.c[name] for name in PRICED_TOKENS), literal(0, BigInteger)).label("used")
    columns = ledger.c.attempt_id, ledger.c.cost_nanos, ledger.c.held_nanos, ledger.c.ended_at_us, used
    with reading(engine) as connection:
        for first in range(0, len(attempt_ids), IDS_AT_ONCE):
            some = attempt_ids[first : first + IDS_AT_ONCE]
            for row in connection.execute(select(*columns).where(ledger.c.attempt_id.in_(some))):
                nanos = row.cost_nanos if row.cost_nanos is not None else row.held_nanos or 0
                found[row.attempt_id] = (nanos, int(row.used), row.ended_at_us)
    return {name: cost for name, cost in found.items() if name in wanted}


def _count(opening: Opening, periods: Sequence[Period], one: EndedAttempt) -> None:
    begun, ended_at_us = one.begun, one.end.ended_at_us
    opening.count(periods, begun.tenant_id, begun.key_id, ended_at_us, counted_nanos(one))
    for period in periods:
        if period.start_us <= ended_at_us < period.end_us:
            kinds = opening.tokens.setdefault(begun.tenant_id, {})
            kinds[period.kind] = kinds.get(period.kind, 0) + counted_tokens(one)


def counted_tokens(one: EndedAttempt) -> int:
    """Of all classes."""
    usage = one.end.usage
    return sum(getattr(usage, name) for name in PRICED_TOKENS)


@dataclass(slots=True)
class ReadRun:
    """What a journal holds beside what is booked of it. `ended`: with those that a dead gateway has left open.

    `running`: the attempts that a living one is in the middle of.
    """

    run_id: str
    is_alive: bool
    ended: list[EndedAttempt]
    running: list[Begun]


def read_runs(engine: Engine, journal_dir: Path, prices: PriceTable) -> list[ReadRun]:
    """Every attempt that has ended, or whose gateway is dead, from where the drain had come to.

    A run that is booked to its end may be removed at any moment: what was in it is in the ledger, which is read next.
    """
    found: list[ReadRun] = []
    if not journal_dir.is_dir():
        return found
    for run in [entry for entry in journal_dir.iterdir() if entry.is_dir()]:
        with contextlib.suppress(FileNotFoundError):
            found.append(_read_run(engine, run, prices))
    return found


def _read_run(engine: Engine, run: Path, prices: PriceTable) -> ReadRun:
    """Raises: FileNotFoundError: it has been removed."""
    with engine.connect() as connection:
        cursor = connection.execute(select(journals).where(journals.c.run_id == run.name)).first()
    alive = is_alive(run)
    reader = RunReader(run, cursor.file_number, cursor.offset) if cursor is not None else RunReader(run)
    reader.read()
    fold = reader.fold
    orphans = [] if alive else fold.orphans(prices, time.time_ns() // 1000, last_signs(run))
    running = [one.begun for one in fold.open.values()] if alive else []
    return ReadRun(run.name, alive, [*fold.ended, *orphans], running)
