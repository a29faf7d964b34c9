"""Invoices, and what becomes of a month's, as a person sees them: for commands and the API alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tenantry.billing.months import Month
from tenantry.billing.render import money
from tenantry.control.invoicing import KINDS, Passed, require_issuable
from tenantry.control.site import Site
from tenantry.control.views import View
from tenantry.domain.billing_details import PLAIN
from tenantry.domain.values import value
from tenantry.storage.directory import DirectoryError
from tenantry.storage.directory.invoices import Issued, NewInvoice


@value
class InvoiceView(View):
    """`credits`: of a credit note, the invoice that it takes back.

    `total` is for people, `total_minor` in the currency's smallest unit.
    """

    number: str
    kind: str
    tenant: str
    month: str
    issued_on: str
    total: str
    total_minor: int
    currency: str
    credits: str | None


@value
class PassedView(View):
    """What became of one tenant: an invoice, or why not. Without a number it was looked at only.

    `failed`: that is a fault and no state. `standing`: the number of the invoice that the month has already.
    """

    tenant: str
    number: str | None
    total: str | None
    total_minor: int | None
    currency: str | None
    why_not: str | None
    failed: bool
    standing: str | None


@value
class BillingMonthView(View):
    """`why_not_issuable`: it is not over, or (`is_over`) not all of it is booked; null: it can be billed."""

    month: str
    is_over: bool
    why_not_issuable: str | None


def amount_of(document: Mapping[str, Any], minor: int) -> str:
    """An amount of a document, as commands and pages tell it whatever the document's locale."""
    return money(document, minor, PLAIN.locale)


def totals_of(some: Iterable[NewInvoice | Issued]) -> dict[str, str]:
    """What they come to, a sum for each currency in the order in which they are met."""
    minor: defaultdict[str, int] = defaultdict(int)
    documents: dict[str, Mapping[str, Any]] = {}
    for one in some:
        minor[one.currency] += one.total_minor
        documents.setdefault(one.currency, one.document)
    return {name: amount_of(documents[name], total) for name, total in minor.items()}


def invoice_view(one: Issued) -> InvoiceView:
    return InvoiceView(
        one.number,
        KINDS[one.kind],
        one.slug,
        one.month,
        one.document["issued_on"],
        amount_of(one.document, one.total_minor),
        one.total_minor,
        one.currency,
        one.credits,
    )


def passed_view(one: Passed) -> PassedView:
    document = one.issued.document if one.issued is not None else None
    if document is None and one.draft is not None and not one.why:
        document = one.draft.document
    minor = document["total_minor"] if document is not None else None
    return PassedView(
        one.slug,
        document.get("number") if document is not None else None,
        amount_of(document, document["total_minor"]) if document is not None else None,
        minor,
        document["currency"] if document is not None else None,
        one.why or None,
        one.failed,
        one.standing,
    )


def billing_month_view(site: Site, month: Month) -> BillingMonthView:
    is_over = month.end <= site.directory.today()
    try:
        require_issuable(site, month)
    except DirectoryError as reason:
        return BillingMonthView(str(month), is_over, str(reason))
    return BillingMonthView(str(month), is_over, None)
