"""Sums of the ledger by tenant, quarter of an hour, key, model and outcome, kept by the transaction that books.

The days of every time zone in use begin with a quarter of an hour in UTC, so a day, week or month of any of them is an
exact sum of rows here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Dialect, Select, case, cast, func, literal, select

from tenantry.domain.attempts import Outcome
from tenantry.storage.database import values_of
from tenantry.storage.many import ManyRows, insert_of
from tenantry.storage.tables import ledger, usage_rollup

QUARTER_US = 15 * 60 * 1_000_000
# Longer than any model id that is published; a longer one is summed under its beginning.
MODEL_CHARS_MAX = 128
TOKEN_CLASSES = (
    "input_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "cache_read_tokens",
    "output_tokens",
    "thinking_tokens",
    "web_search_requests",
    "web_fetch_requests",
)
# What a row of an attempt has, in its order: all but the row's number, and what only corrections have.
COLUMNS = tuple(column.name for column in ledger.columns if column.name not in ("entry_id", "adjusts"))
SUMS = ("attempts", "adjustments", *TOKEN_CLASSES, "cost_nanos", "unpriced", "saved_nanos")
KEY = ("tenant_id", "quarter_us", "key_id", "model", "outcome")
# What the `error` column of an adjustment says: why the cost differs.
WAS_UNPRICED = "was_unpriced"
REPRICED = "repriced"
_ADJUSTED = Outcome.ADJUSTED.value
_COST, _SAVED, _ERROR = (COLUMNS.index(name) for name in ("cost_nanos", "saved_nanos", "error"))
_GROUPED = ("tenant_id", "ended_at_us", "key_id", "model_served", "model_requested", "outcome")
_group_of = itemgetter(*[COLUMNS.index(name) for name in _GROUPED])
_tokens_of = itemgetter(*[COLUMNS.index(name) for name in TOKEN_CLASSES])


def add_to_rollup(connection: Connection, rows: Iterable[Sequence[Any]]) -> None:
    """Add ledger rows that this transaction books; each has its values in the order of `COLUMNS`."""
    sums = _sum(rows)
    if not sums:
        return
    # In one order, so that two transactions can never wait for each other's rows.
    _upsert(connection.dialect).execute(connection, [(*key, *sums[key]) for key in sorted(sums)])


@cache
def _upsert(dialect: Dialect) -> ManyRows:
    statement = insert_of(dialect, usage_rollup)
    added = {name: usage_rollup.c[name] + statement.excluded[name] for name in SUMS}
    upsert = statement.on_conflict_do_update(index_elements=list(KEY), set_=added)
    return ManyRows(dialect, upsert, (*KEY, *SUMS))


def _sum(rows: Iterable[Sequence[Any]]) -> dict[tuple[Any, ...], tuple[int, ...]]:
    grouped: defaultdict[tuple[Any, ...], list[Sequence[Any]]] = defaultdict(list)
    for row in rows:
        tenant_id, at_us, key_id, served, requested, outcome = _group_of(row)
        model = requested if served is None else served
        grouped[tenant_id, at_us - at_us % QUARTER_US, key_id, model[:MODEL_CHARS_MAX], outcome].append(row)
    return {key: _sums_of(some, key[-1] == _ADJUSTED) for key, some in grouped.items()}


def _sums_of(rows: Sequence[Sequence[Any]], are_adjustments: bool) -> tuple[int, ...]:
    """`SUMS` of rows that are all attempts, or all adjustments."""
    costs = [row[_COST] for row in rows]
    unpriced = costs.count(None)
    if are_adjustments:
        counts = 0, len(rows)
        unpriced -= sum(row[_ERROR] == WAS_UNPRICED for row in rows)
    else:
        counts = len(rows), 0
    tokens = [sum(column) for column in zip(*map(_tokens_of, rows), strict=True)]
    return (*counts, *tokens, sum(filter(None, costs)), unpriced, sum(filter(None, [row[_SAVED] for row in rows])))


def differences(connection: Connection, most: int) -> list[tuple[str, dict[str, Any]]]:
    """Sums that the roll-up has and the ledger has not (`extra`), and the other way round (`missing`)."""
    kept = select(*(usage_rollup.c[name] for name in (*KEY, *SUMS)))
    summed = sums_of_ledger()
    sides = {"extra": kept.except_(summed), "missing": summed.except_(kept)}
    return [(side, row) for side, query in sides.items() for row in values_of(connection.execute(query.limit(most)))]


def sums_of_ledger() -> Select[*tuple[Any, ...]]:
    """What the roll-up must hold, summed by the database from every row."""
    columns = ledger.c
    is_adjustment = columns.outcome == Outcome.ADJUSTED.value
    key: dict[str, ColumnElement[Any]] = {
        "tenant_id": columns.tenant_id,
        "quarter_us": columns.ended_at_us - columns.ended_at_us % literal(QUARTER_US, BigInteger),
        "key_id": columns.key_id,
        "model": func.substr(func.coalesce(columns.model_served, columns.model_requested), 1, MODEL_CHARS_MAX),
        "outcome": columns.outcome,
    }
    priced = case((is_adjustment & (columns.error == WAS_UNPRICED), 1), else_=0)
    values: dict[str, ColumnElement[Any]] = {
        "attempts": case((is_adjustment, 0), else_=1),
        "adjustments": case((is_adjustment, 1), else_=0),
        **{name: columns[name] for name in TOKEN_CLASSES},
        "cost_nanos": func.coalesce(columns.cost_nanos, 0),
        "unpriced": case((columns.cost_nanos.is_(None), 1), else_=0) - priced,
        "saved_nanos": func.coalesce(columns.saved_nanos, 0),
    }
    inner = select(
        *(expression.label(name) for name, expression in key.items()),
        *(expression.label(name) for name, expression in values.items()),
    ).subquery()
    sums = [cast(func.sum(inner.c[name]), BigInteger).label(name) for name in SUMS]
    return select(*(inner.c[name] for name in KEY), *sums).group_by(*(inner.c[name] for name in KEY))
