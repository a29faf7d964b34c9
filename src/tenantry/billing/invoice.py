"""An invoice as a document: all that stands on it, frozen. Amounts are in the smallest unit of the currency."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

from tenantry.billing.books import Books, PricedAt
from tenantry.billing.calculation import Bill, in_minor_units
from tenantry.billing.corrections import Corrected, Reference
from tenantry.billing.months import Month, rounded
from tenantry.billing.paper import paper_of
from tenantry.billing.rating import Line
from tenantry.billing.usage import Used, slots_of_keys
from tenantry.billing.wording import FALLBACK, Wording, wording_of
from tenantry.domain.billing_details import ADDRESS_PARTS, NO_VAT, Details
from tenantry.storage.directory.invoices import (
    INVOICE,
    Covered,
    NewInvoice,
    newest_invoice,
    standing_months,
)

# 2: lines are in the language of the client, and an issued document has its paper.
FORMAT = 2
# What was used by keys that are for no slot.
WHOLE_TENANT = ""


class NotBilled(Exception):
    """There is nothing that could be billed; the message says why."""


class AlreadyBilled(NotBilled):
    """The month has its invoice, `number`."""

    def __init__(self, message: str, number: str) -> None:
        super().__init__(message)
        self.number = number


class NothingToBill(NotBilled):
    """The tenant was on no plan in the month and used nothing. `after`: its newest document when that was seen."""

    def __init__(self, message: str, after: int) -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True, slots=True)
class Client:
    """Who is billed, as the directory has it; one that was deleted by what is left of it."""

    tenant_id: str
    slug: str
    name: str


@dataclass(frozen=True, slots=True)
class Sides:
    """Who bills, and who is billed: `own` is what was said of the client itself."""

    agency: Details
    own: Details
    client: Client


def draft(
    books: Books, client: Client, month: Month, agency: Details, own: Details, digits_of: Callable[[str], int]
) -> NewInvoice:
    """The invoice of a month as it would be issued now. `digits_of` tells the decimal places of a currency.

    Raises:
        NotBilled: the tenant has had no plan; AlreadyBilled: the month has its invoice; NothingToBill: it left.
        SumsDiffer: the ledger's rows contradict its sums.
    """
    sold = books.sold(client.tenant_id)
    first = sold.first_day()
    if first is None or first >= month.end:
        cure = f"`tenantry plans assign {client.slug} PLAN` puts it on one"
        raise NotBilled(f"{client.slug} had no plan in {month}: {cure}")
    standing = standing_months(books.connection, client.tenant_id)
    if str(month) in standing:
        number = standing[str(month)]
        raise AlreadyBilled(f"{month} of {client.slug} is billed: {number}", number)
    bill, priced = books.bill(client.tenant_id, month), books.prices(client.tenant_id, month)
    books.require_rows(bill, priced)
    late = books.late(client.tenant_id, month)
    elsewhere = books.billed_elsewhere(client.tenant_id, month)
    lines = [*bill.lines, *elsewhere, *(line for line, _ in late)]
    after = newest_invoice(books.connection, client.tenant_id)
    if not lines and all(one.terms is None for one in bill.stretches):
        raise NothingToBill(f"{client.slug} was on no plan in {month} and used nothing", after)
    own_covered = Covered(
        str(month),
        bill.rows + sum(line.rows for line in elsewhere),
        bill.list_nanos + sum(line.list_nanos for line in elsewhere),
        bill.net_nanos + sum(line.nanos for line in elsewhere),
    )
    slots = slots_of_keys(books.connection, client.tenant_id)
    appendix = appendix_of(bill.all_used, priced, books.key_labels(client.tenant_id), slots)
    if bill.corrected:
        appendix["corrections"] = corrections_of(bill.corrected, books.references(client.tenant_id, month))
    document = document_of(bill, lines, appendix, Sides(agency, own, client), books.zone.key, digits_of)
    return NewInvoice(
        INVOICE,
        agency.series or "",
        client.tenant_id,
        client.slug,
        str(month),
        document["currency"],
        document["total_minor"],
        document,
        [own_covered, *(covered for _, covered in late)],
        after,
    )


def document_of(
    bill: Bill,
    lines: Sequence[Line],
    appendix: Mapping[str, Any],
    sides: Sides,
    time_zone: str,
    digits_of: Callable[[str], int],
) -> dict[str, Any]:
    """All that stands on it but its number and its day."""
    agency, own, client = sides.agency, sides.own, sides.client
    details = own.over(agency)
    wording = wording_of(details.locale or FALLBACK)
    return _amounts(bill.month, lines, details, digits_of(details.currency or ""), wording) | {
        "format": FORMAT,
        "kind": INVOICE,
        "month": str(bill.month),
        "time_zone": time_zone,
        "agency": _party(agency),
        "client": {**_party(own), "name": own.name or client.name, "slug": client.slug},
        "purchase_order": own.purchase_order,
        "buyer_reference": own.buyer_reference,
        "vat_category": details.vat_category,
        "due_days": details.due_days,
        "locale": details.locale,
        "terms": _terms(bill),
        "appendix": appendix,
    }


def finished(new: NewInvoice, today: date) -> NewInvoice:
    """As it is issued today: with all that is read on it."""
    document = {**new.document, "issued_on": today.isoformat()}
    return replace(new, document={**document, "paper": paper_of(document)})


def _amounts(month: Month, lines: Sequence[Line], details: Details, digits: int, wording: Wording) -> dict[str, Any]:
    rate = Fraction(details.rate or "1")
    amounts = in_minor_units([line.nanos for line in lines], rate, digits)
    net = sum(amounts)
    taxes: list[dict[str, Any]] = [
        {"text": text, "percent": percent, "amount_minor": rounded(net * Fraction(percent) / 100)}
        for text, percent in (details.taxes or () if details.vat_category not in NO_VAT else ())
    ]
    return {
        "currency": details.currency,
        "digits": digits,
        "rate": details.rate,
        "rounding": wording.word("rounding"),
        "period": [month.first.isoformat(), (month.end - timedelta(days=1)).isoformat()],
        "lines": [
            {
                "kind": line.kind,
                "text": wording.say(line.text),
                "amount_minor": amount,
                "nanos": line.nanos,
                "rows": line.rows,
                "list_nanos": line.list_nanos,
                "tokens": line.tokens,
            }
            for line, amount in zip(lines, amounts, strict=True)
        ],
        "taxes": taxes,
        "net_nanos": sum(line.nanos for line in lines),
        "net_minor": net,
        "total_minor": net + sum(tax["amount_minor"] for tax in taxes),
    }


def _party(details: Details) -> dict[str, Any]:
    said = details.as_json()
    reached = ("name", "address", *ADDRESS_PARTS, "country", "contact", "phone", "email")
    return {name: said.get(name) for name in (*reached, "tax_id", "payment", "note", "logo")}


def _terms(bill: Bill) -> list[dict[str, Any]]:
    """By which terms which days were billed."""
    return [
        {
            "from": one.first.isoformat(),
            "to": (one.end - timedelta(days=1)).isoformat(),
            "plan": one.plan,
            "version": one.version_id,
            "terms": one.terms.as_json(),
        }
        for one in bill.stretches
        if one.terms is not None
    ]


def appendix_of(
    used: Sequence[Used],
    priced: Iterable[PricedAt],
    labels: Mapping[str, str] | None = None,
    slots: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The same usage several times: each table adds up to the rows and the list cost of the month.

    `labels` are those of keys by id, as they are now; `slots` of the keys that are for one.
    """
    known = slots or {}
    by_slot = _table(used, lambda one: known.get(one.key_id, WHOLE_TENANT)) if known else []
    by_key = _table(used, lambda one: one.key_id)
    return {
        "by_model": _table(used, lambda one: one.model),
        "by_key": [{**row, "label": (labels or {}).get(row["name"])} for row in by_key],
        "by_week": _table(used, lambda one: f"{one.first.isocalendar().year}-W{one.first.isocalendar().week:02d}"),
        "by_slot": by_slot,
        "by_outcome": _table(used, lambda one: one.outcome),
        "price_versions": [{"name": one.version, "rows": one.rows, "list_nanos": one.cost_nanos} for one in priced],
    }


