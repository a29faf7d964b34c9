"""Sums of the ledger by tenant, quarter of an hour, key, model and outcome, kept by the transaction that books.

The days of every time zone in use begin with a quarter of an hour in UTC, so a day, week or month of any of them is an
exact sum of rows here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, case, cast, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite

from tenantry.domain.attempts import Outcome
from tenantry.storage.database import values_of
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
SUMS = ("attempts", "adjustments", *TOKEN_CLASSES, "cost_nanos", "unpriced", "saved_nanos")
KEY = ("tenant_id", "quarter_us", "key_id", "model", "outcome")
# What the `error` column of an adjustment says: why the cost differs.
WAS_UNPRICED = "was_unpriced"
REPRICED = "repriced"
_ADJUSTED = Outcome.ADJUSTED.value
_tokens_of = itemgetter(*TOKEN_CLASSES)


def add_to_rollup(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add ledger rows that this transaction books."""
    sums = _summed(rows)
    if not sums:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(usage_rollup)
    added = {name: usage_rollup.c[name] + statement.excluded[name] for name in SUMS}
    # In one order, so that two transactions can never wait for each other's rows.
    names: tuple[str, ...] = (*KEY, *SUMS)
    values: list[dict[str, Any]] = [dict(zip(names, (*key, *sums[key]), strict=True)) for key in sorted(sums)]
    connection.execute(statement.on_conflict_do_update(index_elements=list(KEY), set_=added), values)


def _summed(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, ...], list[int]]:
    grouped: dict[tuple[Any, ...], list[tuple[int, ...]]] = {}
    for row in rows:
        at_us, model, outcome = row["ended_at_us"], row["model_served"], row["outcome"]
        if model is None:
            model = row["model_requested"]
        key = (row["tenant_id"], at_us - at_us % QUARTER_US, row["key_id"], model[:MODEL_CHARS_MAX], outcome)
        cost, saved = row["cost_nanos"], row.get("saved_nanos") or 0
        if outcome == _ADJUSTED:
            values = (0, 1, *_tokens_of(row), cost or 0, (cost is None) - (row["error"] == WAS_UNPRICED), saved)
        else:
            values = (1, 0, *_tokens_of(row), cost or 0, int(cost is None), saved)
        known = grouped.get(key)
        if known is None:
            grouped[key] = [values]
        else:
            known.append(values)
    return {key: [sum(column) for column in zip(*values, strict=True)] for key, values in grouped.items()}


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
