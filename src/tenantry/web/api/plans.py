"""What tenants pay: plans, who is on which, and what a month brings."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from tenantry.billing.months import Month, read_month
from tenantry.control.declared.fields import PLAN_FIELDS, BadField
from tenantry.control.plan_views import (
    MonthMarginView,
    PlanView,
    SimulatedView,
    margin_view,
    plan_view,
    plan_views,
    set_plan_terms,
    simulate_plan,
    tenant_margins,
)
from tenantry.control.views import View
from tenantry.domain.plans import EXAMPLE_PLANS
from tenantry.domain.roles import Permission
from tenantry.domain.values import value
from tenantry.storage.directory import AlreadyThere, NotInDirectory
from tenantry.storage.directory.plans import SLOTS_MAX, Agreed
from tenantry.web.answers import Refused
from tenantry.web.api.changes import Day, MonthText, Name, Usd, said
from tenantry.web.api.operations import Call, Struct, operation
from tenantry.web.api.paging import Page, Paged, page_of
from tenantry.web.api.prices import read_day

Percent = Annotated[str, Meta(min_length=1, max_length=20, description="A decimal number, such as 12.5.")]


@operation("GET", "/plans", Permission.PLANS_READ)
def list_plans(call: Call, query: Paged) -> Page[PlanView]:
    """List plans, with today's terms, every version of them, and who is on them."""
    return page_of(call, query, plan_views(call.site.directory), lambda one: one.plan)


@operation("GET", "/plans/{name}", Permission.PLANS_READ)
def show_plan(call: Call, name: str) -> PlanView:
    """Show one plan."""
    return plan_view(call.site.directory, name)


class PlanTerms(Struct):
    """Commercial terms, as in a file of tenants; docs/invoices.md says what each means."""

    fee_usd: Usd | UnsetType = UNSET
    slots: Annotated[int, Meta(ge=1, le=SLOTS_MAX)] | UnsetType = UNSET
    extra_slot_usd: Usd | UnsetType = UNSET
    setup_usd: Usd | UnsetType = UNSET
    minimum_usd: Usd | UnsetType = UNSET
    included_usd: Usd | UnsetType = UNSET
    included_tokens: Annotated[int, Meta(ge=0, le=10**15)] | UnsetType = UNSET
    fair_use: bool | UnsetType = UNSET
    overage: Literal["bill", "block", "throttle"] | UnsetType = UNSET
    throttle_tier: Name | UnsetType = UNSET
    markup_percent: Percent | UnsetType = UNSET
    prices: Annotated[dict[str, dict[str, str]], Meta(max_length=1000)] | UnsetType = UNSET
    surcharges: bool | UnsetType = UNSET
    bill_estimates: bool | UnsetType = UNSET
    discount_percent: Percent | UnsetType = UNSET
    discount_on: Literal["fee", "all"] | UnsetType = UNSET
    discount_until: Day | UnsetType = UNSET
    trial_days: Annotated[int, Meta(ge=0, le=3650)] | UnsetType = UNSET
    byok: bool | UnsetType = UNSET
    service_fee_percent: Percent | UnsetType = UNSET
    changes: Literal["prorated", "next_month"] | UnsetType = UNSET


class NewPlan(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=63)]
    terms: PlanTerms
    from_day: Day | None = None


@operation("POST", "/plans", Permission.PLANS_CHANGE, of_site=True, status=201, located="/plans/{plan}")
def create_plan(call: Call, body: NewPlan) -> PlanView:
    """Make a plan."""
    if body.name in call.site.directory.list_plans():
        raise AlreadyThere(f"there is a plan {body.name!r} already: PATCH changes it")
    return set_plan_terms(call.site.directory, body.name, _values(body.terms), read_day(body.from_day))


class PlanPatch(Struct):
    terms: PlanTerms
    from_day: Day | None = None


@operation("PATCH", "/plans/{name}", Permission.PLANS_CHANGE, of_site=True, represents=show_plan)
def set_plan(call: Call, name: str, body: PlanPatch) -> PlanView:
    """Change a plan's terms from a day on; what is not said stays. What counted before stays as it was."""
    if name not in call.site.directory.list_plans():
        raise NotInDirectory(f"there is no plan {name!r}")
    return set_plan_terms(call.site.directory, name, _values(body.terms), read_day(body.from_day))


def _values(given: PlanTerms) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, raw in said(given).items():
        try:
            values[name] = PLAN_FIELDS[name].read(raw)
        except BadField as error:
            raise Refused(422, f"terms.{name} {error}") from None
    return values


@operation("DELETE", "/plans/{name}", Permission.PLANS_CHANGE, of_site=True, status=204, represents=show_plan)
def remove_plan(call: Call, name: str) -> None:
    """Take a plan away that no tenant is on. What it cost stays known for the invoices of its time."""
    call.site.directory.remove_plan(name)


@value
class ExampleView(View):
    name: str
    terms: dict[str, Any]


@operation("GET", "/plan-examples", Permission.PLANS_READ)
def list_plan_examples(call: Call, query: Paged) -> Page[ExampleView]:
    """List two plans to begin with, as hosted flat-rate proxies sell them."""
    found = [ExampleView(name, terms.told()) for name, terms in sorted(EXAMPLE_PLANS.items())]
    return page_of(call, query, found, lambda one: one.name)


class Assignment(Struct):
    """`plan` null: none any more. Without `from_day`: from today or next month on, as the plan says."""

    plan: Name | None
    from_day: Day | None = None
    slots: Annotated[int, Meta(ge=1, le=SLOTS_MAX)] | None = None


@value
class AssignedView(View):
    """`from_day` null: it was so already."""

    tenant: str
    plan: str | None
    slots: int | None
    from_day: str | None


@operation("PUT", "/tenants/{slug}/plan", Permission.PLANS_CHANGE)
def assign_plan(call: Call, slug: str, body: Assignment) -> AssignedView:
    """Put a tenant on a plan from a day on, or take it off."""
    day = call.site.directory.assign_plan(slug, Agreed(body.plan, read_day(body.from_day), body.slots))
    return AssignedView(slug, body.plan, body.slots, day.isoformat() if day is not None else None)


class SimulationQuery(Struct):
    plan: Name
    months: Annotated[int, Meta(ge=1, le=120)] = 3


@value
class SimulationView(View):
    tenant: str
    plan: str
    months: list[SimulatedView]


@operation("GET", "/tenants/{slug}/plan-simulation", Permission.MARGIN_READ)
def simulate(call: Call, slug: str, query: SimulationQuery) -> SimulationView:
    """Say what the last months would have brought on another plan; nothing is changed."""
    found = simulate_plan(call.site, slug, query.plan, query.months)
    months = [SimulatedView(month, margin_view(was), margin_view(then)) for month, was, then in found]
    return SimulationView(slug, query.plan, months)


class MarginQuery(Struct):
    month: MonthText | None = None


@operation("GET", "/margin", Permission.MARGIN_READ)
def show_margin(call: Call, query: MarginQuery) -> MonthMarginView:
    """Show revenue less list cost by tenant, plan and in total, and where a running month goes."""
    site = call.site
    month = read_month(query.month) if query.month is not None else Month(site.directory.today().replace(day=1))
    return tenant_margins(site, month)[1]


OPERATIONS: Final = (
    list_plans,
    create_plan,
    show_plan,
    set_plan,
    remove_plan,
    list_plan_examples,
    assign_plan,
    simulate,
    show_margin,
)
