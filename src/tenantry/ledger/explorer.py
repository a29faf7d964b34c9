"""Rows of the ledger, newest first, by page: filtered, and never more than a bounded part of it looked at.

A page continues where the one before it ended (by the time and the number of its last row), so what is booked meanwhile
moves nothing. Filters beside tenant and time have no index of their own: a page looks at `LOOKED_AT_MAX` rows, and says
how far it came.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, or_, select

from tenantry.domain.values import value
from tenantry.ledger.proof import of_proof_or_not
from tenantry.ledger.rollup import MODEL_CHARS_MAX
from tenantry.storage.tables import gateway_keys, ledger, tenants

# A tenth of a second on ten million rows (`python -m bench.figures`, 2026-11-29).
LOOKED_AT_MAX = 20_000


@value
class Place:
    """A row, as the place behind which the next page begins."""

    ended_at_us: int
    entry_id: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows. None: any. `model` is the one that answered, or that was asked for where none did.

    `start_us` is in it, `end_us` is not; so are the costs, in nano-dollars, both in it. `is_proof`: of the isolation
    proof's own tenants alone, or of all others.
    """

    tenant_ids: Collection[str] | None = None
    key_id: str | None = None
    model: str | None = None
    outcome: str | None = None
    status: int | None = None
    start_us: int | None = None
    end_us: int | None = None
    cost_nanos_min: int | None = None
    cost_nanos_max: int | None = None
    is_proof: bool | None = None

    def in_time(self) -> list[ColumnElement[bool]]:
        """What an index finds."""
        found: list[ColumnElement[bool]] = []
        if self.tenant_ids is not None and len(self.tenant_ids) == 1:
            found.append(ledger.c.tenant_id == next(iter(self.tenant_ids)))
        if self.start_us is not None:
            found.append(ledger.c.ended_at_us >= self.start_us)
        if self.end_us is not None:
            found.append(ledger.c.ended_at_us < self.end_us)
        return found

    def of_rows(self, columns: Any) -> list[ColumnElement[bool]]:
        """What has to be looked at row by row; `columns` are the ledger's."""
        found: list[ColumnElement[bool]] = []
        if self.tenant_ids is not None and len(self.tenant_ids) != 1:
            found.append(columns.tenant_id.in_(self.tenant_ids))
        if self.is_proof is not None:
            found.append(of_proof_or_not(columns.tenant_id, self.is_proof))
        same = ((columns.key_id, self.key_id), (columns.outcome, self.outcome), (columns.status, self.status))
        found += [column == wanted for column, wanted in same if wanted is not None]
        if self.model is not None:
            served = func.substr(func.coalesce(columns.model_served, columns.model_requested), 1, MODEL_CHARS_MAX)
            found.append(served == self.model)
        if self.cost_nanos_min is not None:
            found.append(columns.cost_nanos >= self.cost_nanos_min)
        if self.cost_nanos_max is not None:
            found.append(columns.cost_nanos <= self.cost_nanos_max)
        return found


@value
class LedgerRow:
    """One row, for a list. `slug` and `key_label` are None of what left the directory since."""

    entry_id: int
    ended_at_us: int
    begun_at_us: int
    first_byte_at_us: int | None
    request_id: str
    attempt_id: str
    tenant_id: str
    slug: str | None
    key_id: str
    key_label: str | None
    model: str
    streaming: bool
    status: int | None
    outcome: str
    error: str | None
    prompt_tokens: int
    output_tokens: int
    cost_nanos: int | None
    queue_wait_us: int | None

    @property
    def place(self) -> Place:
        return Place(self.ended_at_us, self.entry_id)


@value
class LedgerPage:
    """Rows, and the place behind which there may be more; None: there are none. `is_cut`: too many were looked at."""

    rows: list[LedgerRow]
    next: Place | None
    is_cut: bool = False


def list_rows(connection: Connection, wanted: Wanted, behind: Place | None = None, most: int = 50) -> LedgerPage:
    """A page of `most` rows at most, behind a place."""
    end = _last_looked_at(connection, wanted, behind)
    query = _newest(wanted, behind).where(*wanted.of_rows(ledger.c)).limit(most + 1)
    if end is not None:
        query = query.where(_is_behind(end, is_after=False))
    rows = [_read(row) for row in connection.execute(query)]
    if len(rows) > most:
        return LedgerPage(rows[:most], rows[most - 1].place)
    return LedgerPage(rows, end, end is not None)


