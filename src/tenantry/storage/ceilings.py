"""What was taken of budgets beforehand, in the store (decision 0021, `domain/ceilings.py`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Connection, and_, select, update

from tenantry.domain.doubts import Taken
from tenantry.storage.cell_tables import ceilings, gateways
from tenantry.storage.many import insert_of, rows_where


def write_taken(connection: Connection, row: Taken) -> None:
    """So much is taken, whatever was."""
    statement = insert_of(connection.dialect, ceilings).values(
        tenant_id=row.tenant_id,
        key_id=row.key_id,
        unit=row.unit,
        gateway_id=row.gateway_id,
        taken=row.taken,
        since_us=row.since_us,
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[*ceilings.primary_key.columns], set_={"taken": statement.excluded.taken}
        )
    )


def raise_taken(connection: Connection, row: Taken) -> bool:
    """False: as much is taken already, or nothing of it is known."""
    found = connection.execute(
        update(ceilings).where(_is_account(row), ceilings.c.taken < row.taken).values(taken=row.taken)
    )
    return found.rowcount == 1


def settle_taken(connection: Connection, rows: Sequence[Taken]) -> None:
    """So much is taken where anything was: less, as a rule; more, where something cost more than was held for it."""
    for row in rows:
        connection.execute(
            update(ceilings).where(_is_account(row), ceilings.c.taken != row.taken).values(taken=row.taken)
        )


def _is_account(row: Taken) -> ColumnElement[bool]:
    return and_(
        ceilings.c.tenant_id == row.tenant_id,
        ceilings.c.key_id == row.key_id,
        ceilings.c.unit == row.unit,
        ceilings.c.gateway_id == row.gateway_id,
    )


def taken_of(connection: Connection, tenant_ids: Sequence[str], but: Collection[str]) -> list[Taken]:
    """What gateways other than `but` have taken of these tenants' accounts."""
    rows = rows_where(connection, [*ceilings.c], ceilings.c.tenant_id, tenant_ids)
    return [
        Taken(row.tenant_id, row.key_id, row.unit, row.gateway_id, int(row.taken), int(row.since_us))
        for row in rows
        if row.gateway_id not in but
    ]


def forgotten(connection: Connection, gateway_ids: Sequence[str]) -> dict[str, int]:
    """Those of these gateways that were declared lost, and when, in unix microseconds."""
    query = select(gateways.c.gateway_id, gateways.c.forgotten_at_us).where(
        gateways.c.gateway_id.in_(gateway_ids), gateways.c.forgotten_at_us.is_not(None)
    )
    return {row.gateway_id: int(row.forgotten_at_us) for row in connection.execute(query)}
