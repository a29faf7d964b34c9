"""The invoices of a month: looked at before, and issued, for one client or for all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.billing.books import SumsDiffer
from tenantry.billing.invoice import AlreadyBilled, NotBilled
from tenantry.billing.months import BadMonth, Month, month_before, read_month
from tenantry.billing.render import E_INVOICES, MEDIA_TYPES, XRECHNUNG, paper_on
from tenantry.control.completeness import MonthIncomplete
from tenantry.control.invoice_forms import missing_of
from tenantry.control.invoice_round import ISSUING, came, issuing_work, told
from tenantry.control.invoice_views import amount_of, totals_of
from tenantry.control.invoicing import (
    Client,
    find_client,
    issue_drafted,
    preview,
    preview_all,
    reading_books,
    require_issuable,
)
from tenantry.control.site import Site
from tenantry.control.tasks import TaskRunning
from tenantry.domain.roles import Permission, Principal
from tenantry.storage.directory import DirectoryError, NotInDirectory
from tenantry.storage.directory.invoices import NewInvoice
from tenantry.web.pages.invoices import clients_in, sent
from tenantry.web.pages.showing import query, seen_scope, show
from tenantry.web.pages.working import begin, last
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.pages_base.words import sentence
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of

_MONTH_HELP: Final = "A month such as 2026-10."


def show_month(request: Request, principal: Principal) -> Response:
    """What every client's invoice of a month would be."""
    typed, problems = query(request, "month"), dict[str, str]()
    return _month(request, principal, _read(request, typed["month"], problems), problems)


def _read(request: Request, text: str, problems: dict[str, str]) -> Month:
    """The month that was typed, the last one where none was or it is none."""
    last = month_before(site_of(request).directory.today())
    try:
        return read_month(text) if text else last
    except BadMonth:
        problems["month"] = _MONTH_HELP
        return last


def _month(request: Request, principal: Principal, month: Month, problems: Mapping[str, str]) -> Response:
    site, scope = site_of(request), seen_scope(request, principal)
    passed = list(preview_all(site, month, clients_in(site, scope)))
    rows = [told(one, one.draft.document if one.draft is not None else None) for one in passed]
    return show(
        request,
        principal,
        "invoice_month",
        422 if problems else 200,
        month=month,
        rows=rows,
        issued={
            one.number: amount_of(one.document, one.total_minor)
            for one in site.directory.list_invoices(None, str(month))
        },
        there=set(scope.tenants),
        waiting=sum(one.draft is not None for one in passed),
        billed=sum(one.standing is not None for one in passed),
        totals=list(totals_of(one.draft for one in passed if one.draft is not None).values()),
        why_not=why_not_yet(site, month),
        typed={"month": str(month)},
        problems=problems,
        may_issue=principal.may(Permission.INVOICES_ISSUE),
    )


def why_not_yet(site: Site, month: Month) -> str:
    """Why none can be issued of a month; "": they can."""
    try:
        require_issuable(site, month)
    except MonthIncomplete as reason:
        return f"{sentence(reason)} What is shown is preliminary."
    except DirectoryError as reason:
        return sentence(reason)
    return ""


def issue_month(request: Request, principal: Principal) -> Response:
    """Everybody's, in a task; who has one is passed by."""
    problems: dict[str, str] = {}
    month = _read(request, posted(request).get("month"), problems)
    if problems:
        return _month(request, principal, month, problems)
    site = replace(site_of(request), directory=acting(request, principal))
    try:
        require_issuable(site, month)
    except DirectoryError as error:
        return _month(request, principal, month, {"form": sentence(error)})
    try:
        begin(request, ISSUING, principal.actor, issuing_work(site, month), (DirectoryError, SumsDiffer))
    except TaskRunning:
        return see_other("/invoices/run", "Invoices are being issued already: this is how far that is.")
    return see_other("/invoices/run")


def show_run(request: Request, principal: Principal) -> Response:
    return _run(request, principal, "invoice_run")


def show_progress(request: Request, principal: Principal) -> Response:
    """The part that changes, for htmx."""
    return _run(request, principal, "invoice_progress")


