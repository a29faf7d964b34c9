"""What a client may cost: set, and raised for a while."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.figures.budgets import budget_figures
from tenantry.domain.budgets import amount_at
from tenantry.domain.money import BadAmount, format_usd, read_amount
from tenantry.domain.periods import MONTH, period_of
from tenantry.domain.roles import Permission, Principal
from tenantry.storage.caps import BUDGET_MODES, BUDGET_PERIODS
from tenantry.storage.database import reading
from tenantry.storage.directory import DirectoryError
from tenantry.web.pages.showing import figures_of, show, tenant_of
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of


def show_budget(request: Request, principal: Principal) -> Response:
    return _shown(request, principal, None, None, {})


def _shown(
    request: Request,
    principal: Principal,
    caps: Mapping[str, str] | None,
    raised: Mapping[str, str] | None,
    problems: Mapping[str, str],
) -> Response:
    """`caps` and `raised`: what was typed into either form."""
    site, tenant = site_of(request), tenant_of(request)
    now_us = time.time_ns() // 1000
    with reading(site.engine) as connection:
        found = budget_figures(connection, site.settings.zone, now_us, figures_of(request).days, [tenant.tenant_id])
    own = [one for one in found.get(tenant.tenant_id, []) if not one.key_id]
    stands = {one.cap.period: format_usd(one.cap.amount_nanos)[1:].replace(",", "") for one in own}
    month_end = datetime.fromtimestamp(period_of(MONTH, now_us, site.settings.zone).end_us / 1e6, site.settings.zone)
    return show(
        request,
        principal,
        "budget",
        422 if problems else 200,
        tenant=tenant,
        budgets=found.get(tenant.tenant_id, []),
        typed=caps or {**dict.fromkeys(BUDGET_PERIODS, ""), **stands, "mode": tenant.budget_mode},
        raised=raised
        or {
            "by": "",
            "until": (month_end - timedelta(days=1)).date().isoformat(),
            "period": own[-1].cap.period if own else "",
        },
        periods=[one.cap.period for one in own],
        modes=BUDGET_MODES,
        problems=problems,
        may_change=principal.may(Permission.BUDGETS_CHANGE, tenant.slug),
    )


def set_budget(request: Request, principal: Principal) -> Response:
    tenant, form = tenant_of(request), posted(request)
    typed = {name: form.get(name) for name in (*BUDGET_PERIODS, "mode")}
    problems: dict[str, str] = {}
    amounts: dict[str, int | None] = {}
    for period in BUDGET_PERIODS:
        try:
            amounts[period] = read_amount(typed[period].lstrip("$")) if typed[period] else None
        except BadAmount as error:
            problems[period] = str(error)
    if not problems:
        try:
            acting(request, principal).set_budgets(tenant.slug, amounts, typed["mode"] or None)
        except DirectoryError as error:
            problems["form"] = str(error)
    if problems:
        return _shown(request, principal, typed, None, problems)
    told = ", ".join(f"{format_usd(nanos)} a {period}" for period, nanos in amounts.items() if nanos is not None)
    return see_other(
        f"/tenants/{tenant.slug}/budget", f"{tenant.slug}: {told or 'no budget'}. It acts within a second."
    )


def raise_budget(request: Request, principal: Principal) -> Response:
    tenant, form, site = tenant_of(request), posted(request), site_of(request)
    typed = {name: form.get(name) for name in ("by", "until", "period")}
    problems: dict[str, str] = {}
    nanos, until = 0, datetime.now(UTC)
    try:
        nanos = read_amount(typed["by"].lstrip("$"))
    except BadAmount as error:
        problems["by"] = str(error)
    try:
        after = date.fromisoformat(typed["until"]) + timedelta(days=1)
        until = datetime(after.year, after.month, after.day, tzinfo=site.settings.zone).astimezone(UTC)
    except (ValueError, OverflowError):
        problems["until"] = "The last day, such as 2026-11-30."
    if not problems:
        try:
            acting(request, principal).raise_budget(tenant.slug, typed["period"], nanos, until)
        except DirectoryError as error:
            problems["raise_form"] = str(error)
    if problems:
        return _shown(request, principal, None, typed, problems)
    caps = site.directory.list_budgets(tenant.slug)[""].caps
    cap = next(one for one in caps if one.period == typed["period"])
    total = format_usd(amount_at(cap, time.time_ns() // 1000))
    words = (
        f"{tenant.slug}: {total} a {cap.period} until the end of {typed['until']}, then {format_usd(cap.amount_nanos)}."
    )
    return see_other(f"/tenants/{tenant.slug}/budget", words)
