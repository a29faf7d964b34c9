"""Invoices as they are issued, with every kind of line, in four locales."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from tenantry.billing.books import PricedAt
from tenantry.billing.calculation import calculate
from tenantry.billing.credits import Part, credit_part
from tenantry.billing.invoice import Client, Sides, appendix_of, document_of, finished
from tenantry.billing.months import Sold
from tenantry.billing.render import digits_of
from tenantry.domain.billing_details import PLAIN, Details
from tenantry.domain.plans import Terms
from tenantry.storage.directory.invoices import INVOICE, Issued, NewInvoice
from tests.unit.billing.sales import NOVEMBER, USD, on, used, version

NOTHING = Details()
ISSUED_ON = date(2026, 12, 1)
STUDIO = Terms(
    fee_nanos=179 * USD,
    slots=2,
    extra_slot_nanos=25 * USD,
    setup_nanos=250 * USD,
    included_nanos=100 * USD,
    markup_percent="20",
    discount_percent="12.5",
    discount_on="fee",
)
METERED = Terms(markup_percent="15")
LABELS = {"key_1": "Website"}
AGENCY = {
    "name": "Northlight Agency GmbH",
    "address": "Speicherstraße 12\n20457 Hamburg",
    "country": "DE",
    "email": "billing@northlight.example",
    "tax_id": "DE123456789",
    "payment": "IBAN DE02 1203 0000 0000 2020 51\nBIC BYLADEM1001",
}
CLIENTS: dict[str, Details] = {
    "en_US": Details(name="Acme Corporation", address="500 Market Street\nSan Francisco, CA 94105", country="US"),
    "de_DE": Details(name="Müller & Söhne KG", address="Hauptstraße 1\n12345 Beispielstadt", country="DE"),
    "fr_FR": Details(name="Boulangerie Lefèvre SARL", address="3 rue de l’Église\n75011 Paris", country="FR"),
    "es_ES": Details(name="Peña y Asociados, S.L.", address="Calle Mayor, 5\n28013 Madrid", country="ES"),
}
# What XRechnung asks for beyond that, of the agency and of each client.
REACHED = {
    "address": None,
    "street": "Speicherstraße 12",
    "postcode": "20457",
    "city": "Hamburg",
    "contact": "Ada Nord",
    "phone": "+49 40 123456",
}
TOWNS = {
    "en_US": ("500 Market Street", "94105", "San Francisco, CA"),
    "de_DE": ("Hauptstraße 1\nHinterhaus", "12345", "Beispielstadt"),
    "fr_FR": ("3 rue de l’Église", "75011", "Paris"),
    "es_ES": ("Calle Mayor, 5", "28013", "Madrid"),
}
TAXES = {"en_US": ("Sales tax", "8.625"), "de_DE": ("USt", "19"), "fr_FR": ("TVA", "20"), "es_ES": ("IVA", "21")}


def draft_in(locale: str, own: Details = NOTHING, **agency: Any) -> dict[str, Any]:
    """With fee, slots, set-up, discount, usage within and beyond, metered usage, estimates, a tax."""
    details = Details(**{**AGENCY, "taxes": (TAXES[locale],), **agency}).over(PLAIN)
    money = Details() if locale == "en_US" else Details(currency="EUR", rate="0.92")
    client = own.over(CLIENTS[locale]).over(Details(locale=locale, purchase_order="PO-4711")).over(money)
    plans = [on("studio", date(2026, 11, 1), 3), on("metered", date(2026, 11, 20))]
    known = Sold(plans, [version("studio", STUDIO, number=1), version("metered", METERED, number=2)])
    some = [
        used(date(2026, 11, 3), nanos=140_123_456_789, tokens=61_234_567),
        used(date(2026, 11, 9), "estimated", 3_210_000_001, tokens=123_456),
        used(date(2026, 11, 22), nanos=56_789_012_345, model="claude-sonnet-5-5", tokens=9_876_543),
        used(date(2026, 11, 24), nanos=1_234_567, tokens=1_000),
        used(date(2026, 11, 25), "orphaned", 2_000_000, tokens=7),
        used(date(2026, 11, 26), "unpriced", model="claude-new-1", tokens=5_000),
    ]
    bill = calculate(NOVEMBER, known.stretches(NOVEMBER), some)
    priced = [PricedAt("2026-11-01", 10, sum(one.cost_nanos for one in some)), PricedAt("", 2, 0)]
    sides = Sides(details, client, Client("tnt_a", "acme", "Acme"))
    appendix = appendix_of(some, priced, LABELS)
    return document_of(bill, bill.lines, appendix, sides, "Europe/Berlin", digits_of)


def in_parts(locale: str) -> Details:
    """The client with its address in parts, an address for mail, and a reference of its own."""
    street, postcode, city = TOWNS[locale]
    parts = Details(street=street, postcode=postcode, city=city, email="ap@client.example")
    return replace(parts, buyer_reference="04011000-12345-34").over(CLIENTS[locale])


def issued_as(document: dict[str, Any], number: str = "INV-2026-0001") -> dict[str, Any]:
    new = NewInvoice(
        INVOICE, "", "tnt_a", "acme", "2026-11", document["currency"], document["total_minor"], document, [], 0
    )
    return {**finished(new, ISSUED_ON).document, "number": number}


def invoice_in(locale: str, own: Details = NOTHING, **agency: Any) -> dict[str, Any]:
    return issued_as(draft_in(locale, own, **agency))


def credit_in(locale: str, part: Part, own: Details = NOTHING, **agency: Any) -> dict[str, Any]:
    note = credit_part(
        row_of(invoice_in(locale, own, **agency)), [], part, "CN-2026-", 1, "Answers were slow on November 9"
    )
    return {**finished(note, ISSUED_ON).document, "number": "CN-2026-0001"}


def row_of(document: dict[str, Any]) -> Issued:
    """As the store would have it."""
    known = (1, document["number"], "", document["kind"], "tnt_a", "acme", "2026-11", document.get("credits"))
    sums = (document["currency"], document["total_minor"], json.dumps(document))
    return Issued(*known, *sums, "", "", datetime(2026, 12, 1, tzinfo=UTC))