def _run(request: Request, principal: Principal, template: str) -> Response:
    task = last(request, ISSUING)
    clients: list[dict[str, Any]] = task.result["clients"] if task is not None and task.result is not None else []
    return show(
        request,
        principal,
        template,
        task=task,
        came=came(task) if task is not None else None,
        issued=[one for one in clients if one["is_new"]],
        passed_by=[one for one in clients if not one["is_new"] and not one["failed"]],
        failed=[one for one in clients if one["failed"]],
    )


def show_preview(request: Request, principal: Principal) -> Response:
    """One client's invoice as it would be issued now."""
    problems: dict[str, str] = {}
    return _one(request, principal, _read(request, query(request, "month")["month"], problems), problems)


def _one(request: Request, principal: Principal, month: Month, problems: Mapping[str, str]) -> Response:
    site, client = site_of(request), client_of(request)
    new, why, standing = _drafted(site, client, month)
    document = new.document if new is not None else None
    return show(
        request,
        principal,
        "invoice_preview",
        422 if problems else 200,
        client=client,
        is_there=client.slug in seen_scope(request, principal).tenants,
        month=month,
        paper=paper_on(document) if document is not None else None,
        logo=document["agency"]["logo"] if document is not None else None,
        nameless=document is not None and not document["agency"]["name"],
        missing=missing_of(document) if document is not None else [],
        missing_beyond=_beyond(document) if document is not None else [],
        seen=seen_mark(document) if document is not None else "",
        forms=[one for one in MEDIA_TYPES if one not in E_INVOICES],
        why=why,
        standing=standing,
        why_not=why_not_yet(site, month),
        typed={"month": str(month)},
        problems=problems,
        may_issue=principal.may(Permission.INVOICES_ISSUE),
    )


def _beyond(document: Mapping[str, Any]) -> list[str]:
    """What an XRechnung needs more than another e-invoice."""
    others = missing_of(document)
    return [one for one in missing_of(document, XRECHNUNG) if one not in others]


def _drafted(site: Site, client: Client, month: Month) -> tuple[NewInvoice | None, str, str]:
    """The draft; or why there is none, and the number of the invoice that the month has already."""
    try:
        with reading_books(site) as books:
            return preview(site, books, client, month), "", ""
    except AlreadyBilled as reason:
        return None, sentence(reason), reason.number
    except (NotBilled, SumsDiffer, DirectoryError) as reason:
        return None, sentence(reason), ""


def client_of(request: Request) -> Client:
    """Who the path names, also one that left. Raises: HTTPException 404."""
    try:
        return find_client(site_of(request), str(request.path_params["slug"]))
    except NotInDirectory as error:
        raise HTTPException(404, str(error)) from None


def seen_mark(document: Mapping[str, Any]) -> str:
    """Of what somebody looks at: what is issued after it is this, or is shown again."""
    return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def issue_one(request: Request, principal: Principal) -> Response:
    """What was looked at gets a number; sent again, it leads to the one that has it."""
    client, form, problems = client_of(request), posted(request), dict[str, str]()
    month = _read(request, form.get("month"), problems)
    if problems:
        return _one(request, principal, month, problems)
    site = replace(site_of(request), directory=acting(request, principal))
    try:
        require_issuable(site, month)
    except DirectoryError as error:
        return _one(request, principal, month, {"form": sentence(error)})
    new, why, standing = _drafted(site, client, month)
    if standing:
        return see_other(f"/invoices/{standing}", f"{month} of {client.slug} has its invoice already: this one.")
    if new is None:
        return _one(request, principal, month, {"form": why})
    if seen_mark(new.document) != form.get("seen"):
        words = (
            "It is another one than you saw: something was booked or changed since. Look at it again, then issue it."
        )
        return _one(request, principal, month, {"form": words})
    try:
        issued = issue_drafted(site.directory, new)
    except DirectoryError as error:
        return _one(request, principal, month, {"form": sentence(error)})
    return see_other(f"/invoices/{issued.number}", f"{issued.number} is issued.")


def download_preview(request: Request, principal: Principal) -> Response:
    client, form, problems = client_of(request), str(request.path_params["form"]), dict[str, str]()
    month = _read(request, query(request, "month")["month"], problems)
    if form not in MEDIA_TYPES or problems:
        raise HTTPException(404, "there is no such preview")
    new, why, _ = _drafted(site_of(request), client, month)
    if new is None:
        raise HTTPException(409, why)
    return sent(new.document, form, f"preview-{month}-{client.slug}")
