"""Invoices as EN 16931 has them, in UN/CEFACT's CII, by drafthorse (the extra `tenantry[einvoice]`); also XRechnung.

Clauses BT-n, BG-n and BR-n are those of EN 16931-1, BR-DE-n those of XRechnung. Amounts of a credit note (type 381)
are above zero there.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from tenantry.billing.einvoice_needs import iban_in, require_complete, vat_id
from tenantry.billing.paper import address_lines, find_due
from tenantry.billing.refusals import NotStructured
from tenantry.billing.wording import wording_of
from tenantry.domain.billing_details import NO_VAT, STANDARD_VAT
from tenantry.storage.directory.invoices import INVOICE

GUIDELINE = "urn:cen.eu:en16931:2017"
# XRechnung 3.0, and the process that it names (BT-24, BT-23; PEPPOL-EN16931-R001).
XRECHNUNG_GUIDELINE = f"{GUIDELINE}#compliant#urn:xeinkauf.de:kosit:xrechnung_3.0"
_PROCESS = "urn:fdc:peppol.eu:2017:poacc:billing:01:1.0"
SCHEMA = "FACTUR-X_EN16931"
# UNTDID 1001; UN/ECE recommendation 20: one of it.
_INVOICE, _CREDIT_NOTE, _ONE = "380", "381", "C62"
# UNTDID 4461: SEPA and other transfers; what is not said.
_SEPA, _TRANSFER, _UNDEFINED = "58", "30", "1"
# CEF's list of reasons for no VAT.
_REASON_CODES = {"AE": "VATEX-EU-AE", "G": "VATEX-EU-G"}


def structured(document: Mapping[str, Any], is_xrechnung: bool = False) -> bytes:
    """An issued document as XML that the schema of Factur-X (profile EN 16931) takes.

    Raises: NotStructured: it has no number yet, or lacks something.
    """
    require_complete(document, is_xrechnung)
    if "number" not in document:
        raise NotStructured("a preview has no number and is no e-invoice: --issue makes it one; html shows it before")
    made: Any = importlib.import_module("drafthorse.models.document").Document()
    is_invoice = document["kind"] == INVOICE
    made.context.guideline_parameter.id = XRECHNUNG_GUIDELINE if is_xrechnung else GUIDELINE
    if is_xrechnung:
        made.context.business_parameter.id = _PROCESS
    made.header.id = document["number"]
    made.header.type_code = _INVOICE if is_invoice else _CREDIT_NOTE
    made.header.issue_date_time = date.fromisoformat(document["issued_on"])
    _add_notes(made, document)
    _add_parties(made, document)
    _add_lines(made, document)
    made.trade.delivery.event.occurrence = date.fromisoformat(document["period"][1])  # BT-72: no part may be empty
    _add_settlement(made, document, is_xrechnung)
    return made.serialize(schema=SCHEMA)


def _model(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"drafthorse.models.{module}"), name)


def _amount(document: Mapping[str, Any], minor: int) -> Decimal:
    signed = minor if document["kind"] == INVOICE else -minor
    return Decimal(signed).scaleb(-document["digits"])


def _add_notes(made: Any, document: Mapping[str, Any]) -> None:
    for text in (*document["paper"]["subject"], *document["paper"]["notes"]):
        note = _model("note", "IncludedNote")()
        note.content = text
        made.header.notes.add(note)


def _add_parties(made: Any, document: Mapping[str, Any]) -> None:
    agreement = made.trade.agreement
    for party, side in ((agreement.seller, document["agency"]), (agreement.buyer, document["client"])):
        party.name = side["name"]
        _add_address(party.address, side)
        is_seller = party is agreement.seller
        found = vat_id(side)
        if found or (is_seller and side["tax_id"]):
            number = ("VA", found) if found else ("FC", side["tax_id"])  # BT-31, BT-48; BT-32
            party.tax_registrations.add(_model("party", "TaxRegistration")(id=number))
        if side.get("contact") or side.get("phone"):  # BG-6, BG-9
            party.contact.person_name = side.get("contact") or side["name"]
            if side.get("phone"):
                party.contact.telephone.number = side["phone"]
            if side["email"]:
                party.contact.email.address = side["email"]
        if side["email"]:
            party.electronic_address.uri_ID = ("EM", side["email"])  # BT-34, BT-49
    if document.get("buyer_reference"):
        agreement.buyer_reference = document["buyer_reference"]  # BT-10
    if document["purchase_order"]:
        agreement.buyer_order.issuer_assigned_id = document["purchase_order"]  # BT-13


def _add_address(address: Any, side: Mapping[str, Any]) -> None:
    """In parts where they were said; lines as they are written else. The standard has three (BT-35, 36, 162)."""
    in_parts = side.get("postcode") or side.get("city")
    text = side.get("street") or "" if in_parts else "\n".join(address_lines(side))
    lines = [one for one in text.split("\n") if one.strip()]
    first, second, third = [*lines[:2], ", ".join(lines[2:]), "", "", ""][:3]
    address.line_one, address.line_two, address.line_three = first, second, third
    if in_parts:
        address.postcode, address.city_name = side.get("postcode") or "", side.get("city") or ""
    address.country_id = side["country"]


def _add_lines(made: Any, document: Mapping[str, Any]) -> None:
    category, percent = _vat(document)
    for number, line in enumerate(document["paper"]["lines"], 1):
        minor = document["lines"][number - 1]["amount_minor"] if document["lines"] else 0
        total = _amount(document, minor)
        one = _model("tradelines", "LineItem")()
        one.document.line_id = str(number)
        one.product.name = line["text"]
        if line["detail"]:
            one.product.description = line["detail"]
        # A price is never below zero (BR-27): a discount is one of it, taken back.
        one.agreement.net.amount = abs(total)
        one.delivery.billed_quantity = (Decimal(-1 if total < 0 else 1), _ONE)
        one.settlement.trade_tax.type_code = "VAT"
        one.settlement.trade_tax.category_code = category
        one.settlement.trade_tax.rate_applicable_percent = percent
        one.settlement.monetary_summation.total_amount = total
        made.trade.items.add(one)


def _vat(document: Mapping[str, Any]) -> tuple[str, Decimal]:
    percent = Decimal(document["taxes"][0]["percent"]) if document["taxes"] else Decimal(0)
    return (STANDARD_VAT if percent else document.get("vat_category") or "Z"), percent


def _add_settlement(made: Any, document: Mapping[str, Any], is_xrechnung: bool) -> None:
    settlement = made.trade.settlement
    settlement.currency_code = document["currency"]
    settlement.period.start, settlement.period.end = map(date.fromisoformat, document["period"])
    due = find_due(document)
    if due is not None:
        terms = _model("payment", "PaymentTerms")()
        terms.due = due  # BT-9
        settlement.terms.add(terms)
    if document["kind"] != INVOICE:
        settlement.invoice_referenced_document.issuer_assigned_id = document["credits"]  # BT-25
    _add_payment_means(settlement, document, is_xrechnung)
    net, total = _amount(document, document["net_minor"]), _amount(document, document["total_minor"])
    category, percent = _vat(document)
    tax = _model("accounting", "ApplicableTradeTax")()
    tax.type_code, tax.category_code, tax.rate_applicable_percent = "VAT", category, percent
    tax.basis_amount, tax.calculated_amount = net, total - net
    if category in NO_VAT and category != "Z":
        tax.exemption_reason = wording_of(document["locale"]).word(f"vat.{category}")
        if category in _REASON_CODES:
            tax.exemption_reason_code = _REASON_CODES[category]
    settlement.trade_tax.add(tax)
    sums = settlement.monetary_summation
    sums.line_total = sums.tax_basis_total = net
    sums.tax_total = (total - net, document["currency"])
    sums.grand_total = sums.due_amount = total


def _add_payment_means(settlement: Any, document: Mapping[str, Any], is_xrechnung: bool) -> None:
    """The account of an invoice. XRechnung wants a word in any case, also on a credit note (BR-DE-1)."""
    told = document["agency"]["payment"] or ""
    iban = iban_in(told) if document["kind"] == INVOICE else None
    means = _model("payment", "PaymentMeans")()
    if iban is not None:
        means.type_code = _SEPA if document["currency"] == "EUR" else _TRANSFER
        means.payee_account.iban = iban
    elif is_xrechnung:
        means.type_code = _UNDEFINED
        means.information.add(" ".join(told.split()))
    else:
        return
    settlement.payment_means.add(means)
