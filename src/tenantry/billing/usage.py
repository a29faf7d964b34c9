"""What a tenant used in a month as its bill needs it, read from the sums of the ledger and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Select, bindparam, func, select

from tenantry.billing.months import Month
from tenantry.domain.attempts import Outcome
from tenantry.domain.periods import read_period
from tenantry.domain.plans import PRICED_TOKENS, SEARCHES
from tenantry.storage.tables import gateway_keys, usage_rollup

# Booked at a bound or a guess: cut off, or its gateway died.
ESTIMATES = (Outcome.ESTIMATED.value, Outcome.ORPHANED.value)
ADJUSTED = Outcome.ADJUSTED.value
UNPRICED = Outcome.UNPRICED.value
COUNTED = (*PRICED_TOKENS, SEARCHES)
# When an attempt that was booked without a price got its first one: not yet, within its month, or later.
NOT_YET, IN_MONTH, LATER = "", "in_month", "later"


@dataclass(frozen=True, slots=True)
class Used:
    """Sums of ledger rows of one key, model and outcome that ended on days from `first` on, of one week at most.

    `rows` counts attempts and corrections. `counts` has tokens and searches by the ledger's columns,
    `extra` what its rows cost beside those (domain/surcharges.py), where a plan's own prices bear it.
    `priced` is of attempts that were booked without a price: when corrections gave them one.
    """

    first: date
    key_id: str
    model: str
    outcome: str
    attempts: int
    rows: int
    cost_nanos: int
    counts: Mapping[str, int]
    extra: Mapping[tuple[str, str, str], Fraction] = field(default_factory=dict[tuple[str, str, str], Fraction])
    priced: str = NOT_YET

    @property
    def tokens(self) -> int:
        return sum(self.counts[name] for name in PRICED_TOKENS)


class ReadUsage(Protocol):
    """How the usage of a month is read: `read_usage`, or what tells the same of sums that are remembered."""

    def __call__(
        self, connection: Connection, tenant_id: str, month: Month, zone: ZoneInfo, cuts: Iterable[date] = ()
    ) -> list[Used]: ...


def read_usage(
    connection: Connection, tenant_id: str, month: Month, zone: ZoneInfo, cuts: Iterable[date] = ()
) -> list[Used]:
    """The usage of a month; no sum reaches over a Monday, or over a day of `cuts`."""
    days = cut_days(month, cuts)
    return [
        used
        for first, end in pairwise(days)
        for used in _between(connection, tenant_id, first, start_us(first, zone), start_us(end, zone))
    ]


def cut_days(month: Month, cuts: Iterable[date]) -> Sequence[date]:
    """Where sums of a month begin, and its end: no sum reaches over one of them."""
    mondays = (month.first + timedelta(days=number) for number in range(month.days))
    found = {month.first, month.end, *(day for day in mondays if day.weekday() == 0)}
    return sorted(found | {day for day in cuts if month.first < day < month.end})


def slots_of_keys(connection: Connection, tenant_id: str) -> dict[str, str]:
    """The slots of a tenant's keys by their id; a key that is for none is not in it. It is a key's for good."""
    columns = gateway_keys.c
    query = select(columns.key_id, columns.slot).where(columns.tenant_id == tenant_id, columns.slot != "")
    return {row.key_id: row.slot for row in connection.execute(query)}


# Of a month there are six, and who bills many tenants asks for the same ones of each.
@lru_cache(maxsize=1024)
def start_us(day: date, zone: ZoneInfo) -> int:
    """The first instant of a day."""
    return read_period(day.isoformat(), zone).start_us


@cache
def _query_between() -> Select[*tuple[Any, ...]]:
    """Made once: who bills a year asks it some ten thousand times, and to make it took as long as its answer."""
    columns = usage_rollup.c
    key = (columns.key_id, columns.model, columns.outcome)
    sums = (columns.attempts, columns.adjustments, columns.cost_nanos, *(columns[name] for name in COUNTED))
    return (
        select(*key, *(func.sum(one) for one in sums))
        .where(
            columns.tenant_id == bindparam("tenant_id"),
            columns.quarter_us >= bindparam("start_us"),
            columns.quarter_us < bindparam("end_us"),
        )
        .group_by(*key)
        .order_by(*key)
    )


def _between(connection: Connection, tenant_id: str, first: date, start_us: int, end_us: int) -> list[Used]:
    found: list[Used] = []
    asked = {"tenant_id": tenant_id, "start_us": start_us, "end_us": end_us}
    for row in connection.execute(_query_between(), asked):
        key_id, model, outcome, *values = plain_row(row)
        attempts, adjustments, nanos, *counts = map(int, values)
        by_name: dict[str, int] = dict(zip(COUNTED, counts, strict=True))
        found.append(Used(first, key_id, model, outcome, attempts, attempts + adjustments, nanos, by_name))
    return found


def plain_row(row: Iterable[Any]) -> list[Any]:
    return list(row)


def month_totals(connection: Connection, month: Month, zone: ZoneInfo) -> dict[str, tuple[int, int]]:
    """Rows and cost in nano-dollars of a month, by internal id of the tenant."""
    columns = usage_rollup.c
    query = (
        select(columns.tenant_id, func.sum(columns.attempts + columns.adjustments), func.sum(columns.cost_nanos))
        .where(
            columns.quarter_us >= start_us(month.first, zone),
            columns.quarter_us < start_us(month.end, zone),
        )
        .group_by(columns.tenant_id)
    )
    return {tenant_id: (int(rows), int(nanos)) for tenant_id, rows, nanos in connection.execute(query)}