def _last_looked_at(connection: Connection, wanted: Wanted, behind: Place | None) -> Place | None:
    """The last of the rows that one page looks at; None: all that are left are fewer. Read from an index alone."""
    columns = (ledger.c.ended_at_us, ledger.c.entry_id)
    query = select(*columns).where(*_in_order(wanted, behind)).order_by(*(one.desc() for one in columns))
    found = connection.execute(query.offset(LOOKED_AT_MAX - 1).limit(1)).first()
    return Place(found.ended_at_us, found.entry_id) if found is not None else None


def every_row(connection: Connection, wanted: Wanted, at_once: int = 1000) -> Iterator[list[int]]:
    """The numbers of all rows, newest first, some at a time."""
    behind: Place | None = None
    while True:
        page = list_rows(connection, wanted, behind, at_once)
        yield [row.entry_id for row in page.rows]
        if page.next is None:
            return
        behind = page.next


def _newest(wanted: Wanted, behind: Place | None) -> Select[*tuple[Any, ...]]:
    columns = ledger.c
    return (
        select(*(columns[name] for name in _LISTED), tenants.c.slug, gateway_keys.c.label)
        .outerjoin(tenants, tenants.c.tenant_id == columns.tenant_id)
        .outerjoin(gateway_keys, gateway_keys.c.key_id == columns.key_id)
        .where(*_in_order(wanted, behind))
        .order_by(columns.ended_at_us.desc(), columns.entry_id.desc())
    )


def _in_order(wanted: Wanted, behind: Place | None) -> list[ColumnElement[bool]]:
    conditions = wanted.in_time()
    return conditions if behind is None else [*conditions, _is_behind(behind)]


def _is_behind(place: Place, *, is_after: bool = True) -> ColumnElement[bool]:
    """Whether a row comes after a place, newest first; with `is_after` False, at it or before it."""
    at_us, number = ledger.c.ended_at_us, ledger.c.entry_id
    if is_after:
        return and_(at_us <= place.ended_at_us, or_(at_us < place.ended_at_us, number < place.entry_id))
    return and_(at_us >= place.ended_at_us, or_(at_us > place.ended_at_us, number >= place.entry_id))


_LISTED = (
    *("entry_id", "ended_at_us", "begun_at_us", "first_byte_at_us", "request_id", "attempt_id", "tenant_id", "key_id"),
    *("model_requested", "model_served", "streaming", "status", "outcome", "error", "cost_nanos", "queue_wait_us"),
    *("input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "cache_read_tokens", "output_tokens"),
)


def _read(row: Row[*tuple[Any, ...]]) -> LedgerRow:
    prompt = row.input_tokens + row.cache_write_5m_tokens + row.cache_write_1h_tokens + row.cache_read_tokens
    return LedgerRow(
        row.entry_id,
        row.ended_at_us,
        row.begun_at_us,
        row.first_byte_at_us,
        row.request_id,
        row.attempt_id,
        row.tenant_id,
        row.slug,
        row.key_id,
        row.label,
        row.model_served or row.model_requested,
        bool(row.streaming),
        row.status,
        row.outcome,
        row.error,
        prompt,
        row.output_tokens,
        row.cost_nanos,
        row.queue_wait_us,
    )


@value
class Speed:
    """How the newest attempts of a tenant went, in microseconds at the median and at 95 of 100; None: none were so.

    `attempts` is how many were looked at.
    """

    attempts: int
    whole_us: tuple[int, int] | None
    first_byte_us: tuple[int, int] | None
    waited_us: tuple[int, int] | None
    waited: int


def speed_of(connection: Connection, tenant_id: str, most: int = 1000) -> Speed:
    """Of the newest `most` attempts, those that had an answer."""
    columns = ledger.c
    query = (
        select(
            columns.status, columns.begun_at_us, columns.first_byte_at_us, columns.ended_at_us, columns.queue_wait_us
        )
        .where(columns.tenant_id == tenant_id)
        .order_by(columns.ended_at_us.desc(), columns.entry_id.desc())
        .limit(most)
    )
    rows = [row for row in connection.execute(query) if row.status is not None]
    waits = [row.queue_wait_us for row in rows if row.queue_wait_us is not None]
    return Speed(
        len(rows),
        percentiles([row.ended_at_us - row.begun_at_us for row in rows]),
        percentiles([row.first_byte_at_us - row.begun_at_us for row in rows if row.first_byte_at_us is not None]),
        percentiles(waits),
        len(waits),
    )


def percentiles(values: list[int]) -> tuple[int, int] | None:
    """The median, and what 95 of 100 do not exceed; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2], ordered[(len(ordered) * 95 + 99) // 100 - 1]
