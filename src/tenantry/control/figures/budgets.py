"""Budgets as `budget show` tells them: what is allowed now, what counts, what is left."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from tenantry.control.figures.days import DaySums, by_holder
from tenantry.domain.budgets import Cap, amount_at
from tenantry.domain.periods import Period, period_of
from tenantry.ledger.counted import NOTHING, Counted, Holder, counted_by_holder
from tenantry.storage.caps import read_budgets


@dataclass(frozen=True, slots=True)
class BudgetFigure:
    """One cap of a tenant (`key_id` "") or of one of its keys. Money is nano-dollars.

    `amount_nanos` has the raises that hold now in it; `counted` is what the cap is measured against.
    """

    key_id: str
    mode: str
    cap: Cap
    period: Period
    amount_nanos: int
    counted: Counted

    @property
    def left_nanos(self) -> int:
        return max(0, self.amount_nanos - self.counted.nanos)

    @property
    def raised_nanos(self) -> int:
        return self.amount_nanos - self.cap.amount_nanos

    @property
    def used_percent(self) -> int:
        return self.counted.nanos * 100 // self.amount_nanos

    @property
    def is_reached(self) -> bool:
        return self.counted.nanos >= self.amount_nanos


def budget_figures(
    connection: Connection, zone: ZoneInfo, now_us: int, days: DaySums, tenant_ids: Collection[str] | None = None
) -> dict[str, list[BudgetFigure]]:
    """Of each tenant that has a budget, by internal id: the tenant's own caps first, day before week before month."""
    counted: dict[str, Mapping[Holder, Counted]] = {}
    found: dict[str, list[BudgetFigure]] = {}
    one = next(iter(tenant_ids)) if tenant_ids is not None and len(tenant_ids) == 1 else None
    for (tenant_id, key_id), budget in sorted(read_budgets(connection, tenant_ids).items()):
        for cap in budget.caps:
            period = period_of(cap.period, now_us, zone)
            if cap.period not in counted:
                # Of one tenant it is quicker to read than to remember.
                spent = None
                if one is None:
                    spent = by_holder(days.between(connection, period.start_us, period.end_us, now_us))
                counted[cap.period] = counted_by_holder(connection, period.start_us, period.end_us, one, spent)
            amount = amount_at(cap, now_us)
            used = counted[cap.period].get((tenant_id, key_id), NOTHING)
            found.setdefault(tenant_id, []).append(BudgetFigure(key_id, budget.mode, cap, period, amount, used))
    return found


def of_tenant(figures: Collection[BudgetFigure]) -> Iterator[BudgetFigure]:
    """Those of the tenant as a whole."""
    return (one for one in figures if not one.key_id)


def nearest(figures: Collection[BudgetFigure]) -> BudgetFigure | None:
    """The tenant's own budget that is nearest to its end."""
    return max(of_tenant(figures), key=lambda one: (one.used_percent, one.amount_nanos), default=None)
