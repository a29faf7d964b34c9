"""Plans and margins as a person sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from tenantry.billing.margin import Margin, TenantMargin, as_json, margin_of, under_plan
from tenantry.billing.months import Month, month_before
from tenantry.billing.usage import month_totals, start_us
from tenantry.control.client_margins import margins_in
from tenantry.control.invoicing import find_client, reading_books
from tenantry.control.site import Site
from tenantry.control.views import View
from tenantry.domain.plans import Terms, in_force, on_day
from tenantry.domain.printable import stamp
from tenantry.domain.proof import is_of_proof
from tenantry.domain.values import value
from tenantry.storage.directory import Directory
from tenantry.storage.records import PlanVersion, TenantPlan


@value
class PlanVersionView(View):
    version: int
    from_day: str | None
    terms: dict[str, Any]
    by: str
    at: str


@value
class OnPlanView(View):
    slug: str
    since: str
    slots: int | None


@value
class PlanView(View):
    """`terms` are today's; `versions` all of them, `from_day` null from the beginning."""

    plan: str
    terms: dict[str, Any]
    versions: list[PlanVersionView]
    tenants: list[OnPlanView]


@value
class MarginView(View):
    """`corrections_nanos`: revenue for corrections of earlier months; `corrections_cost_nanos`: the cost of those."""

    fixed_nanos: int
    metered_nanos: int
    overage_nanos: int
    corrections_nanos: int
    credits_nanos: int
    revenue_nanos: int
    corrections_cost_nanos: int
    cost_nanos: int
    margin_nanos: int


@value
class MarginsView(View):
    """Of `tenants` tenants together: now, and at the month's end. `under_water`: those who do not cover their cost."""

    now: MarginView
    projected: MarginView
    tenants: int
    under_water: list[str]


@value
class TenantMarginView(View):
    """`fits`: of a tenant under water, the plan that would cost it least of those that cover its cost."""

    tenant: str
    plan: str | None
    now: MarginView
    projected: MarginView
    under_water: bool
    fits: str | None


@value
class MonthMarginView(View):
    """`plans` by name, "" for those on none. `running`: what is projected is at its pace so far.

    `proof_nanos`: what the isolation proof's own tenants used, at list price; nobody pays for it, so it is in no
    margin. `list_nanos`: all that the ledger holds of the month.
    """

    month: str
    running: bool
    tenants: list[TenantMarginView]
    plans: dict[str, MarginsView]
    total: MarginsView
    proof_nanos: int
    list_nanos: int


@value
class SimulatedView(View):
    """What a month brought, and what it would have brought on another plan."""

    month: str
    was: MarginView
    would_be: MarginView


def plan_views(directory: Directory) -> list[PlanView]:
    """All of them, by name; one look at the store for who is on which."""
    today, versions = directory.today(), directory.list_plan_versions()
    on = _on_plans(directory, today)
    by_plan: dict[str, list[PlanVersion]] = {}
    for one in versions:
        by_plan.setdefault(one.plan, []).append(one)
    return [_view(name, by_plan[name], on.get(name, ()), today) for name in directory.list_plans()]


def plan_view(directory: Directory, name: str) -> PlanView:
    """Raises: NotInDirectory."""
    versions, today = directory.list_plan_versions(name), directory.today()
    return _view(name, versions, _on_plans(directory, today).get(name, ()), today)


def set_plan_terms(directory: Directory, name: str, values: Mapping[str, Any], day: date | None) -> PlanView:
    """A plan has these terms from a day on, and of others those that it has; a new one is made.

    `values` are read already, by the names of a file of tenants. Raises: DirectoryError.
    """
    before = directory.list_plans().get(name)
    terms = replace(before or Terms(), **{key.replace("_usd", "_nanos"): one for key, one in values.items()})
    if terms != before or day is not None:
        directory.set_plan(name, terms, day)
    return plan_view(directory, name)


def plan_now(directory: Directory, tenant_id: str) -> tuple[str | None, list[TenantPlan]]:
    """The plan that a tenant is on today, and what it was put on for later days."""
    today, assigned = directory.today(), directory.list_tenant_plans(tenant_id)
    changes = in_force(one.dated for one in assigned)
    now = on_day([one.dated for one in assigned], today)
    return (now.plan if now is not None else None), [one.what for one in changes if one.first_day > today]


def _view(name: str, versions: Sequence[PlanVersion], on_it: Iterable[TenantPlan], today: date) -> PlanView:
    now = on_day([one.dated for one in versions], today) or versions[-1]
    return PlanView(
        name,
        now.terms.told(),
        [
            PlanVersionView(
                one.version_id,
                one.from_day.isoformat() if one.from_day else None,
                one.terms.told(),
                one.actor,
                stamp(one.created_at),
            )
            for one in versions
        ],
        [OnPlanView(one.slug, one.from_day.isoformat(), one.slots) for one in on_it],
    )


def _on_plans(directory: Directory, today: date) -> dict[str, list[TenantPlan]]:
    """Who is on which plan today, by slug."""
    by_tenant: dict[str, list[TenantPlan]] = {}
    for one in directory.list_tenant_plans():
        by_tenant.setdefault(one.tenant_id, []).append(one)
    now = [on_day([one.dated for one in some], today) for some in by_tenant.values()]
    found: dict[str, list[TenantPlan]] = {}
    for one in sorted((one for one in now if one is not None), key=lambda one: one.slug):
        found.setdefault(one.plan or "", []).append(one)
    return found


def tenant_margins(site: Site, month: Month) -> tuple[list[TenantMargin], MonthMarginView]:
    """Of each client that a month is told of; and the same with sums, as JSON has it."""
    plans, now = site.directory.list_plans(), datetime.now(UTC)
    with reading_books(site) as books:
        found = [margin for _, margin in margins_in(site, books, month, plans, now)]
        used = month_totals(books.connection, month, books.zone)
    is_running = start_us(month.end, site.settings.zone) > now.timestamp() * 1_000_000
    proof_nanos = sum(nanos for tenant_id, (_, nanos) in used.items() if is_of_proof(tenant_id))
    sums = {"proof_nanos": proof_nanos, "list_nanos": sum(nanos for _, nanos in used.values())}
    return found, msgspec.convert(as_json(month, found, is_running) | sums, MonthMarginView)


def simulate_plan(site: Site, slug: str, plan: str, months: int) -> list[tuple[str, Margin, Margin]]:
    """What the last whole months brought a tenant, and would have on another plan. Raises: NotInDirectory."""
    return simulate_plans(site, slug, [plan], months)[plan]


def simulate_plans(
    site: Site, slug: str, plans: Iterable[str], months: int
) -> dict[str, list[tuple[str, Margin, Margin]]]:
    """The same of several plans, by name: a month is billed once for all of them. Raises: NotInDirectory."""
    terms = {plan: site.directory.list_plan_versions(plan)[-1].terms for plan in plans}
    client, month = find_client(site, slug), month_before(site.directory.today())
    found: dict[str, list[tuple[str, Margin, Margin]]] = {plan: [] for plan in terms}
    with reading_books(site) as books:
        for _ in range(months):
            bill = books.bill(client.tenant_id, month).alone
            was = margin_of(bill)
            for plan, its in terms.items():
                found[plan].insert(0, (str(month), was, under_plan(month, bill.used, plan, its)))
            month = month_before(month.first)
    return found


def margin_view(one: Margin) -> MarginView:
    return MarginView(**one.as_json())
