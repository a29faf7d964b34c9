"""What was spent in any range of time, to the nano-dollar.

Whole quarters of an hour come from the roll-up, so a month of ten million rows is a sum of some thousands; what is left
at either end comes from the ledger.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, func, select

from tenantry.ledger.rollup import QUARTER_US
from tenantry.storage.database import reading
from tenantry.storage.tables import ledger, usage_rollup


def spent_nanos(engine: Engine, tenant_id: str, start_us: int, end_us: int, key_id: str | None = None) -> int:
    """What a tenant, or one key of it, was booked from `start_us` up to and without `end_us`."""
    total = 0
    with reading(engine) as connection:
        for columns, time, low, high in _parts(start_us, end_us):
            query = select(func.sum(columns.cost_nanos)).where(columns.tenant_id == tenant_id, time >= low, time < high)
            if key_id is not None:
                query = query.where(columns.key_id == key_id)
            total += int(connection.execute(query).scalar() or 0)
    return total


def spent_by_tenant(engine: Engine, start_us: int, end_us: int) -> dict[str, int]:
    """The same for every tenant that has a row in the range, by tenant id."""
    spent: dict[str, int] = {}
    with reading(engine) as connection:
        for columns, time, low, high in _parts(start_us, end_us):
            query = select(columns.tenant_id, func.sum(columns.cost_nanos)).where(time >= low, time < high)
            for tenant_id, nanos in connection.execute(query.group_by(columns.tenant_id)):
                spent[tenant_id] = spent.get(tenant_id, 0) + int(nanos or 0)
    return spent


def spent_by_holder(
    connection: Connection, start_us: int, end_us: int, tenant_id: str | None = None
) -> dict[tuple[str, str], int]:
    """The same by tenant id and key id, in a view that the caller has opened; `tenant_id`: of this one alone."""
    spent: dict[tuple[str, str], int] = {}
    for columns, time, low, high in _parts(start_us, end_us):
        holder = (columns.tenant_id, columns.key_id)
        query = select(*holder, func.sum(columns.cost_nanos)).where(time >= low, time < high).group_by(*holder)
        if tenant_id is not None:
            query = query.where(columns.tenant_id == tenant_id)
        for tenant, key, nanos in connection.execute(query):
            spent[tenant, key] = spent.get((tenant, key), 0) + int(nanos or 0)
    return spent


def _parts(start_us: int, end_us: int) -> list[tuple[Any, ColumnElement[int], int, int]]:
    """The columns to sum, the column of the time, and its bounds."""
    first = -(-start_us // QUARTER_US) * QUARTER_US
    last = end_us // QUARTER_US * QUARTER_US
    if first >= last:
        return [(ledger.c, ledger.c.ended_at_us, start_us, end_us)]
    parts: list[tuple[Any, ColumnElement[int], int, int]] = [
        (usage_rollup.c, usage_rollup.c.quarter_us, first, last),
        (ledger.c, ledger.c.ended_at_us, start_us, first),
        (ledger.c, ledger.c.ended_at_us, last, end_us),
    ]
    return [part for part in parts if part[2] < part[3]]
