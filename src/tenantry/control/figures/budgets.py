"""Budgets as `budget show` tells them: what is allowed now, what counts, what is left."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from tenantry.control.figures.days import DaySums, by_holder
from tenantry.domain.allowances import PLAN, Window
from tenantry.domain.budgets import Budget, Cap, amount_at
from tenantry.domain.periods import Period, period_of
from tenantry.ledger.counted import NOTHING, Counted, Holder, counted_by_holder
from tenantry.storage.caps import read_budgets


@dataclass(frozen=True, slots=True)
class BudgetFigure:
    """One cap of a tenant (`key_id` "") or of one of its keys, or what its plan includes. Money is nano-dollars.

    `amount_nanos` has the raises that hold now in it; `counted` is what the cap is measured against. `overage`: of a
    plan, what happens beyond it.
    """

    key_id: str
    mode: str
    cap: Cap
    period: Period
    amount_nanos: int
    counted: Counted
    overage: str | None = None

    @property
    def left_nanos(self) -> int:
        return max(0, self.amount_nanos - self.counted.nanos)

    @property
    def raised_nanos(self) -> int:
        return self.amount_nanos - self.cap.amount_nanos

    @property
    def used_percent(self) -> int:
        return self.counted.nanos * 100 // self.amount_nanos if self.amount_nanos > 0 else 100

    @property
    def is_reached(self) -> bool:
        return self.counted.nanos >= self.amount_nanos


def budget_figures(
    connection: Connection,
    zone: ZoneInfo,
    now_us: int,
    days: DaySums | None = None,
    tenant_ids: Collection[str] | None = None,
    budgets: Mapping[Holder, Budget] | None = None,
) -> dict[str, list[BudgetFigure]]:
    """Of each tenant that has a budget, by internal id: the tenant's own caps first, day before week before month.

    `days`: sums of many tenants that are remembered. `budgets`: as a change that is under way leaves them.
    """
    counted: dict[str, Mapping[Holder, Counted]] = {}
    found: dict[str, list[BudgetFigure]] = {}
    one = next(iter(tenant_ids)) if tenant_ids is not None and len(tenant_ids) == 1 else None
    for (tenant_id, key_id), budget in sorted(
        (read_budgets(connection, tenant_ids) if budgets is None else budgets).items()
    ):
        for cap in budget.caps:
            period = period_of(cap.period, now_us, zone)
            if cap.period not in counted:
                # Of one tenant it is quicker to read than to remember.
                spent = None
                if one is None and days is not None:
                    spent = by_holder(days.between(connection, period.start_us, period.end_us, now_us))
                counted[cap.period] = counted_by_holder(connection, period.start_us, period.end_us, one, spent)
            amount = amount_at(cap, now_us)
            used = counted[cap.period].get((tenant_id, key_id), NOTHING)
            found.setdefault(tenant_id, []).append(BudgetFigure(key_id, budget.mode, cap, period, amount, used))
    return found


def plan_figure(connection: Connection, now_us: int, tenant_id: str, budget: Budget, window: Window) -> BudgetFigure:
    """What a tenant's plan includes now. Raises: ValueError: nothing that is counted in money."""
    if window.nanos is None:
        raise ValueError(f"{window.plan} includes no amount")
    cap = Cap(PLAN, window.nanos, budget.plan_raises)
    period = Period(PLAN, window.plan, window.start_us, window.end_us)
    used = counted_by_holder(connection, period.start_us, period.end_us, tenant_id).get((tenant_id, ""), NOTHING)
    return BudgetFigure("", budget.mode, cap, period, amount_at(cap, now_us), used, window.overage)


def of_tenant(figures: Collection[BudgetFigure]) -> Iterator[BudgetFigure]:
    """Those of the tenant as a whole."""
    return (one for one in figures if not one.key_id)


def nearest(figures: Collection[BudgetFigure]) -> BudgetFigure | None:
    """The tenant's own budget that is nearest to its end."""
    return max(of_tenant(figures), key=lambda one: (one.used_percent, one.amount_nanos), default=None)
