"""Rows of the ledger that somebody asks for, the newest first: by tenant, key, model, outcome, status, time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, or_, select

from tenantry.domain.values import value
from tenantry.ledger.proof import of_proof_or_not
from tenantry.ledger.rollup import TOKEN_CLASSES
from tenantry.storage.database import reading
from tenantry.storage.tables import ledger, tenants

# What one request or attempt is; how it came to its price stands in its story.
_PLAIN = (
    *("request_id", "attempt_id", "adjusts", "key_id", "model_requested", "model_served", "streaming"),
    *("outcome", "status", "stop_reason", "error", *TOKEN_CLASSES, "cost_nanos", "price_version"),
)


@value
class Filters:
    """None: whatever it is. `tenant_ids`: of these alone; `since` (from then on) and `until` (before) are ends.

    `is_proof`: of the isolation proof's own tenants alone, or of all others.
    """

    tenant_ids: Sequence[str] | None = None
    key_id: str | None = None
    model: str | None = None
    outcome: str | None = None
    status: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    is_proof: bool | None = None


@value
class LedgerRow:
    """A row as it was booked. `entry_id` and `ended_at_us` are its place."""

    entry_id: int
    ended_at_us: int
    begun_at_us: int
    tenant: str
    values: dict[str, Any]


def select_rows(engine: Engine, filters: Filters, after: tuple[int, int] | None, most: int) -> list[LedgerRow]:
    """`after`: `ended_at_us` and `entry_id` of the last row that was had."""
    query = (
        select(
            *(ledger.c[name] for name in _PLAIN),
            ledger.c.entry_id,
            ledger.c.ended_at_us,
            ledger.c.begun_at_us,
            ledger.c.tenant_id,
            tenants.c.slug,
        )
        .outerjoin(tenants, tenants.c.tenant_id == ledger.c.tenant_id)
        .where(*_conditions(filters, after))
        .order_by(ledger.c.ended_at_us.desc(), ledger.c.entry_id.desc())
        .limit(most)
    )
    with reading(engine) as connection:
        return [
            LedgerRow(
                row["entry_id"],
                row["ended_at_us"],
                row["begun_at_us"],
                row["slug"] or row["tenant_id"],
                {name: row[name] for name in _PLAIN},
            )
            for row in connection.execute(query).mappings()
        ]


def _conditions(filters: Filters, after: tuple[int, int] | None) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if filters.tenant_ids is not None:
        found.append(ledger.c.tenant_id.in_(filters.tenant_ids))
    elif filters.is_proof is not None:
        found.append(of_proof_or_not(ledger.c.tenant_id, filters.is_proof))
    plain = {"key_id": filters.key_id, "outcome": filters.outcome, "status": filters.status}
    found += [ledger.c[name] == wanted for name, wanted in plain.items() if wanted is not None]
    if filters.model is not None:
        found.append(or_(ledger.c.model_served == filters.model, ledger.c.model_requested == filters.model))
    if filters.since is not None:
        found.append(ledger.c.ended_at_us >= _us(filters.since))
    if filters.until is not None:
        found.append(ledger.c.ended_at_us < _us(filters.until))
    if after is not None:
        ended_at_us, entry_id = after
        same = and_(ledger.c.ended_at_us == ended_at_us, ledger.c.entry_id < entry_id)
        found.append(or_(ledger.c.ended_at_us < ended_at_us, same))
    return found


def _us(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)
