"""What a client is on: tier and limits, credential, plan, whom to reach."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Final, cast

from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.figures.tenant import limits_of
from tenantry.control.host_names import read_host, why_not_usable
from tenantry.control.plan_views import plan_now
from tenantry.domain.hosts import BadHost
from tenantry.domain.limits import LIMITS, NO_LIMIT, BadLimit, read_limit
from tenantry.domain.roles import Principal
from tenantry.storage.directory import DirectoryError
from tenantry.storage.directory.plans import SLOTS_MAX, Agreed
from tenantry.storage.directory.tenants import DISCONNECTS, TenantChange
from tenantry.web.pages.showing import show, tenant_of
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of

# As is shown where a limit is the tier's.
_INHERITED: Final = ""


def show_limits(request: Request, principal: Principal) -> Response:
    return _limits(request, principal, None, {})


def _limits(
    request: Request, principal: Principal, typed: Mapping[str, str] | None, problems: Mapping[str, str]
) -> Response:
    tenant, site = tenant_of(request), site_of(request)
    own = {name: as_typed(tenant.limits.as_json()[name]) if name in tenant.own else _INHERITED for name in LIMITS}
    tiers = site.directory.list_tiers()
    of_tier = next(one for one in tiers if one.name == tenant.tier).limits.as_json()
    return show(
        request,
        principal,
        "limits",
        422 if problems else 200,
        tenant=tenant,
        limits=limits_of(tenant),
        table=LIMITS,
        tiers=[one.name for one in tiers],
        of_tier={name: as_typed(value) for name, value in of_tier.items()},
        typed=typed or {"tier": tenant.tier, **own},
        problems=problems,
    )


def as_typed(value: Any) -> str:
    """A limit as one would type it."""
    if value is None:
        return NO_LIMIT
    return ",".join(cast("list[str]", value)) or NO_LIMIT if isinstance(value, list) else str(value)


def set_limits(request: Request, principal: Principal) -> Response:
    tenant, form = tenant_of(request), posted(request)
    typed = {"tier": form.get("tier"), **{name: form.get(name) for name in LIMITS}}
    problems: dict[str, str] = {}
    limits: dict[str, Any] = {}
    for name in LIMITS:
        try:
            if typed[name]:
                limits[name] = read_limit(name, typed[name])
        except BadLimit as error:
            problems[name] = str(error)
    inherit = [name for name in tenant.own if name not in limits]
    if not problems:
        try:
            change = TenantChange(tier=typed["tier"] or None, limits=limits, inherit=inherit)
            acting(request, principal).set_tenant(tenant.slug, change)
        except DirectoryError as error:
            problems["form"] = str(error)
    if problems:
        return _limits(request, principal, typed, problems)
    return see_other(f"/tenants/{tenant.slug}#limits", "Tier and limits are changed; gateways follow within a second.")


def show_credential(request: Request, principal: Principal) -> Response:
    return _credential(request, principal, None, {})


def _credential(
    request: Request, principal: Principal, typed: Mapping[str, str] | None, problems: Mapping[str, str]
) -> Response:
    tenant = tenant_of(request)
    return show(
        request,
        principal,
        "credential",
        422 if problems else 200,
        tenant=tenant,
        names=[one.name for one in site_of(request).directory.list_credentials()],
        typed=typed or {"name": tenant.credential or "", "fallback": tenant.fallback or "", "shared": ""},
        problems=problems,
    )


def set_credential(request: Request, principal: Principal) -> Response:
    tenant, form, directory = tenant_of(request), posted(request), acting(request, principal)
    typed = {name: form.get(name) for name in ("name", "fallback", "shared")}
    shared = bool(typed["shared"])
    try:
        if typed["name"] and typed["name"] != tenant.credential:
            directory.bind_credential(tenant.slug, typed["name"], declare_shared=shared)
        if typed["fallback"] and typed["fallback"] != tenant.fallback:
            directory.bind_credential(tenant.slug, typed["fallback"], declare_shared=shared, as_fallback=True)
        elif not typed["fallback"] and tenant.fallback:
            directory.drop_fallback(tenant.slug)
    except DirectoryError as error:
        return _credential(request, principal, typed, {"form": str(error)})
    return see_other(f"/tenants/{tenant.slug}", f"{tenant.slug} is served with {typed['name'] or tenant.credential}.")


def show_plan(request: Request, principal: Principal) -> Response:
    return _plan(request, principal, None, {})


def _plan(
    request: Request, principal: Principal, typed: Mapping[str, str] | None, problems: Mapping[str, str]
) -> Response:
    tenant, directory = tenant_of(request), site_of(request).directory
    now, _ = plan_now(directory, tenant.tenant_id)
    return show(
        request,
        principal,
        "tenant_plan",
        422 if problems else 200,
        tenant=tenant,
        plans=list(directory.list_plans()),
        history=directory.list_tenant_plans(tenant.tenant_id),
        typed=typed or {"plan": now or "", "from": "", "slots": ""},
        problems=problems,
    )


def set_plan(request: Request, principal: Principal) -> Response:
    tenant, form = tenant_of(request), posted(request)
    typed = {name: form.get(name) for name in ("plan", "from", "slots")}
    problems: dict[str, str] = {}
    from_day: date | None = None
    slots: int | None = None
    try:
        from_day = date.fromisoformat(typed["from"]) if typed["from"] else None
    except ValueError:
        problems["from"] = "A day such as 2026-12-01."
    if typed["slots"]:
        if typed["slots"].isascii() and typed["slots"].isdigit() and 1 <= int(typed["slots"][:9]) <= SLOTS_MAX:
            slots = int(typed["slots"])
        else:
            problems["slots"] = f"A number from 1 to {SLOTS_MAX:,}, or nothing."
    day: date | None = None
    if not problems:
        try:
            agreed = Agreed(typed["plan"] or None, from_day, slots)
            day = acting(request, principal).assign_plan(tenant.slug, agreed)
        except DirectoryError as error:
            problems["form"] = str(error)
    if problems:
        return _plan(request, principal, typed, problems)
    named = typed["plan"] or "no plan"
    words = f"{tenant.slug} is on {named} from {day.isoformat()}." if day else f"{tenant.slug} is on {named} already."
    return see_other(f"/tenants/{tenant.slug}", words)


def show_details(request: Request, principal: Principal) -> Response:
    return _details(request, principal, None, {})


def _details(
    request: Request, principal: Principal, typed: Mapping[str, str] | None, problems: Mapping[str, str]
) -> Response:
    tenant = tenant_of(request)
    stands = {
        "name": tenant.name,
        "contact": tenant.contact or "",
        "hosts": ", ".join(tenant.hosts),
        "user_profile_id": tenant.user_profile_id or "",
        "disconnect": tenant.disconnect,
    }
    return show(
        request,
        principal,
        "details",
        422 if problems else 200,
        tenant=tenant,
        disconnects=DISCONNECTS,
        typed=typed or stands,
        problems=problems,
    )


def set_details(request: Request, principal: Principal) -> Response:
    tenant, form, site = tenant_of(request), posted(request), site_of(request)
    typed = {name: form.get(name) for name in ("name", "contact", "hosts", "user_profile_id", "disconnect")}
    problems: dict[str, str] = {}
    hosts: list[str] = []
    if not typed["name"] or not typed["name"].isprintable():
        problems["name"] = "One line, such as Acme GmbH."
    for word in typed["hosts"].replace(",", " ").split():
        try:
            host = read_host(word)
            why = why_not_usable(site.settings, host)
            if why is not None:
                problems["hosts"] = why
            hosts.append(host)
        except BadHost as error:
            problems["hosts"] = str(error)
    if not problems:
        change = TenantChange(
            name=typed["name"],
            contact=typed["contact"],
            user_profile_id=typed["user_profile_id"],
            disconnect=typed["disconnect"] or None,
            hosts=list(dict.fromkeys(hosts)),
        )
        try:
            acting(request, principal).set_tenant(tenant.slug, change)
        except DirectoryError as error:
            problems["form"] = str(error)
    if problems:
        return _details(request, principal, typed, problems)
    return see_other(f"/tenants/{tenant.slug}", f"{tenant.slug} is changed.")
