"""What clients bring and cost: over months, by client and plan; and what another plan would have brought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from tenantry.billing.margin import Margin, TenantMargin, grouped, totals
from tenantry.billing.months import BadMonth, Month, read_month
from tenantry.control.figures.margins import Margins, month_margins
from tenantry.control.plan_views import plan_now, simulate_plans
from tenantry.control.site import Site
from tenantry.domain.roles import Principal
from tenantry.storage.directory import NotInDirectory
from tenantry.web.pages.marks import MonthBars, dollars
from tenantry.web.pages.showing import figures_of, query, show
from tenantry.web.tokens import site_of

MONTHS_SIMULATED: Final = 3
MONTHS_SIMULATED_MAX: Final = 12


def show_margins(request: Request, principal: Principal) -> Response:
    return _shown(request, principal, "margins")


def show_figures(request: Request, principal: Principal) -> Response:
    """The part that is added up beside, for htmx."""
    return _shown(request, principal, "margins_figures")


def _shown(request: Request, principal: Principal, template: str) -> Response:
    typed, problems, site, kept = (
        query(request, "month", "tenant"),
        dict[str, str](),
        site_of(request),
        figures_of(request),
    )
    running = kept.margins.find()
    before, is_whole = kept.history.find()
    this = Month(site.directory.today().replace(day=1))
    try:
        month = read_month(typed["month"]) if typed["month"] else this
    except BadMonth:
        month, problems["month"] = this, "A month such as 2026-10."
    by_month: dict[Month, Margins] = {**before, **({this: running} if running is not None else {})}
    found = by_month.get(month)
    if found is None and month != this:
        found = month_margins(site, month)
    return show(
        request,
        principal,
        template,
        422 if problems else 200,
        month=month,
        is_running=month == this,
        found=found,
        rows=_rows(found) if found is not None else [],
        plans=_plans(found) if found is not None else [],
        months=[_month(one, margins, typed["tenant"], one == this) for one, margins in by_month.items()],
        is_whole=is_whole and running is not None,
        slugs=sorted({slug for margins in by_month.values() for slug in margins.by_tenant}),
        typed={"tenant": typed["tenant"], "month": str(month)},
        asked={name: text for name, text in typed.items() if text},
        problems=problems,
    )


def _rows(found: Margins) -> list[tuple[str, TenantMargin]]:
    """Who brings least first."""
    return sorted(found.by_tenant.items(), key=lambda one: (one[1].projected.margin_nanos, one[0]))


def _plans(found: Margins) -> list[tuple[str, int, Margin, Margin, int]]:
    """Plan, clients, sums now and at the month's end, how many are under water."""
    return [
        (
            name,
            len(some),
            totals(one.now for one in some),
            totals(one.projected for one in some),
            sum(one.is_under_water for one in some),
        )
        for name, some in grouped(found.every).items()
    ]


def _month(month: Month, found: Margins, slug: str, is_running: bool) -> tuple[MonthBars, Margin, Margin]:
    """A month of the chart and of its table: of all, or of one client."""
    own = found.by_tenant.get(slug)
    now, then = (own.now, own.projected) if own else (Margin(), Margin()) if slug else (found.now, found.projected)
    words = (
        f"{month}: brings {dollars(now.revenue_nanos)}, costs {dollars(now.cost_nanos)}, "
        f"margin {dollars(now.margin_nanos)}"
    )
    if is_running:
        words += f" so far; at its end about {dollars(then.margin_nanos)}"
    ahead = (then.revenue_nanos, then.cost_nanos) if is_running else None
    return MonthBars(str(month), (now.revenue_nanos, now.cost_nanos), words, ahead), now, then


def show_simulation(request: Request, principal: Principal) -> Response:
    """What the last whole months would have brought under each plan, or month by month under one."""
    site, typed = site_of(request), query(request, "tenant", "plan", "months")
    tenants, plans = [one.slug for one in site.directory.list_tenants()], list(site.directory.list_plans())
    months, problems = _months(typed["months"]), dict[str, str]()
    if months is None:
        months, problems["months"] = MONTHS_SIMULATED, f"A number from 1 to {MONTHS_SIMULATED_MAX}."
    if typed["tenant"] and typed["tenant"] not in tenants:
        problems["tenant"] = "There is no such client."
    if typed["plan"] and typed["plan"] not in plans:
        problems["plan"] = "There is no such plan."
    compared: list[dict[str, Any]] = []
    if typed["tenant"] and not problems:
        compared = _compared(site, typed["tenant"], plans, months)
    chosen = next((one for one in compared if one["plan"] == typed["plan"]), None)
    return show(
        request,
        principal,
        "simulation",
        422 if problems else 200,
        tenants=tenants,
        plans=plans,
        compared=compared,
        on_now=_plan_of(site, typed["tenant"]) if compared else None,
        chosen=chosen,
        chart=[_simulated(*one) for one in chosen["months"]] if chosen is not None else [],
        months=months,
        typed={**typed, "months": typed["months"] or str(MONTHS_SIMULATED)},
        problems=problems,
    )


def _months(text: str) -> int | None:
    """None: it is no number of months."""
    if not text:
        return MONTHS_SIMULATED
    is_number = text.isascii() and text.isdigit() and len(text) < 4
    return int(text) if is_number and 1 <= int(text) <= MONTHS_SIMULATED_MAX else None


def _compared(site: Site, slug: str, plans: Sequence[str], months: int) -> list[dict[str, Any]]:
    """By plan, what costs the client least first."""
    found: list[dict[str, Any]] = []
    for plan, simulated in simulate_plans(site, slug, plans, months).items():
        was, then = totals(one[1] for one in simulated), totals(one[2] for one in simulated)
        difference = then.revenue_nanos - was.revenue_nanos
        found.append({"plan": plan, "was": was, "then": then, "difference": difference, "months": simulated})
    return sorted(found, key=lambda one: (one["then"].revenue_nanos, one["plan"]))


def _plan_of(site: Site, slug: str) -> str | None:
    try:
        return plan_now(site.directory, site.directory.get_tenant(slug).tenant_id)[0]
    except NotInDirectory:
        return None


def _simulated(month: str, was: Margin, then: Margin) -> MonthBars:
    words = f"{month}: brought {dollars(was.revenue_nanos)}, would have brought {dollars(then.revenue_nanos)}"
    return MonthBars(month, (was.revenue_nanos, then.revenue_nanos), words, None)
