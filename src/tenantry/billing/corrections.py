"""Corrections of attempts that ended in an earlier month than that in which they were booked (ledger/adjustments.py).

They are rows of the month in which they are booked, and so is what they change; what that is, the terms of the month of
their attempts decide: that month's bill with them, less its bill without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger, Connection, Select, bindparam, func, literal, select

from tenantry.billing.months import Month
from tenantry.billing.usage import ADJUSTED, COUNTED, IN_MONTH, LATER, UNPRICED, Used, start_us
from tenantry.ledger.rollup import MODEL_CHARS_MAX, QUARTER_US, WAS_UNPRICED
from tenantry.storage.tables import ledger

# On an invoice; a month's usage export names every one (its column `adjusts`).
REFERENCES_MAX = 200


@dataclass(frozen=True, slots=True)
class Corrected:
    """Corrections of one key, model and reason at one version of the prices, as sums.

    `of` is the day on which their attempts ended, `booked` that of the corrections. `outcome` and `counts`, by the
    ledger's columns, are those of the attempts.
    """

    of: date
    booked: date
    key_id: str
    model: str
    reason: str
    price_version: str
    rows: int
    cost_nanos: int
    outcome: str = ""
    counts: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def is_first_price(self) -> bool:
        """Whether their attempts waited for a price until then. There is one such correction of an attempt."""
        return self.reason == WAS_UNPRICED and self.outcome == UNPRICED

    @property
    def origin(self) -> Month:
        return Month(self.of.replace(day=1))

    def is_of_before(self, month: Month) -> bool:
        """Whether it was booked in this month for an earlier one."""
        return month.first <= self.booked < month.end and self.of < month.first

    def used(self, day: date) -> Used:
        """As usage of a day."""
        counts: dict[str, int] = dict.fromkeys(COUNTED, 0)
        return Used(day, self.key_id, self.model, ADJUSTED, 0, self.rows, self.cost_nanos, counts)


@dataclass(frozen=True, slots=True)
class Reference:
    """One correction: the attempt that it corrects, when that ended, and what it changes at list price."""

    attempt_id: str
    of: date
    cost_nanos: int
    price_version: str


def read_corrections(connection: Connection, zone: ZoneInfo) -> dict[str, list[Corrected]]:
    """All that there are, by internal id of the tenant; a ledger without any costs one look at an empty index."""
    found: defaultdict[str, list[Corrected]] = defaultdict(list)
    for row in connection.execute(_query_of_sums()):
        tenant_id, of_us, booked_us, key_id, model, reason, version, outcome, rows, nanos, *counts = row
        days = (_day(int(of_us), zone), _day(int(booked_us), zone))
        key = (*days, key_id, model[:MODEL_CHARS_MAX], reason or "", version or "")
        by_name: dict[str, int] = dict(zip(COUNTED, map(int, counts), strict=True))
        found[tenant_id].append(Corrected(*key, int(rows), int(nanos or 0), outcome, by_name))
    return found


def read_references(connection: Connection, tenant_id: str, month: Month, zone: ZoneInfo) -> list[Reference]:
    """The first of those that were booked in a month for earlier ones."""
    bounds = {"start_us": start_us(month.first, zone), "end_us": start_us(month.end, zone)}
    found = connection.execute(_query_of_references(), {"tenant_id": tenant_id, **bounds})
    return [
        Reference(attempt_id, _day(int(ended_us), zone), int(nanos or 0), version or "")
        for attempt_id, ended_us, nanos, version in found
    ]


def without(used: Sequence[Used], corrected: Iterable[Corrected]) -> list[Used]:
    """The usage of a month less corrections of earlier ones, which are among its sums."""
    left = [*used]
    for one in corrected:
        for at in reversed(range(len(left))):
            sums = left[at]
            is_its = (sums.outcome, sums.key_id, sums.model) == (ADJUSTED, one.key_id, one.model)
            if is_its and sums.first <= one.booked:
                rows, cost = sums.rows - one.rows, sums.cost_nanos - one.cost_nanos
                left[at] = replace(sums, rows=rows, cost_nanos=cost)
                break
    return [one for one in left if one.outcome != ADJUSTED or one.rows or one.cost_nanos]


def with_prices(used: Sequence[Used], corrected: Iterable[Corrected], end: date) -> list[Used]:
    """The usage of a month, of which what got its first price stands apart: before the day `end`, or later.

    `corrected` are corrections of attempts of that month. Rows, tokens and cost add up to what they were.
    """
    left = [*used]
    apart: dict[tuple[int, str], Used] = {}
    for one in corrected:
        at = _waiting_at(left, one) if one.is_first_price else None
        if at is None:
            continue
        key = at, IN_MONTH if one.booked < end else LATER
        nothing = replace(used[at], attempts=0, rows=0, cost_nanos=0, counts=dict.fromkeys(COUNTED, 0), priced=key[1])
        left[at] = _with_attempts(left[at], one, -1)
        apart[key] = _with_attempts(apart.get(key, nothing), one, 1)
    return [*(one for one in left if one.outcome != UNPRICED or one.rows), *apart.values()]


def _waiting_at(used: Sequence[Used], one: Corrected) -> int | None:
    """In which of the sums its attempts are; None: in none that was read."""
    own = (UNPRICED, one.key_id, one.model)
    found = (at for at in reversed(range(len(used))) if used[at].first <= one.of)
    return next((at for at in found if (used[at].outcome, used[at].key_id, used[at].model) == own), None)


def _with_attempts(sums: Used, one: Corrected, sign: int) -> Used:
    counts = {name: count + sign * one.counts[name] for name, count in sums.counts.items()}
    attempts, rows = sums.attempts + sign * one.rows, sums.rows + sign * one.rows
    return replace(sums, attempts=attempts, rows=rows, counts=counts)


def _day(at_us: int, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(at_us // 1_000_000, zone).date()


@cache
def _query_of_sums() -> Select[*tuple[Any, ...]]:
    adjustment, attempt = ledger.alias("adjustment"), ledger.alias("attempt")
    columns = adjustment.c
    quarters = [
        (of.ended_at_us - of.ended_at_us % literal(QUARTER_US, BigInteger)).label(name)
        for of, name in ((attempt.c, "of_us"), (columns, "booked_us"))
    ]
    model = func.coalesce(columns.model_served, columns.model_requested).label("model")
    key = (columns.tenant_id, *quarters, columns.key_id, model, columns.error, columns.price_version, attempt.c.outcome)
    counts = (func.sum(attempt.c[name]) for name in COUNTED)
    return (
        select(*key, func.count(), func.sum(columns.cost_nanos), *counts)
        .select_from(adjustment.join(attempt, attempt.c.attempt_id == columns.adjusts))
        .where(columns.adjusts.is_not(None))
        .group_by(*key)
        .order_by(*key)
    )


@cache
def _query_of_references() -> Select[*tuple[Any, ...]]:
    adjustment, attempt = ledger.alias("adjustment"), ledger.alias("attempt")
    columns = adjustment.c
    return (
        select(columns.adjusts, attempt.c.ended_at_us, columns.cost_nanos, columns.price_version)
        .select_from(adjustment.join(attempt, attempt.c.attempt_id == columns.adjusts))
        .where(
            columns.adjusts.is_not(None),
            columns.tenant_id == bindparam("tenant_id"),
            columns.ended_at_us >= bindparam("start_us"),
            columns.ended_at_us < bindparam("end_us"),
            attempt.c.ended_at_us < bindparam("start_us"),
        )
        .order_by(columns.entry_id)
        .limit(REFERENCES_MAX)
    )
