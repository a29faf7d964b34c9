"""What was booked of a tenant or under a key, row by row: for who compares it with what an upstream saw."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, select

from tenantry.storage.tables import ledger


@dataclass(frozen=True, slots=True)
class BookedRow:
    """One row of the ledger. `cost_nanos` is None where no price was known."""

    tenant_id: str
    key_id: str
    credential_id: str
    upstream_request_id: str | None
    outcome: str
    error: str | None
    cost_nanos: int | None


def rows_of_tenant(engine: Engine, tenant_id: str) -> list[BookedRow]:
    """In the order in which they were booked."""
    return _rows(engine, ledger.c.tenant_id == tenant_id)


def rows_of_keys(engine: Engine, key_ids: Collection[str]) -> list[BookedRow]:
    """In the order in which they were booked, whoever they say is their tenant."""
    return _rows(engine, ledger.c.key_id.in_(key_ids))


def _rows(engine: Engine, which: ColumnElement[bool]) -> list[BookedRow]:
    query = select(
        ledger.c.tenant_id,
        ledger.c.key_id,
        ledger.c.credential_id,
        ledger.c.upstream_request_id,
        ledger.c.outcome,
        ledger.c.error,
        ledger.c.cost_nanos,
    )
    with engine.connect() as connection:
        found = connection.execute(query.where(which).order_by(ledger.c.entry_id))
        return [BookedRow(*row) for row in found]
