"""What gateways count beside attempts: refusals by tenant and reason, and the last use of keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, func, insert, or_, select, update

from tenantry.domain.attempts import Tally
from tenantry.storage.tables import gateway_keys, refusals


def book_tally(connection: Connection, run_id: str, tally: Tally) -> None:
    """Write totals of a run; those that are written already, or older, change nothing."""
    for one in tally.refusals:
        row = (
            (refusals.c.run_id == run_id) & (refusals.c.tenant_id == one.tenant_id) & (refusals.c.reason == one.reason)
        )
        values = {"count": one.count, "last_at_us": one.last_at_us}
        if connection.execute(update(refusals).where(row, refusals.c.count <= one.count).values(values)).rowcount == 0:
            known = connection.execute(refusals.select().where(row)).first()
            if known is None:
                connection.execute(
                    insert(refusals).values(run_id=run_id, tenant_id=one.tenant_id, reason=one.reason, **values)
                )
    for use in tally.keys:
        at = datetime.fromtimestamp(use.at_us / 1_000_000, UTC)
        connection.execute(
            update(gateway_keys)
            .where(
                gateway_keys.c.key_id == use.key_id,
                or_(gateway_keys.c.last_used_at.is_(None), gateway_keys.c.last_used_at < at),
            )
            .values(last_used_at=at, last_used_address=use.address, last_used_agent=use.agent)
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """How often a tenant was refused for one reason, and when last."""

    reason: str
    count: int
    last_at: datetime


def list_refusals(engine: Engine, tenant_id: str) -> list[Refusal]:
    """What a tenant was refused, over all gateways that ever ran, most frequent first."""
    count = func.sum(refusals.c.count).label("total")
    last = func.max(refusals.c.last_at_us).label("last_at_us")
    query = (
        select(refusals.c.reason, count, last)
        .where(refusals.c.tenant_id == tenant_id)
        .group_by(refusals.c.reason)
        .order_by(count.desc(), refusals.c.reason)
    )
    with engine.connect() as connection:
        return [
            Refusal(row.reason, int(row.total), datetime.fromtimestamp(row.last_at_us // 1_000_000, UTC))
            for row in connection.execute(query)
        ]
