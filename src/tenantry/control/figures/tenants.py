"""The table of tenants: what each spends, its budget, how it is served."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tenantry.billing.margin import TenantMargin
from tenantry.control.figures.budgets import BudgetFigure, budget_figures, nearest
from tenantry.control.figures.days import DaySums, by_tenant, of_proof
from tenantry.control.figures.live import LiveFigures, live_figures
from tenantry.control.figures.scope import Scope
from tenantry.control.figures.time import last_days
from tenantry.control.site import Site
from tenantry.domain.periods import MONTH, Period, period_of
from tenantry.ledger.series import NOTHING, Sums
from tenantry.storage.database import reading
from tenantry.storage.records import TenantRecord

SPARK_DAYS: Final = 14


@dataclass(frozen=True, slots=True)
class TenantRow:
    """Money is nano-dollars. `days`: what each of the last days cost, today last. `budget`: that nearest to its end."""

    tenant: TenantRecord
    month_nanos: int
    days: list[int]
    budget: BudgetFigure | None
    sessions: int
    waiting: int
    last_used_at: datetime | None
    margin: TenantMargin | None


@dataclass(frozen=True, slots=True)
class TenantTable:
    """`proof`: what the isolation proof's own tenants used in the month, who have no row."""

    month: Period
    days: list[Period]
    rows: list[TenantRow]
    live: LiveFigures
    proof: Sums


def tenant_table(
    site: Site,
    days: DaySums,
    scope: Scope,
    margins: Mapping[str, TenantMargin] | None = None,
    now_us: int | None = None,
) -> TenantTable:
    """A row for each tenant of `scope`, by slug. `margins` None: they are not this reader's to see."""
    now_us = now_us or time.time_ns() // 1000
    zone, ids = site.settings.zone, scope.ids
    month, shown = period_of(MONTH, now_us, zone), last_days(now_us, zone, SPARK_DAYS)
    live = live_figures(site, scope)
    with reading(site.engine) as connection:
        spent = [by_tenant([day]) for day in days.of_days(connection, shown, now_us)]
        cells = days.between(connection, month.start_us, month.end_us, now_us)
        in_month = by_tenant(cells)
        budgets = budget_figures(connection, zone, now_us, days, ids)
    used: dict[str, datetime] = {}
    for key in site.directory.list_keys():
        if key.last_used_at is not None:
            used[key.slug] = max(used.get(key.slug, key.last_used_at), key.last_used_at)
    rows = [
        TenantRow(
            one,
            in_month.get(one.tenant_id, 0),
            [day.get(one.tenant_id, 0) for day in spent],
            nearest(budgets.get(one.tenant_id, [])),
            live.uses[slug].sessions if slug in live.uses else 0,
            live.uses[slug].waiting if slug in live.uses else 0,
            used.get(slug),
            margins.get(slug) if margins is not None else None,
        )
        for slug, one in sorted(scope.tenants.items())
    ]
    return TenantTable(month, shown, rows, live, of_proof(cells) if scope.is_whole else NOTHING)
