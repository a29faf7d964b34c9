"""Corrections: what another version of the prices would change, booked as rows of their own (never as edits).

An adjustment carries the difference alone and counts when it is booked, so a month that was invoiced keeps its sums.
Its id is made from the attempt and the number of adjustments before it: of two bookings at once, one is refused.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Engine, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from tenantry.domain.attempts import Outcome
from tenantry.domain.prices import PriceTable
from tenantry.domain.usage import Usage, read_usage
from tenantry.domain.values import value
from tenantry.ledger.booking import FIRST_HASH, ROWS_PER_TRANSACTION_MAX, row_hash
from tenantry.ledger.rollup import REPRICED, TOKEN_CLASSES, WAS_UNPRICED, add_to_rollup
from tenantry.storage.columns import now_utc
from tenantry.storage.database import reading, values_of
from tenantry.storage.tables import journals, ledger

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
    run = _Run(engine, f"control-{time.time_ns():020d}-{os.getpid()}", prices.version)
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
        .order_by(ledger.c.entry_id)
    )
    if scope.tenant_id is not None:
        query = query.where(ledger.c.tenant_id == scope.tenant_id)
    if scope.start_us is not None:
        query = query.where(ledger.c.ended_at_us >= scope.start_us)
    if scope.end_us is not None:
        query = query.where(ledger.c.ended_at_us < scope.end_us)
    with reading(engine) as connection:
        for row in values_of(connection.execute(query, execution_options={"yield_per": ROWS_PER_TRANSACTION_MAX})):
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
    was_refused_empty = row["stop_reason"] == "refusal" and row["cost_nanos"] == 0
    # An orphan's end is when its gateway was found dead; it was priced as of its beginning.
    at_us = row["begun_at_us"] if row["outcome"] == Outcome.ORPHANED.value else row["ended_at_us"]
    return prices.price(
        _usage(row),
        row["model_served"] or row["model_requested"],
        datetime.fromtimestamp(at_us // 1_000_000, UTC),
        content_empty=was_refused_empty,
        stop_reason=row["stop_reason"],
    ).cost_nanos


def _usage(row: Mapping[str, Any]) -> Usage:
    """Counts from the row; speed, place, service tier and iterations from what the upstream said."""
    counts = {name: row[name] for name in TOKEN_CLASSES}
    try:
        raw = json.loads(row["usage_raw"] or "{}")
    except (ValueError, RecursionError):
        raw = {}
    if not isinstance(raw, dict):
        return Usage(**counts)
    told = read_usage(raw)  # pyright: ignore[reportUnknownArgumentType] -- decoded JSON
    if told.cache_write_1h_tokens != row["cache_write_1h_tokens"]:
        told = read_usage(raw, wants_1h=True)  # pyright: ignore[reportUnknownArgumentType] -- decoded JSON
    return replace(told, **counts)


class _Run:
    """The chain of one booking."""

    def __init__(self, engine: Engine, run_id: str, price_version: str) -> None:
        self._engine = engine
        self._run_id = run_id
        self._price_version = price_version
        self._head_hash = FIRST_HASH
        self.seq = 0

    def book(self, changes: list[Change]) -> None:
        seq, head_hash = self.seq, self._head_hash
        rows: list[dict[str, Any]] = []
        for change in changes:
            seq += 1
            row = self._row(change) | {"journal_run": self._run_id, "journal_seq": seq, "prev_hash": head_hash}
            head_hash = row["row_hash"] = row_hash(row)
            rows.append(row)
        anchor = {"seq": seq, "head_hash": head_hash}
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(ledger), rows)
                add_to_rollup(connection, rows)
                if self.seq == 0:
                    start = {"file_number": 0, "offset": 0, "damaged_lines": 0, "closed_at": now_utc()}
                    connection.execute(insert(journals).values(run_id=self._run_id, **start, **anchor))
                else:
                    connection.execute(update(journals).where(journals.c.run_id == self._run_id).values(anchor))
        except IntegrityError as error:
            raise BookedMeanwhile((BookedMeanwhile.__doc__ or "").strip()) from error
        self.seq, self._head_hash = seq, head_hash

    def _row(self, change: Change) -> dict[str, Any]:
        attempt, now_us = change.attempt, time.time_ns() // 1000
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
