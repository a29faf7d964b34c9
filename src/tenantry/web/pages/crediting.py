"""An invoice given back: all of it, or a part. The credit note is looked at before it gets its number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from starlette.requests import Request
from starlette.responses import Response

from tenantry.billing.credits import AMOUNT as AMOUNT_TYPED
from tenantry.billing.credits import LINES_MAX, REASON_CHARS_MAX, Part, left_of
from tenantry.billing.render import paper_on
from tenantry.control.invoice_views import amount_of
from tenantry.control.invoicing import issue_drafted, prepare_credit
from tenantry.domain.roles import Principal
from tenantry.storage.database import reading
from tenantry.storage.directory import DirectoryError
from tenantry.storage.directory.invoices import CREDIT_NOTE, INVOICE, Issued, NewInvoice, credits_of
from tenantry.web.pages.invoice_month import seen_mark
from tenantry.web.pages.invoices import issued_of
from tenantry.web.pages.showing import show
from tenantry.web.pages_base.forms import Posted, posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.pages_base.words import sentence
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of

WHOLE, AMOUNT, LINES = "whole", "amount", "lines"


def ask_credit(request: Request, principal: Principal) -> Response:
    issued = issued_of(request, principal)
    note = _taken_back_by(request, issued)
    if note is not None:
        return see_other(f"/invoices/{note}", f"{issued.number} is taken back already, by this.")
    if issued.kind != INVOICE:
        return see_other(f"/invoices/{issued.number}", "Invoices are given back, and not credit notes.")
    return _form(request, principal, issued, {"how": WHOLE, "reason": "", "amount": ""}, [], {})


def _form(
    request: Request,
    principal: Principal,
    issued: Issued,
    typed: Mapping[str, str],
    ticked: list[str],
    problems: Mapping[str, str],
) -> Response:
    document = issued.document
    with reading(site_of(request).engine) as connection:
        left = left_of(issued, credits_of(connection, issued.number))
    lines = [
        (number, line["text"], amount_of(document, line["amount_minor"]), of, amount_of(document, of))
        for number, (line, of) in enumerate(zip(document["lines"], left.lines_minor, strict=True), 1)
    ]
    return show(
        request,
        principal,
        "credit",
        422 if problems else 200,
        issued=issued,
        lines=lines,
        left=amount_of(document, left.net_minor),
        currency=document["currency"],
        typed=typed,
        ticked=ticked,
        problems=problems,
        reason_chars_max=REASON_CHARS_MAX,
    )


def credit(request: Request, principal: Principal) -> Response:
    """First it is shown; what was seen is issued."""
    issued, form = issued_of(request, principal), posted(request)
    typed = {name: form.get(name) for name in ("how", "reason", "amount")}
    ticked = form.all("line")
    part, problems = _read(typed, ticked)
    if problems:
        return _form(request, principal, issued, typed, ticked, problems)
    site = replace(site_of(request), directory=acting(request, principal))
    note = _taken_back_by(request, issued)
    if note is not None:
        return see_other(f"/invoices/{note}", f"{issued.number} is taken back already, by this.")
    try:
        new = prepare_credit(site, issued.number, typed["reason"], part)
    except DirectoryError as error:
        field = {AMOUNT: "amount", LINES: "lines"}.get(typed["how"], "form")
        return _form(request, principal, issued, typed, ticked, {field: sentence(error)})
    seen = form.get("seen")
    if not seen:
        return _preview(request, principal, issued, new, form, "")
    if seen != _mark(new):
        words = "Something was issued for this client since you looked: this is what the credit note is now."
        return _preview(request, principal, issued, new, form, words)
    try:
        made = issue_drafted(site.directory, new)
    except DirectoryError as error:
        return _preview(request, principal, issued, new, form, sentence(error))
    return see_other(f"/invoices/{made.number}", f"{made.number} is issued. {_after(issued, part)}")


def _mark(new: NewInvoice) -> str:
    """What is on it, and after which document of the client: of a form that is sent twice the second finds another."""
    return seen_mark({"document": new.document, "after": new.after})


def _after(issued: Issued, part: Part | None) -> str:
    if part is not None:
        return f"{issued.number} stands."
    return f"{issued.month} of {issued.slug} can be billed anew."


def _read(typed: Mapping[str, str], ticked: list[str]) -> tuple[Part | None, dict[str, str]]:
    problems: dict[str, str] = {}
    if not typed["reason"] or not typed["reason"].isprintable() or len(typed["reason"]) > REASON_CHARS_MAX:
        problems["reason"] = f"One line of {REASON_CHARS_MAX} characters at most: it stands on the credit note."
    lines = tuple(int(one) for one in ticked[:LINES_MAX] if one.isascii() and one.isdigit() and len(one) < 9)
    amount = typed["amount"].replace(",", "")
    if typed["how"] == AMOUNT and not AMOUNT_TYPED.fullmatch(amount):
        problems["amount"] = "An amount such as 12.50."
    if typed["how"] == WHOLE and amount:
        problems["how"] = "You typed an amount: choose An amount, or leave it empty to give back all that is left."
    elif typed["how"] == WHOLE and lines:
        problems["how"] = "You ticked lines: choose Some lines, or untick them to give back all that is left."
    if typed["how"] == LINES and not lines:
        problems["lines"] = "Tick the lines that are given back."
    if problems or typed["how"] not in (AMOUNT, LINES):
        if typed["how"] not in (WHOLE, AMOUNT, LINES):
            problems["how"] = "Say how much."
        return None, problems
    return (Part(Decimal(amount)) if typed["how"] == AMOUNT else Part(None, lines)), problems


def _preview(
    request: Request, principal: Principal, issued: Issued, new: NewInvoice, form: Posted, words: str
) -> Response:
    kept = [(name, form.get(name)) for name in ("how", "reason", "amount")]
    return show(
        request,
        principal,
        "credit_preview",
        422 if words else 200,
        issued=issued,
        is_whole=new.kind == CREDIT_NOTE,
        paper=paper_on(new.document),
        logo=new.document["agency"]["logo"],
        total=amount_of(new.document, -new.total_minor),
        kept=[*kept, *(("line", one) for one in form.all("line"))],
        seen=_mark(new),
        problems={"form": words} if words else {},
    )


def _taken_back_by(request: Request, issued: Issued) -> str | None:
    """The credit note over all of it, if there is one."""
    found = site_of(request).directory.list_invoices(issued.slug, issued.month)
    return next((one.number for one in found if one.credits == issued.number and one.kind == CREDIT_NOTE), None)
