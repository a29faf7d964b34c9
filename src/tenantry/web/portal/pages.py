"""What a client sees of itself: usage, budget, limits, keys; its guide; its exports and invoices."""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from tenantry.billing.render import HTML, MEDIA_TYPES, PDF, NotRendered, ending_of
from tenantry.billing.render import render as render_invoice
from tenantry.control.client_guide import guide_facts, guide_texts
from tenantry.control.figures.portal import portal_exports, portal_figures, portal_invoices
from tenantry.control.guide.page import guide_markdown, guide_parts
from tenantry.control.invoice_forms import why_not
from tenantry.domain.portal import PortalVisit
from tenantry.ledger.usage import BadMonth
from tenantry.storage.records import TenantRecord
from tenantry.web.pages.exports import FORMS, exported
from tenantry.web.pages.showing import figures_of
from tenantry.web.portal.showing import acting_for, show
from tenantry.web.tokens import site_of

_INVOICE_FORMS: Final = (HTML, PDF)


def tenant_of_visit(request: Request, visit: PortalVisit) -> TenantRecord:
    """By internal id: another client may have got the slug. Raises: HTTPException 404."""
    for one in site_of(request).directory.list_tenants():
        if one.tenant_id == visit.tenant_id:
            return one
    raise HTTPException(404, "this client is not served here any more")


def show_home(request: Request, visit: PortalVisit) -> Response:
    tenant, site = tenant_of_visit(request, visit), site_of(request)
    month = request.query_params.get("month", "").strip() or None
    try:
        figures = portal_figures(site, figures_of(request).days, tenant, month)
    except BadMonth as error:
        raise HTTPException(400, str(error)) from None
    return show(request, "home", visit=visit, figures=figures, here="usage")


def show_guide(request: Request, visit: PortalVisit) -> Response:
    tenant = tenant_of_visit(request, visit)
    contents, body = guide_parts(guide_markdown(guide_facts(site_of(request), tenant.slug)))
    return show(request, "guide", visit=visit, contents=contents, body=body, here="guide")


def download_guide(request: Request, visit: PortalVisit) -> Response:
    slug, form = tenant_of_visit(request, visit).slug, str(request.path_params["form"])
    markdown, page = guide_texts(site_of(request), slug)
    bodies = {"md": (markdown, "text/markdown; charset=utf-8"), "html": (page, "text/html; charset=utf-8")}
    if form not in bodies:
        raise HTTPException(404, "the guide is there as md and as html")
    body, media_type = bodies[form]
    told = f'attachment; filename="{slug}.{form}"'
    return Response(body, headers={"content-type": media_type, "content-disposition": told})


def show_papers(request: Request, visit: PortalVisit) -> Response:
    """Exports and invoices."""
    tenant, site = tenant_of_visit(request, visit), site_of(request)
    issued = portal_invoices(site, tenant.tenant_id) if visit.shows_invoices else []
    return show(
        request,
        "papers",
        visit=visit,
        here="papers",
        forms=FORMS,
        exports=portal_exports(site, tenant.tenant_id),
        invoices=issued,
        invoice_forms=[[form for form in _INVOICE_FORMS if not why_not(one.document, form)] for one in issued],
    )


def make_export(request: Request, visit: PortalVisit) -> Response:
    tenant = tenant_of_visit(request, visit)
    period, form = (request.query_params.get(name, "").strip() for name in ("period", "form"))
    answer = exported(site_of(request), period, form, tenant)
    acting_for(request, visit).audit("read.export", tenant.slug, {"tenant": tenant.slug, "period": period})
    return answer


def download_export(request: Request, visit: PortalVisit) -> Response:
    """One of its own that was written on schedule."""
    tenant, site, name = tenant_of_visit(request, visit), site_of(request), str(request.path_params["name"])
    found = next((one for one in portal_exports(site, tenant.tenant_id) if one.file_name == name), None)
    path = site.settings.data_dir / "exports" / name
    if found is None or not path.is_file():
        raise HTTPException(404, "there is no such export")
    acting_for(request, visit).audit("read.export", tenant.slug, {"tenant": tenant.slug, "period": found.period})
    return FileResponse(path, media_type="text/csv; charset=utf-8", filename=found.file_name)


def download_invoice(request: Request, visit: PortalVisit) -> Response:
    tenant, form = tenant_of_visit(request, visit), str(request.path_params["form"])
    number = str(request.path_params["number"])
    issued = portal_invoices(site_of(request), tenant.tenant_id) if visit.shows_invoices else []
    found = next((one for one in issued if one.number == number), None)
    if found is None or form not in _INVOICE_FORMS:
        raise HTTPException(404, "there is no such invoice")
    try:
        body = render_invoice(found.document, form)
    except NotRendered:
        raise HTTPException(409, "this invoice is not to be had as that here: take the other form") from None
    acting_for(request, visit).audit("read.invoice", tenant.slug, {"tenant": tenant.slug, "number": found.number})
    name = "".join(mark if mark.isalnum() else "-" for mark in found.number)
    told = f'attachment; filename="{name}.{ending_of(form)}"'
    return Response(body, headers={"content-type": MEDIA_TYPES[form], "content-disposition": told})
