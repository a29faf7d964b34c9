"""What tenants and their keys may cost."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from tenantry.control.budgeting import BudgetsView, budgets_of, read_until
from tenantry.domain.money import read_amount
from tenantry.domain.roles import Permission
from tenantry.web.answers import Refused
from tenantry.web.api.changes import Name, Usd, said
from tenantry.web.api.operations import Call, Struct, operation


@operation("GET", "/tenants/{slug}/budgets", Permission.USAGE_READ, audited="budget")
def show_budgets(call: Call, slug: str) -> BudgetsView:
    """Show each budget of a tenant and its keys: amount, raises, what is spent, set aside and left."""
    return budgets_of(call.site, slug)


class BudgetsPatch(Struct):
    """An amount of null takes a budget away; what is not said stays. `mode` is the whole tenant's."""

    month_usd: Usd | UnsetType | None = UNSET
    week_usd: Usd | UnsetType | None = UNSET
    day_usd: Usd | UnsetType | None = UNSET
    mode: Literal["hard", "soft"] | UnsetType = UNSET
    key_id: Name | None = None


@operation("PATCH", "/tenants/{slug}/budgets", Permission.BUDGETS_CHANGE)
def set_budgets(call: Call, slug: str, body: BudgetsPatch) -> BudgetsView:
    """Set what a tenant, or one of its keys, may cost; it acts within a second."""
    given = said(body)
    amounts = {
        name.removesuffix("_usd"): read_amount(text) if text is not None else None
        for name, text in given.items()
        if name.endswith("_usd")
    }
    mode = given.get("mode")
    if not amounts and mode is None:
        raise Refused(422, "say what to set: month_usd, week_usd, day_usd or mode")
    call.site.directory.set_budgets(slug, amounts, mode, body.key_id or "")
    return budgets_of(call.site, slug)


class BudgetRaise(Struct):
    """`plan`: on top of what its plan includes, where that blocks."""

    by_usd: Usd
    until: Annotated[str, Meta(max_length=40, description="The last day, or a time with its offset.")]
    period: Literal["month", "week", "day", "plan"] = "month"


@operation("POST", "/tenants/{slug}/budgets/raise", Permission.BUDGETS_CHANGE)
def raise_budget(call: Call, slug: str, body: BudgetRaise) -> BudgetsView:
    """Put more money on a tenant's budget for a while, from now on."""
    ends_at = read_until(body.until, call.site.settings.zone)
    call.site.directory.raise_budget(slug, body.period, read_amount(body.by_usd), ends_at)
    return budgets_of(call.site, slug)


OPERATIONS: Final = (show_budgets, set_budgets, raise_budget)
