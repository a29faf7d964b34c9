"""Corrections: what another version of the prices would change, booked as rows of their own (never as edits).

An adjustment carries the difference alone and counts when it is booked, so a month that was invoiced keeps its sums.
Its id is made from the attempt and the number of adjustments before it: of two bookings at once, one is refused.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    Select,
    bindparam,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.exc import IntegrityError

from tenantry.domain.attempts import BASIS_BOUND, Outcome
from tenantry.domain.prices import PriceTable
from tenantry.domain.usage import Usage, read_usage
from tenantry.domain.values import value
from tenantry.ledger.own_run import OwnRun
from tenantry.ledger.rollup import QUARTER_US, REPRICED, TOKEN_CLASSES, WAS_UNPRICED
from tenantry.storage.database import reading, streamed
from tenantry.storage.tables import ledger
from tenantry.wire.loose import decode_loosely

ROWS_PER_TRANSACTION_MAX = 500
# A voided attempt owes nothing at any price.
_PRICED_OUTCOMES = (Outcome.SETTLED, Outcome.ESTIMATED, Outcome.ORPHANED, Outcome.UNPRICED)


class BookedMeanwhile(Exception):
    """Another adjustment was booked at the same time; look again at what is left to change."""


@value
class Change:
    """One attempt whose cost would be another. `before_nanos` is what is booked, earlier adjustments included."""

    attempt: Mapping[str, Any]
    before_nanos: int
    after_nanos: int
    earlier_adjustments: int
    was_unpriced: bool

    @property
    def model(self) -> str:
        return self.attempt["model_served"] or self.attempt["model_requested"]


@dataclass(slots=True)
class Recomputed:
    """Changes summed for one tenant and model. `unpriced` attempts have no price in this version either."""

    tenant_id: str
    model: str
    attempts: int = 0
    before_nanos: int = 0
    after_nanos: int = 0
    unpriced: int = 0


@value
class Scope:
    """Which attempts to look at: all, or those of a tenant, or those that ended in a range."""

    tenant_id: str | None = None
    start_us: int | None = None
    end_us: int | None = None


def recompute(engine: Engine, prices: PriceTable, scope: Scope) -> list[Recomputed]:
    """What `prices` would change, by tenant and model; those without any difference are left out."""
    sums: dict[tuple[str, str], Recomputed] = {}
    for change in _changes(engine, prices, scope):
        attempt = change.attempt if isinstance(change, Change) else change
        model = attempt["model_served"] or attempt["model_requested"]
        found = sums.setdefault((attempt["tenant_id"], model), Recomputed(attempt["tenant_id"], model))
        if not isinstance(change, Change):
            found.unpriced += 1
            continue
        found.attempts += 1
        found.before_nanos += change.before_nanos
        found.after_nanos += change.after_nanos
    return [sums[key] for key in sorted(sums)]


def book_adjustments(engine: Engine, prices: PriceTable, scope: Scope) -> int:
    """Book the differences; the number of rows. A second time there is nothing left to book.

    Raises:
        BookedMeanwhile: someone else booked one of them; those of whole transactions before it are kept.
    """
    run = _Run(engine, prices.version)
    changes = (change for change in _changes(engine, prices, scope) if isinstance(change, Change))
    for some in _batches(changes):
        run.book(some)
    return run.seq


def _changes(engine: Engine, prices: PriceTable, scope: Scope) -> Iterator[Change | Mapping[str, Any]]:
    """Attempts whose cost differs, and (as they are) those that have no cost still."""
    booked = (
        select(ledger.c.adjusts, func.sum(ledger.c.cost_nanos).label("nanos"), func.count().label("count"))
        .where(ledger.c.adjusts.is_not(None))
        .group_by(ledger.c.adjusts)
        .subquery()
    )
    query = (
        select(ledger, booked.c.nanos.label("adjusted_nanos"), booked.c.count.label("adjusted_count"))
        .outerjoin(booked, booked.c.adjusts == ledger.c.attempt_id)
        # Without a version the cost never came from a price: an attempt that was sent and never answered.
        .where(ledger.c.outcome.in_(_PRICED_OUTCOMES), ledger.c.price_version.is_not(None))
        # What was booked at what was held does not follow from its usage, at any price.
        .where(or_(ledger.c.basis.is_(None), ledger.c.basis != BASIS_BOUND))
        .order_by(ledger.c.entry_id)
    )
    if scope.tenant_id is not None:
        query = query.where(ledger.c.tenant_id == scope.tenant_id)
    if scope.start_us is not None:
        query = query.where(ledger.c.ended_at_us >= scope.start_us)
    if scope.end_us is not None:
        query = query.where(ledger.c.ended_at_us < scope.end_us)
    with reading(engine) as connection, streamed(connection, query, ROWS_PER_TRANSACTION_MAX) as rows:
        for row in rows:
            change = _change(row, prices)
            if change is not None:
                yield change


def _change(row: Mapping[str, Any], prices: PriceTable) -> Change | Mapping[str, Any] | None:
    earlier = row["adjusted_count"] or 0
    after_nanos = _price(row, prices)
    is_unpriced = row["cost_nanos"] is None and not earlier
    if after_nanos is None:
        return row if is_unpriced else None  # never takes back what an earlier version could price
    before_nanos = (row["cost_nanos"] or 0) + int(row["adjusted_nanos"] or 0)
    if after_nanos == before_nanos and not is_unpriced:
        return None
    return Change(row, before_nanos, after_nanos, earlier, is_unpriced)


def _price(row: Mapping[str, Any], prices: PriceTable) -> int | None:
    """The cost at `prices`, by the same rules as when it was booked."""
    if row["stop_reason"] == "refusal" and row["cost_nanos"]:
        # Whether it was empty decides what is billed of it, and does not stand in the row: it stays as it was booked.
        return row["cost_nanos"]
    usage = usage_of(row)
    if usage is None and row["cost_nanos"] is not None:
        return row["cost_nanos"]  # its speed and its iterations are lost: no price can be made of the rest
    was_refused_empty = row["stop_reason"] == "refusal"
    # An orphan's end is when its gateway was found dead; it was priced as of its beginning.
    at_us = row["begun_at_us"] if row["outcome"] == Outcome.ORPHANED.value else row["ended_at_us"]
    return prices.price(
        usage or Usage(**_counts(row)),
        row["model_served"] or row["model_requested"],
        datetime.fromtimestamp(at_us // 1_000_000, UTC),
        content_empty=was_refused_empty,
        stop_reason=row["stop_reason"],
    ).cost_nanos


def usage_of(row: Mapping[str, Any]) -> Usage | None:
    """Counts from the row; speed, place, service tier and iterations from what the upstream said, read as it was then.

    None: what it said was not kept.
    """
    raw = decode_loosely(row["usage_raw"].encode("utf-8", "replace")) if row["usage_raw"] else None
    if not isinstance(raw, dict):
        return None
    # Whether an hour was asked for does not stand in the row: its totals tell, and where they are split, that it is so.
    hour = row["cache_write_1h_tokens"]
    told = read_usage(raw, wants_1h=hour > 0)  # pyright: ignore[reportUnknownArgumentType] -- decoded JSON
    if told.cache_write_1h_tokens != hour:
        told = read_usage(raw)  # pyright: ignore[reportUnknownArgumentType] -- decoded JSON
    return replace(told, **_counts(row))


def _counts(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in TOKEN_CLASSES}


class _Run:
    """The chain of one booking."""

    def __init__(self, engine: Engine, price_version: str) -> None:
        self._own = OwnRun(engine)
        self._price_version = price_version

    @property
    def seq(self) -> int:
        return self._own.seq

    def book(self, changes: list[Change]) -> None:
        # One time for all of a transaction: they count together, and their sums stay few.
        now_us = time.time_ns() // 1000
        try:
            self._own.book([self._row(change, now_us) for change in changes])
        except IntegrityError as error:
            raise BookedMeanwhile((BookedMeanwhile.__doc__ or "").strip()) from error

    def _row(self, change: Change, now_us: int) -> dict[str, Any]:
        attempt = change.attempt
        same = ("request_id", "tenant_id", "key_id", "credential_id", "upstream_id", "streaming")
        return {
            **{name: attempt[name] for name in (*same, "model_requested", "model_served")},
            "attempt_id": _adjustment_id(attempt["attempt_id"], change.earlier_adjustments + 1),
            "upstream_request_id": None,
            **dict.fromkeys(TOKEN_CLASSES, 0),
            "stop_reason": None,
            "status": None,
            "begun_at_us": now_us,
            "first_byte_at_us": None,
            "ended_at_us": now_us,
            "outcome": Outcome.ADJUSTED.value,
            "cost_nanos": change.after_nanos - change.before_nanos,
            "price_version": self._price_version,
            "usage_raw": "",
            "error": WAS_UNPRICED if change.was_unpriced else REPRICED,
            "adjusts": attempt["attempt_id"],
        }


def _adjustment_id(attempt_id: str, number: int) -> str:
    return "adj_" + sha256(f"{attempt_id} {number}".encode()).hexdigest()[:40]


def _batches(changes: Iterator[Change]) -> Iterator[list[Change]]:
    some: list[Change] = []
    for change in changes:
        some.append(change)
        if len(some) == ROWS_PER_TRANSACTION_MAX:
            yield some
            some = []
    if some:
        yield some


# Tenant id, key id, a time in unix microseconds, and what is added to what was spent at that time.
Correction = tuple[str, str, int, int]
NOT_LATER: Mapping[str, int] = MappingProxyType({})


def newest_entry(connection: Connection) -> int:
    """The number of the last row; 0 in an empty ledger."""
    return int(connection.execute(select(func.max(ledger.c.entry_id))).scalar() or 0)


def adjustments_since(
    engine: Engine, entry_id: int, opened: Mapping[str, int] = NOT_LATER
) -> tuple[int, list[Correction]]:
    """What corrections newer than row `entry_id` change in budgets, and the row up to which that is now known.

    Times are beginnings of quarters of an hour, in which no period of a budget begins. A correction counts when it was
    booked; where it prices an attempt, what was held for that counts no more in the period in which it ended.
    `opened`: of tenants that were counted up to a later row than `entry_id`, that row.
    """
    with reading(engine) as connection:
        newest = newest_entry(connection)
        found = corrections(connection, entry_id, newest)
        late = {one[0]: after for one in found if (after := opened.get(one[0], 0)) > entry_id}
        found = [one for one in found if one[0] not in late]
        for tenant_id, after in late.items():
            found += [one for one in corrections(connection, after, newest) if one[0] == tenant_id]
        return newest, found


def corrections(connection: Connection, after: int, newest: int) -> list[Correction]:
    """Those of rows above `after`, up to `newest`."""
    return [
        (tenant_id, key_id, int(at_us), int(nanos))
        for query in _queries_of_corrections()
        for tenant_id, key_id, at_us, nanos in connection.execute(query, {"after": after, "newest": newest})
    ]


@cache
def _queries_of_corrections() -> tuple[Select[*tuple[Any, ...]], ...]:
    """Made once: a gateway asks after each change of the directory, and to make them took 2 ms of its time."""
    adjustment, attempt = ledger.alias("adjustment"), ledger.alias("attempt")
    is_new = (
        adjustment.c.adjusts.is_not(None),
        adjustment.c.entry_id > bindparam("after"),
        adjustment.c.entry_id <= bindparam("newest"),
    )
    booked = _sums(adjustment, adjustment.c.cost_nanos).where(*is_new)
    priced = (
        _sums(attempt, -attempt.c.held_nanos)
        .select_from(adjustment.join(attempt, attempt.c.attempt_id == adjustment.c.adjusts))
        .where(*is_new, adjustment.c.error == WAS_UNPRICED, attempt.c.held_nanos.is_not(None))
    )
    return booked, priced


def counted_since(connection: Connection, after: int, newest: int) -> list[Correction]:
    """What attempts of rows above `after`, up to `newest`, and corrections of attempts add to what budgets count."""
    columns = ledger.c
    nanos = func.coalesce(columns.cost_nanos, columns.held_nanos, 0)
    is_new = (columns.adjusts.is_(None), columns.entry_id > after, columns.entry_id <= newest)
    booked = [
        (tenant_id, key_id, int(at_us), int(nanos))
        for tenant_id, key_id, at_us, nanos in connection.execute(_sums(ledger, nanos).where(*is_new))
    ]
    return booked + corrections(connection, after, newest)


def _sums(rows: FromClause, nanos: ColumnElement[int]) -> Select[*tuple[Any, ...]]:
    columns = rows.c
    quarter = (columns.ended_at_us - columns.ended_at_us % literal(QUARTER_US, BigInteger)).label("quarter_us")
    return select(columns.tenant_id, columns.key_id, quarter, func.sum(nanos)).group_by(
        columns.tenant_id, columns.key_id, quarter
    )


def held_unpriced(
    connection: Connection, start_us: int, end_us: int, tenant_id: str | None = None
) -> dict[tuple[str, str], int]:
    """What budgets count for attempts of a range of time that have no price still, by tenant id and key id."""
    attempt, adjustment = ledger.alias("attempt"), ledger.alias("adjustment")
    was_priced = (
        select(adjustment.c.entry_id)
        .where(adjustment.c.adjusts == attempt.c.attempt_id, adjustment.c.error == WAS_UNPRICED)
        .exists()
    )
    columns = attempt.c
    query = (
        select(columns.tenant_id, columns.key_id, func.sum(columns.held_nanos))
        .where(columns.held_nanos.is_not(None), columns.ended_at_us >= start_us, columns.ended_at_us < end_us)
        .where(~was_priced)
        .group_by(columns.tenant_id, columns.key_id)
    )
    if tenant_id is not None:
        query = query.where(columns.tenant_id == tenant_id)
    return {(tenant, key): int(nanos) for tenant, key, nanos in connection.execute(query)}
