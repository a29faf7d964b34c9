"""The newest refused requests, by the id that their clients were told: what support is asked about.

A gateway tells some of each second (`gateway.tallies`), and so many are kept: the ring of a tenant that is refused
without end takes no place of another's. No word of a request or an answer is in it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Dialect, Engine, Row, delete, func, or_, select

from tenantry.domain.attempts import RefusedRequest, Tally
from tenantry.storage.many import ManyRows, insert_of
from tenantry.storage.tables import refused_requests

# Some hours of a client that runs into a limit now and then; 150 bytes each.
KEPT_OF_TENANT_MAX: Final = 500
# 1.5 MB, and twenty tenants that are refused without end.
KEPT_MAX: Final = 10_000
# Who asks after that asks about something else. Like the 30 days of the status of batches.
KEPT_DAYS: Final = 30
_DAY_US: Final = 86_400_000_000
_COLUMNS: Final = ("request_id", "tenant_id", "key_id", "at_us", "status", "error", "reason", "model")


def keep_refused(connection: Connection, tallies: Iterable[Tally]) -> None:
    """Add those of these tallies, each once, and drop what is beyond the bounds."""
    told = [one for tally in tallies for one in tally.recent]
    if not told:
        return
    rows = [tuple(getattr(one, name) for name in _COLUMNS) for one in told]
    _insert(connection.dialect).execute(connection, rows)
    columns = refused_requests.c
    for tenant_id in sorted({one.tenant_id for one in told}):
        own = select(columns.number).where(columns.tenant_id == tenant_id).order_by(columns.number.desc())
        last = own.offset(KEPT_OF_TENANT_MAX).limit(1).scalar_subquery()
        connection.execute(delete(refused_requests).where(columns.tenant_id == tenant_id, columns.number <= last))
    newest = select(func.max(columns.number)).scalar_subquery()
    old_us = time.time_ns() // 1000 - KEPT_DAYS * _DAY_US
    connection.execute(delete(refused_requests).where(or_(columns.number <= newest - KEPT_MAX, columns.at_us < old_us)))


@cache
def _insert(dialect: Dialect) -> ManyRows:
    """A line that is read again adds nothing."""
    statement = insert_of(dialect, refused_requests).on_conflict_do_nothing(index_elements=["request_id"])
    return ManyRows(dialect, statement, _COLUMNS)


def find_refused(engine: Engine, request_id: str) -> RefusedRequest | None:
    """By the id that the client was told."""
    query = select(*_selected()).where(refused_requests.c.request_id == request_id)
    with engine.connect() as connection:
        row = connection.execute(query).first()
    return _read(row) if row is not None else None


def list_refused(
    engine: Engine, tenant_ids: Collection[str] | None, before: int | None, most: int
) -> list[tuple[int, RefusedRequest]]:
    """The newest first, each with its number, below which (`before`) the next are. `tenant_ids` None: of everybody."""
    columns = refused_requests.c
    query = select(*_selected(), columns.number).order_by(columns.number.desc()).limit(most)
    if tenant_ids is not None:
        query = query.where(columns.tenant_id.in_(tenant_ids))
    if before is not None:
        query = query.where(columns.number < before)
    with engine.connect() as connection:
        return [(row.number, _read(row)) for row in connection.execute(query)]


def _selected() -> list[ColumnElement[Any]]:
    return [refused_requests.c[name] for name in _COLUMNS]


def _read(row: Row[*tuple[Any, ...]]) -> RefusedRequest:
    return RefusedRequest(*(getattr(row, name) for name in _COLUMNS))
