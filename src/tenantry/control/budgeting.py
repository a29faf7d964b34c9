"""What a tenant and its keys may cost: as they stand, and as a person writes an amount and a day."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tenantry.control.site import Site
from tenantry.control.views import View
from tenantry.domain.allowances import PLAN, Window
from tenantry.domain.budgets import Cap, amount_at
from tenantry.domain.money import format_usd, read_amount
from tenantry.domain.periods import Period, period_of
from tenantry.domain.printable import stamp
from tenantry.domain.values import value
from tenantry.ledger.counted import NOTHING, counted_by_holder
from tenantry.storage.database import reading

REMOVED = "none"


class BadUntil(ValueError):
    """The end of a raise is a day such as 2026-11-30, or a time such as 2026-11-30T18:00:00+01:00."""


@value
class BudgetView(View):
    """Of the tenant, or of one of its keys, in a day, week or month. `counted_nanos` is spent and set aside.

    `period` is `plan` of what its plan includes; `overage` says then what happens beyond it.
    """

    key_id: str | None
    key_label: str | None
    period: str
    period_label: str
    amount_nanos: int
    base_nanos: int
    raised_nanos: int
    raises: list[dict[str, int | str]]
    spent_nanos: int
    unpriced_nanos: int
    quarantined_nanos: int
    counted_nanos: int
    left_nanos: int
    used_percent: int
    resets_at: str
    amount_usd: str
    spent_usd: str
    left_usd: str
    overage: str | None


@value
class BudgetsView(View):
    """`mode`: hard refuses what does not fit, soft only tells."""

    tenant: str
    mode: str
    time_zone: str
    budgets: list[BudgetView]


def budgets_of(site: Site, slug: str) -> BudgetsView:
    """Raises: NotInDirectory."""
    tenant = site.directory.get_tenant(slug)
    budgets = site.directory.list_budgets(slug)
    labels = {row.key_id: row.label for row in site.directory.list_keys(slug)}
    now_us = time.time_ns() // 1000
    rows = [
        _view(site, tenant.tenant_id, key_id, labels.get(key_id, ""), cap, now_us)
        for key_id, budget in budgets.items()
        for cap in budget.caps
    ]
    window = site.directory.plan_window(slug)
    if window is not None and window.nanos is not None:
        cap = Cap(PLAN, window.nanos, budgets[""].plan_raises)
        rows.append(_view(site, tenant.tenant_id, "", "", cap, now_us, window))
    return BudgetsView(slug, budgets[""].mode, site.settings.time_zone, rows)


def read_budget(text: str) -> int | None:
    """Nano-dollars of an amount in dollars; None for `none`, which takes a budget away. Raises: BadAmount."""
    return None if text.strip().lower() == REMOVED else read_amount(text.strip())


def read_until(text: str, zone: ZoneInfo) -> datetime:
    """The end of a day in the agency's time zone, or the time that is written. Raises: BadUntil."""
    try:
        if len(text) == len("2026-11-30"):
            day = datetime.fromisoformat(text).date() + timedelta(days=1)
            return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError("no offset")
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadUntil(
            f"is a day such as 2026-11-30, or a time such as 2026-11-30T18:00:00+01:00, not {text[:40]!r}"
        ) from None


def _view(
    site: Site, tenant_id: str, key_id: str, label: str, cap: Cap, now_us: int, window: Window | None = None
) -> BudgetView:
    """`window`: of what a plan includes, in the place of a calendar's period."""
    if window is not None:
        period = Period(PLAN, window.plan, window.start_us, window.end_us)
    else:
        period = period_of(cap.period, now_us, site.settings.zone)
    with reading(site.engine) as connection:
        found = counted_by_holder(connection, period.start_us, period.end_us, tenant_id)
    counted, amount = found.get((tenant_id, key_id), NOTHING), amount_at(cap, now_us)
    left = max(0, amount - counted.nanos)
    return BudgetView(
        key_id or None,
        label or None,
        cap.period,
        period.label,
        amount,
        cap.amount_nanos,
        amount - cap.amount_nanos,
        [
            {"amount_nanos": one.amount_nanos, "from": _stamp_us(one.from_us), "until": _stamp_us(one.until_us)}
            for one in cap.raises
        ],
        counted.spent_nanos,
        counted.unpriced_nanos,
        counted.quarantined_nanos,
        counted.nanos,
        left,
        counted.nanos * 100 // amount if amount > 0 else 100,
        _stamp_us(period.end_us),
        format_usd(amount),
        format_usd(counted.spent_nanos),
        format_usd(left),
        window.overage if window is not None else None,
    )


def _stamp_us(at_us: int) -> str:
    return stamp(datetime.fromtimestamp(at_us // 1_000_000, UTC))
