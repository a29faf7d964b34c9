"""What a tenant and its keys may cost: as they stand, and as a person writes an amount and a day."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tenantry.control.figures.budgets import BudgetFigure, budget_figures, plan_figure
from tenantry.control.site import Site
from tenantry.control.views import View
from tenantry.domain.money import format_usd, read_amount
from tenantry.domain.printable import stamp
from tenantry.domain.values import value
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
    tenant_id = site.directory.get_tenant(slug).tenant_id
    budgets, window = site.directory.list_budgets(slug), site.directory.plan_window(slug)
    labels = {row.key_id: row.label for row in site.directory.list_keys(slug)}
    now_us = time.time_ns() // 1000
    with reading(site.engine) as connection:
        of_tenant = {(tenant_id, key_id): budget for key_id, budget in budgets.items()}
        figures = budget_figures(connection, site.settings.zone, now_us, None, [tenant_id], of_tenant)
        found = figures.get(tenant_id, [])
        if window is not None and window.nanos is not None:
            found.append(plan_figure(connection, now_us, tenant_id, budgets[""], window))
    rows = [_view(one, labels.get(one.key_id, "")) for one in found]
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


def _view(one: BudgetFigure, label: str) -> BudgetView:
    return BudgetView(
        one.key_id or None,
        label or None,
        one.cap.period,
        one.period.label,
        one.amount_nanos,
        one.cap.amount_nanos,
        one.raised_nanos,
        [
            {"amount_nanos": each.amount_nanos, "from": _stamp_us(each.from_us), "until": _stamp_us(each.until_us)}
            for each in one.cap.raises
        ],
        one.counted.spent_nanos,
        one.counted.unpriced_nanos,
        one.counted.quarantined_nanos,
        one.counted.nanos,
        one.left_nanos,
        one.used_percent,
        _stamp_us(one.period.end_us),
        format_usd(one.amount_nanos),
        format_usd(one.counted.spent_nanos),
        format_usd(one.left_nanos),
        one.overage,
    )


def _stamp_us(at_us: int) -> str:
    return stamp(datetime.fromtimestamp(at_us // 1_000_000, UTC))
