"""One client in full."""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.client_guide import guide_facts
from tenantry.control.figures.tenant import tenant_figures
from tenantry.control.guide.page import guide_markdown, guide_page, guide_parts
from tenantry.control.plan_views import plan_now
from tenantry.control.views import key_view, slot_allowance_view, slot_view
from tenantry.domain.directory import TenantStatus
from tenantry.domain.roles import Permission, Principal
from tenantry.ledger.usage import BadMonth
from tenantry.storage.columns import now_utc
from tenantry.web.pages.showing import audit_read, figures_of, query, show, tenant_of
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of

AUDIT_SHOWN: Final = 10
# The guide is a page of its own, with its style in it, which is for its reader's computer: it is downloaded.
_DOWNLOADED: Final = "attachment; filename*=UTF-8''{}"


def show_tenant(request: Request, principal: Principal) -> Response:
    tenant, site = tenant_of(request), site_of(request)
    audit_read(request, principal, "tenant", tenant.slug)
    month = query(request, "month")["month"] or None
    try:
        figures = tenant_figures(site, figures_of(request).days, tenant, month)
    except BadMonth as error:
        raise HTTPException(400, str(error)) from None
    margin = None
    if principal.may(Permission.MARGIN_READ):
        margins = figures_of(request).margins.find()
        margin = margins.by_tenant.get(tenant.slug) if margins is not None else None
    audit = []
    if principal.may(Permission.AUDIT_READ):
        audit = site.directory.newest_audit(AUDIT_SHOWN, tenant.slug)
    now = now_utc()
    plan, plans_later = plan_now(site.directory, tenant.tenant_id)
    return show(
        request,
        principal,
        "tenant",
        tenant=tenant,
        figures=figures,
        plan=plan,
        plans_later=plans_later,
        margin=margin,
        sees_margins=principal.may(Permission.MARGIN_READ),
        audit=audit,
        slots=[slot_view(site.settings, one) for one in site.directory.list_slots(tenant.slug)],
        allowance=slot_allowance_view(site.directory, tenant.slug),
        keys_shown=[key_view(one, now) for one in figures.keys],
    )


def show_guide(request: Request, principal: Principal) -> Response:
    """The client's guide, as it is handed over; there is no key in it."""
    tenant = tenant_of(request)
    contents, body = guide_parts(guide_markdown(guide_facts(site_of(request), tenant.slug)))
    return show(request, principal, "guide", tenant=tenant, contents=contents, body=body)


def download_guide(request: Request, _principal: Principal) -> Response:
    tenant, form = tenant_of(request), str(request.path_params["form"])
    facts = guide_facts(site_of(request), tenant.slug)
    markdown = guide_markdown(facts)
    if form == "html":
        body, media_type = guide_page(facts, markdown), "text/html; charset=utf-8"
    elif form == "md":
        body, media_type = markdown, "text/markdown; charset=utf-8"
    else:
        raise HTTPException(404, "the guide is there as md and as html")
    name = f"{tenant.slug}.{form}"
    return Response(body, headers={"content-type": media_type, "content-disposition": _DOWNLOADED.format(name)})


def ask_disable(request: Request, principal: Principal) -> Response:
    tenant = tenant_of(request)
    return show(
        request,
        principal,
        "confirm",
        title=f"Disable {tenant.slug}?",
        words="From within a second on every request of this client is answered with 403, and streams that run end "
        "within seconds. Its keys stay: enabled again, it goes on with the same.",
        action=f"/tenants/{tenant.slug}/disable",
        label="Disable",
        back=f"/tenants/{tenant.slug}",
    )


def disable(request: Request, principal: Principal) -> Response:
    slug = tenant_of(request).slug
    acting(request, principal).set_tenant_status(slug, TenantStatus.DISABLED)
    return see_other(f"/tenants/{slug}", f"{slug} is disabled: its requests are refused from within a second on.")


def enable(request: Request, principal: Principal) -> Response:
    slug = tenant_of(request).slug
    acting(request, principal).set_tenant_status(slug, TenantStatus.ACTIVE)
    return see_other(f"/tenants/{slug}", f"{slug} is served again, with the same keys.")
