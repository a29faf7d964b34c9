"""Budgets as rows keep them, read into the values that gateways and commands decide with."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, select

from tenantry.domain.allowances import PLAN
from tenantry.domain.budgets import Budget, Cap, Raise
from tenantry.storage.columns import now_utc
from tenantry.storage.tables import budget_raises, budgets, tenants

BUDGET_PERIODS = ("day", "week", "month")
BUDGET_MODES = ("hard", "soft")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_budgets(connection: Connection, tenant_ids: Collection[str] | None = None) -> dict[tuple[str, str], Budget]:
    """Budgets by tenant and key, of some tenants or of all. Key "" is the tenant itself, and is always there.

    Caps stand in the order day, week, month. Raises that are over are left out.
    """
    raises = select(budget_raises).where(budget_raises.c.until > now_utc()).order_by(budget_raises.c.created_at)
    rows = select(budgets)
    modes = select(tenants.c.tenant_id, tenants.c.budget_mode)
    if tenant_ids is not None:
        raises = raises.where(budget_raises.c.tenant_id.in_(tenant_ids))
        rows = rows.where(budgets.c.tenant_id.in_(tenant_ids))
        modes = modes.where(tenants.c.tenant_id.in_(tenant_ids))
    raised: dict[tuple[str, str], tuple[Raise, ...]] = {}
    for row in connection.execute(raises):
        one = Raise(row.amount_nanos, _unix_us(row.created_at), _unix_us(row.until))
        raised[row.tenant_id, row.period] = (*raised.get((row.tenant_id, row.period), ()), one)
    mode_of = {row.tenant_id: row.budget_mode for row in connection.execute(modes)}
    caps: dict[tuple[str, str], list[Cap]] = {(known, ""): [] for known in mode_of}
    for row in connection.execute(rows):
        # A raise is the tenant's: its keys stay as they are.
        of_cap = raised.get((row.tenant_id, row.period), ()) if not row.key_id else ()
        caps.setdefault((row.tenant_id, row.key_id), []).append(Cap(row.period, row.amount_nanos, of_cap))
    return {
        holder: Budget(
            tuple(sorted(own, key=_length)),
            mode_of[holder[0]],
            raised.get((holder[0], PLAN), ()) if not holder[1] else (),
        )
        for holder, own in caps.items()
    }


def _length(cap: Cap) -> int:
    return BUDGET_PERIODS.index(cap.period)


def _unix_us(at: datetime) -> int:
    aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)
