"""How far the journals of gateways are booked, in the store."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, Select, select

from tenantry.domain.values import value
from tenantry.storage.tables import journals


@value
class Booked:
    """So many rows of a journal are in the ledger. `is_whole`: there will be no more, and its process is dead."""

    rows: int
    is_whole: bool


def booked_to_end() -> Select[str]:
    """The journals of which all is in the ledger; a journal is booked to its end when its process is dead."""
    return select(journals.c.run_id).where(journals.c.closed_at.is_not(None))


def find_booked(connection: Connection, run_ids: Collection[str]) -> dict[str, Booked]:
    """Of which of these journals something is booked, and how much."""
    query = select(journals.c.run_id, journals.c.seq, journals.c.closed_at).where(journals.c.run_id.in_(run_ids))
    return {row.run_id: Booked(int(row.seq), row.closed_at is not None) for row in connection.execute(query)}