def corrections_of(corrected: Sequence[Corrected], references: Sequence[Reference]) -> dict[str, Any]:
    """What corrects earlier months, and which attempts that is: the first of them where they are many."""
    groups: defaultdict[tuple[str, str, str, str], list[Corrected]] = defaultdict(list)
    for one in corrected:
        groups[str(one.origin), one.model, one.reason, one.price_version].append(one)
    return {
        "groups": [
            {
                "month": month,
                "model": model,
                "why": reason,
                "price_version": version,
                "rows": sum(one.rows for one in some),
                "list_nanos": sum(one.cost_nanos for one in some),
            }
            for (month, model, reason, version), some in sorted(groups.items())
        ],
        "references": [
            {
                "attempt": one.attempt_id,
                "ended_on": one.of.isoformat(),
                "list_nanos": one.cost_nanos,
                "price_version": one.price_version,
            }
            for one in references
        ],
        "not_named": sum(one.rows for one in corrected) - len(references),
    }


def _table(used: Sequence[Used], name_of: Callable[[Used], str]) -> list[dict[str, Any]]:
    by_name: defaultdict[str, list[Used]] = defaultdict(list)
    for one in used:
        by_name[name_of(one)].append(one)
    return [
        {
            "name": name,
            "rows": sum(one.rows for one in some),
            "tokens": sum(one.tokens for one in some),
            "list_nanos": sum(one.cost_nanos for one in some),
        }
        for name, some in sorted(by_name.items())
    ]
