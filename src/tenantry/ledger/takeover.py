"""What a gateway counts of tenants that it takes over: what was spent, and what others may have spent (decision 0021).

Another gateway that had a tenant has taken so much of its budgets beforehand. What of that is known, because it is
booked or stands in a journal that can be read here, counts as what it is; the rest is in doubt, and is held. It is in
doubt no more when that gateway's journal is booked to its end, or can be read to its end here, or when an operator
declares its machine lost: then the rest counts as spent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import add
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, case, func, select

from tenantry.domain.doubts import Doubt, Taken, weigh
from tenantry.domain.holds import NANOS, TOKENS
from tenantry.domain.opening import PERIODS, Opening
from tenantry.domain.periods import Period, period_of
from tenantry.domain.plans import PRICED_TOKENS
from tenantry.domain.prices import PriceTable
from tenantry.ledger.booking import already_booked
from tenantry.ledger.events import EndedAttempt
from tenantry.ledger.lines import Begun
from tenantry.ledger.opening import ReadRun, counted_tokens, read_runs, sum_up
from tenantry.ledger.quarantine import attempts_in_quarantine, counted_nanos, quarantined_of
from tenantry.storage.ceilings import forgotten, taken_of
from tenantry.storage.database import reading
from tenantry.storage.journals import Booked, find_booked
from tenantry.storage.many import VALUES_AT_ONCE
from tenantry.storage.tables import ledger

_DAY_US = 86_400 * 1_000_000
_EVER_US = 0


@dataclass(slots=True)
class Takeover:
    """All that is to be known of the tenants. `running`: what living gateways are in the middle of for them, with the
    journals that this is in."""

    opening: Opening
    doubts: list[Doubt]
    running: list[tuple[str, Begun]]


Sums = list[tuple[Any, ...]]


class Looked:
    """What was summed at the look before: only of what was booked since then there is something to sum."""

    def __init__(self) -> None:
        self._before: dict[Any, tuple[int, Sums]] = {}
        self._now: dict[Any, tuple[int, Sums]] = {}

    def begin(self) -> None:
        self._before, self._now = self._now, {}

    def sums(self, what: Any, rows: int, sum_up: Callable[[], Iterable[tuple[Any, ...]]]) -> Sums:
        """`what` is asked for, where so many `rows` of its journal are booked."""
        known = self._before.get(what)
        found = known if known is not None and known[0] == rows else (rows, [*sum_up()])
        self._now[what] = found
        return found[1]


def open_tenants(
    engine: Engine,
    journal_dir: Path,
    prices: PriceTable,
    zone: ZoneInfo,
    at_us: int,
    tenant_ids: Collection[str],
    me: Collection[str],
) -> Takeover:
    """What was spent of these tenants' budgets, and what others than `me` may have spent: this gateway, and those whose
    place it has taken. To be asked when the tenants' cells are owned already: from then on nobody else takes anything
    of their budgets by itself."""
    wanted = {*tenant_ids}
    runs = read_runs(engine, journal_dir, prices)
    unbooked = _of(wanted, (one for run in runs for one in run.ended))
    periods = [period_of(kind, at_us, zone) for kind in PERIODS]
    with reading(engine) as connection:
        opening = sum_up(connection, unbooked, periods, at_us, tenant_ids=wanted)
        taken = taken_of(connection, sorted(wanted), but=me)
        doubts = [one for one in _doubts(connection, taken, runs, periods, Looked()) if not one.is_over or one.rest]
    running = [
        (run.run_id, one) for run in runs if run.run_id not in me for one in run.running if one.tenant_id in wanted
    ]
    return Takeover(opening, doubts, running)


def look_again(
    engine: Engine,
    journal_dir: Path,
    prices: PriceTable,
    zone: ZoneInfo,
    at_us: int,
    doubts: Sequence[Doubt],
    attempts: Mapping[str, str],
    looked: Looked | None = None,
) -> tuple[list[Doubt], set[str]]:
    """The same doubts, as they are now, in this order; and those of these attempts that have ended.

    `attempts`: each with the journal that it is in. What cannot be read here has ended when it is booked. `looked`:
    what was found at the look before, which this one makes its own.
    """
    looked = Looked() if looked is None else looked
    looked.begin()
    runs = read_runs(engine, journal_dir, prices)
    running = {one.attempt_id for run in runs for one in run.running}
    readable = {run.run_id for run in runs}
    periods = [period_of(kind, at_us, zone) for kind in PERIODS]
    with reading(engine) as connection:
        ended = already_booked(connection, [*attempts]) if attempts else set[str]()
        closed = closed_runs(connection, {*attempts.values()})
        ended |= {name for name, run in attempts.items() if run in closed or (run in readable and name not in running)}
        return _doubts(connection, _as_they_are_now(connection, doubts), runs, periods, looked), ended


def _as_they_are_now(connection: Connection, doubts: Sequence[Doubt]) -> list[Taken]:
    """What is taken, in this order: who has given a cell away lowers it as its answers end. What is gone is booked."""
    found = taken_of(connection, sorted({one.taken.tenant_id for one in doubts}), but=())
    now = {one.name: one for one in found}
    return [now.get(one.taken.name, one.taken) for one in doubts]


def closed_runs(connection: Connection, run_ids: Collection[str]) -> set[str]:
    """Those of these journals that are booked to their end."""
    return {name for name, booked in find_booked(connection, run_ids).items() if booked.is_whole}


def _of(wanted: set[str], attempts: Iterable[EndedAttempt]) -> list[EndedAttempt]:
    return [one for one in attempts if one.begun.tenant_id in wanted]


def _doubts(
    connection: Connection, taken: Sequence[Taken], runs: Sequence[ReadRun], periods: Sequence[Period], looked: Looked
) -> list[Doubt]:
    by_run = {run.run_id: run for run in runs}
    gateway_ids = sorted({one.gateway_id for one in taken})
    booked, lost = find_booked(connection, gateway_ids), forgotten(connection, gateway_ids)
    closed = {name for name, one in booked.items() if one.is_whole}
    starts_us = {period.kind: period.start_us for period in periods}
    spent = _known(connection, taken, by_run, periods, booked, looked)
    found: list[Doubt] = []
    for one in taken:
        run, lost_at_us = by_run.get(one.gateway_id), lost.get(one.gateway_id)
        total, *current = spent[one.name]
        known = {period.kind: nanos for period, nanos in zip(periods, current, strict=True)}
        is_whole = one.gateway_id in closed or (run is not None and not run.is_alive)
        found.append(weigh(one, total, known, starts_us, is_known_whole=is_whole, lost_at_us=lost_at_us))
    return found


def _known(
    connection: Connection,
    taken: Sequence[Taken],
    runs: Mapping[str, ReadRun],
    periods: Sequence[Period],
    booked: Mapping[str, Booked],
    looked: Looked,
) -> dict[tuple[str, str, str, str], list[int]]:
    """What of each is booked, in quarantine, or can be read here: in all, then in each of the periods. By names.

    What many tenants are in doubt about is asked for together, and where something was booked: it is looked at again
    each second.
    """
    found = {one.name: [0] * (1 + len(periods)) for one in taken}
    alike: dict[tuple[str, str, int], list[Taken]] = {}
    for one in taken:
        # Before a plan had any, tokens were not counted; money always was.
        begun_us = one.since_us if one.unit == TOKENS else _EVER_US
        alike.setdefault((one.gateway_id, one.unit, begun_us), []).append(one)
    for (gateway_id, unit, begun_us), some in alike.items():
        run, names = runs.get(gateway_id), {one.name for one in some}
        unbooked = (
            _unbooked(connection, run, {one.tenant_id for one in some}, unit, begun_us, periods)
            if run is not None
            else ()
        )
        rows = booked[gateway_id].rows if gateway_id in booked else 0
        what = gateway_id, unit, begun_us, frozenset(names), tuple((one.start_us, one.end_us) for one in periods)
        sum_up = partial(_booked, connection, gateway_id, unit, begun_us, some, periods)
        in_ledger = looked.sums(what, rows, sum_up)
        for tenant_id, key_id, *sums in (*in_ledger, *unbooked):
            for holder in {"", key_id}:
                name = (tenant_id, holder, unit, gateway_id)
                if name in names:
                    found[name][:] = map(add, found[name], sums)
    for gateway_id, tenant_id, key_id, nanos, at_us in quarantined_of(connection, sorted({one[3] for one in found})):
        sums = [nanos, *(nanos if one.start_us <= at_us < one.end_us else 0 for one in periods)]
        for holder in {"", key_id}:
            name = (tenant_id, holder, NANOS, gateway_id)
            if name in found:
                found[name][:] = map(add, found[name], sums)
    return found


def _booked(
    connection: Connection, gateway_id: str, unit: str, begun_us: int, taken: Sequence[Taken], periods: Sequence[Period]
) -> Iterator[tuple[Any, ...]]:
    """Tenant, key, and what is booked of what had begun at `begun_us` or later: in all, then in each of the periods."""
    columns: Any = ledger.c
    amount = func.coalesce(columns.cost_nanos, columns.held_nanos, 0)
    if unit == TOKENS:
        amount = sum((columns[name] for name in PRICED_TOKENS[1:]), columns[PRICED_TOKENS[0]])
    sums = [func.sum(amount)]
    for period in periods:
        is_in = (columns.ended_at_us >= period.start_us) & (columns.ended_at_us < period.end_us)
        sums.append(func.sum(case((is_in, amount), else_=0)))
    since_us = min(one.since_us for one in taken) - _DAY_US  # for the index: clocks may differ by as much
    tenant_ids = sorted({one.tenant_id for one in taken})
    for first in range(0, len(tenant_ids), VALUES_AT_ONCE):
        query = select(columns.tenant_id, columns.key_id, *sums).where(
            columns.tenant_id.in_(tenant_ids[first : first + VALUES_AT_ONCE]),
            columns.ended_at_us >= since_us,
            columns.journal_run == gateway_id,
            columns.begun_at_us >= begun_us,
            columns.adjusts.is_(None),
        )
        rows: Any = connection.execute(query.group_by(columns.tenant_id, columns.key_id))
        for tenant_id, key_id, *found in rows:
            yield tenant_id, key_id, *(int(one or 0) for one in found)  # PostgreSQL's sums are decimals


def _unbooked(
    connection: Connection,
    run: ReadRun,
    tenant_ids: Collection[str],
    unit: str,
    begun_us: int,
    periods: Sequence[Period],
) -> Iterator[tuple[Any, ...]]:
    """The same, of each attempt that has ended and is not booked yet."""
    ended = [one for one in run.ended if one.begun.tenant_id in tenant_ids and one.begun.begun_at_us >= begun_us]
    booked = already_booked(connection, [one.begun.attempt_id for one in ended])
    if ended:
        booked |= attempts_in_quarantine(connection)
    for one in ended:
        if one.begun.attempt_id not in booked:
            amount = counted_tokens(one) if unit == TOKENS else counted_nanos(one)
            at_us = one.end.ended_at_us
            sums = (amount if period.start_us <= at_us < period.end_us else 0 for period in periods)
            yield one.begun.tenant_id, one.begun.key_id, amount, *sums
