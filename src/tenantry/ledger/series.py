"""Sums of the ledger over time, for charts and tables: by hour, day, key and model, from the roll-up and nothing else.

What a page shows as a total is a sum of the same rows that `usage`, exports and invoices are made from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from tenantry.ledger.proof import of_proof_or_not
from tenantry.storage.tables import usage_rollup

_SUMMED = (
    "attempts",
    "adjustments",
    "input_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "cache_read_tokens",
    "output_tokens",
    "cost_nanos",
    "unpriced",
    "saved_nanos",
    "web_search_requests",
)


@dataclass(frozen=True, slots=True)
class Sums:
    """Of some rows. `attempts` and `adjustments` together are as many rows as the ledger has."""

    attempts: int = 0
    adjustments: int = 0
    input_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    cost_nanos: int = 0
    unpriced: int = 0
    saved_nanos: int = 0
    web_search_requests: int = 0

    @property
    def prompt_tokens(self) -> int:
        return self.input_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens + self.cache_read_tokens

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens

    @property
    def rows(self) -> int:
        return self.attempts + self.adjustments

    def __add__(self, other: Sums) -> Sums:
        return summed((self, other))


NOTHING = Sums()
_values = attrgetter(*_SUMMED)


def summed(some: Iterable[Sums]) -> Sums:
    """All of them together."""
    columns = list(zip(*map(_values, some), strict=True))
    return Sums(*map(sum, columns)) if columns else NOTHING


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows are summed: those that ended from `start_us` up to and without `end_us`, whole quarters of an hour.

    `tenant_ids` None: of every tenant. `key_id`, `model` and `outcome` None: of any. `is_proof`: of the isolation
    proof's own tenants alone, or of all others; None: of both.
    """

    start_us: int
    end_us: int
    tenant_ids: Collection[str] | None = None
    key_id: str | None = None
    model: str | None = None
    outcome: str | None = None
    is_proof: bool | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        columns = usage_rollup.c
        found: list[ColumnElement[bool]] = [columns.quarter_us >= self.start_us, columns.quarter_us < self.end_us]
        if self.tenant_ids is not None:
            found.append(columns.tenant_id.in_(self.tenant_ids))
        if self.is_proof is not None:
            found.append(of_proof_or_not(columns.tenant_id, self.is_proof))
        wanted = ((columns.key_id, self.key_id), (columns.model, self.model), (columns.outcome, self.outcome))
        return found + [column == value for column, value in wanted if value is not None]


def sum_of(connection: Connection, of: Selection) -> Sums:
    """All of it."""
    row = connection.execute(select(*_sums()).where(*of.conditions())).one()
    return Sums(*(int(one or 0) for one in row))


def sums_by(connection: Connection, of: Selection, name: str) -> dict[Any, Sums]:
    """By a column of the roll-up's key: `tenant_id`, `key_id`, `model`, `outcome` or `quarter_us`."""
    column = usage_rollup.c[name]
    query = select(column, *_sums()).where(*of.conditions()).group_by(column).order_by(column)
    return {value: Sums(*map(int, sums)) for value, *sums in connection.execute(query)}


Cell = tuple[str, str, str, str]


def cells_of(connection: Connection, of: Selection) -> dict[Cell, Sums]:
    """By tenant, key, model and outcome."""
    columns = usage_rollup.c
    key = (columns.tenant_id, columns.key_id, columns.model, columns.outcome)
    query = select(*key, *_sums()).where(*of.conditions()).group_by(*key)
    found: dict[Cell, Sums] = {}
    for row in connection.execute(query):
        tenant_id, key_id, model, outcome, *sums = _plain(row)
        found[tenant_id, key_id, model, outcome] = Sums(*map(int, sums))
    return found


def tenants_by_quarter(connection: Connection, of: Selection) -> list[tuple[int, str, Sums]]:
    """By quarter of an hour and tenant, in the order of time."""
    key = (usage_rollup.c.quarter_us, usage_rollup.c.tenant_id)
    query = select(*key, *_sums()).where(*of.conditions()).group_by(*key).order_by(*key)
    found: list[tuple[int, str, Sums]] = []
    for row in connection.execute(query):
        quarter_us, tenant_id, *sums = _plain(row)
        found.append((quarter_us, tenant_id, Sums(*map(int, sums))))
    return found


def sums_within(connection: Connection, of: Selection, bounds_us: Sequence[int]) -> list[Sums]:
    """Between each bound and the next, from the first to the last; bounds are whole quarters of an hour.

    The selection's own times are passed over: its bounds are these.
    """
    whole = replace(of, start_us=bounds_us[0], end_us=bounds_us[-1])
    found: list[list[Sums]] = [[] for _ in bounds_us[1:]]
    place = 0
    for quarter_us, sums in sums_by(connection, whole, "quarter_us").items():
        while quarter_us >= bounds_us[place + 1]:
            place += 1
        found[place].append(sums)
    return list(map(summed, found))


def _plain(row: Iterable[Any]) -> list[Any]:
    return list(row)


def _sums() -> list[ColumnElement[int]]:
    return [func.sum(usage_rollup.c[name]) for name in _SUMMED]
