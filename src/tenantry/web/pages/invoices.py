"""Invoices that were issued: found, looked at, downloaded, proved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.billing.credits import left_of
from tenantry.billing.months import month_before
from tenantry.billing.render import MEDIA_TYPES, NotRendered, ending_of, paper_on
from tenantry.billing.render import render as render_invoice
from tenantry.control.figures.scope import Scope
from tenantry.control.invoice_forms import offers_of, why_not
from tenantry.control.invoice_views import amount_of
from tenantry.control.invoicing import KINDS, list_clients, list_waiting, verify_invoices
from tenantry.control.site import Site
from tenantry.domain.roles import Permission, Principal
from tenantry.storage.directory import DirectoryError
from tenantry.storage.directory.invoices import CREDIT_NOTE, INVOICE, PARTIAL_CREDIT, Issued
from tenantry.storage.vault import SecretUnreadable
from tenantry.web.pages.showing import audit_read, query, seen_scope, show
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.tokens import site_of

# Each is a document of some 20 KB.
SHOWN: Final = 100
# Concealed: the number of a row tells how many the whole site has.
_PLACE: Final = "place behind a page of invoices"
_PLACE_CHARS_MAX: Final = 128


def list_invoices(request: Request, principal: Principal) -> Response:
    site, scope = site_of(request), seen_scope(request, principal)
    typed, behind = query(request, "tenant", "month"), _place(site, query(request, "behind")["behind"])
    found = site.directory.newest_invoices(
        SHOWN + 1, scope.ids, typed["tenant"] or None, typed["month"] or None, behind
    )
    filters = {name: text for name, text in typed.items() if text}
    last = month_before(site.directory.today())
    month = str(last)
    billed = _billed(site, month, scope)
    return show(
        request,
        principal,
        "invoices",
        rows=[(one, KINDS[one.kind], amount_of(one.document, one.total_minor)) for one in found[:SHOWN]],
        older=_path({**filters, "behind": site.vault.conceal(str(found[SHOWN - 1].invoice_id), _PLACE)})
        if len(found) > SHOWN
        else None,
        newest=_path(filters) if behind is not None else None,
        typed=typed,
        tenants=sorted({*scope.tenants, *(slug for slug, _ in site.directory.invoiced(None, scope.ids))}),
        month=month,
        billed=billed,
        clients=billed + len(list_waiting(site, last, clients_in(site, scope))),
        may_issue=principal.may(Permission.INVOICES_ISSUE),
    )


def _place(site: Site, told: str) -> int | None:
    """Where a page goes on; none where it was made up."""
    try:
        return int(site.vault.reveal(told[:_PLACE_CHARS_MAX], _PLACE))
    except SecretUnreadable:
        return None


def _path(told: Mapping[str, str]) -> str:
    return f"/invoices?{urlencode(told)}" if told else "/invoices"


def clients_in(site: Site, scope: Scope) -> list[Any]:
    """Who is or was on a plan, of those that may be seen."""
    return [one for one in list_clients(site) if scope.sees(one.tenant_id)]


def _billed(site: Site, month: str, scope: Scope) -> int:
    """How many have their invoice of a month."""
    counts = site.directory.invoiced(month, scope.ids)
    return sum({INVOICE: count, CREDIT_NOTE: -count}.get(kind, 0) for (_, kind), count in counts.items())


def show_invoice(request: Request, principal: Principal) -> Response:
    """As it was issued, with what was given back of it."""
    issued, site = issued_of(request, principal), site_of(request)
    notes = [one for one in site.directory.list_invoices(issued.slug) if one.credits == issued.number]
    audit_read(request, principal, "invoice", issued.slug, number=issued.number)
    document = issued.document
    return show(
        request,
        principal,
        "invoice",
        issued=issued,
        kind=KINDS[issued.kind],
        paper=paper_on(document),
        logo=document["agency"]["logo"],
        offers=offers_of(document),
        notes=[(one, KINDS[one.kind], amount_of(one.document, one.total_minor)) for one in notes],
        state=_state_of(issued, notes),
        left=_left(issued, notes),
        is_there=issued.slug in seen_scope(request, principal).tenants,
        may_credit=issued.kind == INVOICE and principal.may(Permission.INVOICES_ISSUE),
    )


def _state_of(issued: Issued, notes: Sequence[Issued]) -> str:
    if issued.kind != INVOICE:
        return ""
    if any(one.kind == CREDIT_NOTE for one in notes):
        return "taken back"
    return "credited in part" if notes else "stands"


def _left(issued: Issued, notes: Sequence[Issued]) -> str:
    """What may be given back still, before taxes."""
    parts = [one for one in notes if one.kind == PARTIAL_CREDIT]
    return amount_of(issued.document, left_of(issued, parts).net_minor) if parts else ""


def issued_of(request: Request, principal: Principal) -> Issued:
    """The one that the path names. Raises: HTTPException 404: there is none, or it is somebody else's."""
    scope = seen_scope(request, principal)
    try:
        issued = site_of(request).directory.get_invoice(str(request.path_params["number"]))
    except DirectoryError:
        issued = None
    if issued is None or not scope.sees(issued.tenant_id):
        raise HTTPException(404, "there is no such invoice")
    return issued


def download_invoice(request: Request, principal: Principal) -> Response:
    issued, form = issued_of(request, principal), str(request.path_params["form"])
    if form not in MEDIA_TYPES:
        raise HTTPException(404, "there is no such format")
    audit_read(request, principal, "invoice", issued.slug, number=issued.number)
    return sent(issued.document, form, issued.number)


def sent(document: Mapping[str, Any], form: str, name: str) -> Response:
    """A document as a file. Raises: HTTPException 409: it cannot be made."""
    safe = "".join(mark if mark.isalnum() else "-" for mark in name)
    why = why_not(document, form)
    if why:
        raise HTTPException(409, f"it cannot be had as {form} here: {why}")
    try:
        body = render_invoice(document, form)
    except NotRendered as error:
        raise HTTPException(409, str(error)) from None
    told = f'attachment; filename="{safe}.{ending_of(form)}"'
    return Response(body, headers={"content-type": MEDIA_TYPES[form], "content-disposition": told})


def verify(request: Request, principal: Principal) -> Response:
    """Whether all that was issued is as it was."""
    count, wrong = verify_invoices(site_of(request))
    if not wrong:
        words = f"{count:,} issued: each is as it was issued, no number is missing, and lines add up."
        return see_other("/invoices", words)
    return show(request, principal, "invoices_wrong", count=count, wrong=wrong)
