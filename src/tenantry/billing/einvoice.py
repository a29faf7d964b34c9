"""Invoices as EN 16931 has them, in UN/CEFACT's CII, by drafthorse (the extra `tenantry[einvoice]`).

Clauses BT-n, BG-n and BR-n are those of EN 16931-1. Amounts of a credit note (type 381) are above zero there.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from tenantry.billing.paper import due_on
from tenantry.billing.refusals import NotStructured
from tenantry.billing.wording import wording_of
from tenantry.domain.billing_details import NO_VAT, STANDARD_VAT
from tenantry.storage.directory.invoices import INVOICE

GUIDELINE = "urn:cen.eu:en16931:2017"
SCHEMA = "FACTUR-X_EN16931"
# UNTDID 1001; UN/ECE recommendation 20: one of it.
_INVOICE, _CREDIT_NOTE, _ONE = "380", "381", "C62"
# EN 16931 has amounts of at most two decimal places (BR-DEC).
DIGITS_MAX = 2
_VAT_ID = re.compile(r"[A-Z]{2}[A-Z0-9+*.]{2,13}")
_IBAN = re.compile(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{1,4}){3,8}")
_SEPA, _TRANSFER = "58", "30"
# CEF's list of reasons for no VAT.
_REASON_CODES = {"AE": "VATEX-EU-AE", "G": "VATEX-EU-G"}


def lacking(document: Mapping[str, Any]) -> Iterator[str]:
    """What the standard asks for and this document has not, each with what says it."""
    agency, client, slug = document["agency"], document["client"], document["client"]["slug"]
    details = "`tenantry invoices details"
    if not agency["name"]:
        yield f"the agency's name: {details} --name TEXT`"
    if not agency.get("country"):
        yield f"the agency's country: {details} --country CODE`"
    if not agency["tax_id"]:
        yield f"the agency's VAT id: {details} --tax-id ID`"
    if not client.get("country"):
        yield f"the client's country: {details} {slug} --country CODE`"
    if document.get("vat_category") == "AE" and not _vat_id(client):
        yield f"the client's VAT id, for reverse charge: {details} {slug} --tax-id ID`"
    if not document["taxes"] and document.get("vat_category") not in NO_VAT:
        why = f"{details} {slug} --vat-category {'|'.join(NO_VAT)}`"
        yield f"a VAT: {details} --tax VAT=PERCENT`; or why there is none: {why}"
    if len(document["taxes"]) > 1:
        yield "one VAT for each line: more than one tax is declared"
    if document["digits"] > DIGITS_MAX:
        yield f"a currency of at most {DIGITS_MAX} decimal places"


def require_complete(document: Mapping[str, Any]) -> None:
    """Raises: NotStructured: naming all that is lacking."""
    found = list(lacking(document))
    if found:
        raise NotStructured(f"an e-invoice needs {'; '.join(found)}")


def structured(document: Mapping[str, Any]) -> bytes:
    """An issued document as XML that the schema of Factur-X (profile EN 16931) takes.

    Raises: NotStructured: it has no number yet, or lacks something.
    """
    require_complete(document)
    if "number" not in document:
        raise NotStructured("a preview has no number and is no e-invoice: --issue makes it one; html shows it before")
    made: Any = importlib.import_module("drafthorse.models.document").Document()
    is_invoice = document["kind"] == INVOICE
    made.context.guideline_parameter.id = GUIDELINE
    made.header.id = document["number"]
    made.header.type_code = _INVOICE if is_invoice else _CREDIT_NOTE
    made.header.issue_date_time = date.fromisoformat(document["issued_on"])
    _add_notes(made, document)
    _add_parties(made, document)
    _add_lines(made, document)
    made.trade.delivery.event.occurrence = date.fromisoformat(document["period"][1])  # BT-72: no part may be empty
    _add_settlement(made, document)
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
        lines = [one for one in (side["address"] or "").split("\n") if one.strip()]
        # Addresses are lines as they are written: the standard has three beside the country (BT-35, 36, 162).
        first, second, third = [*lines[:2], ", ".join(lines[2:]), "", "", ""][:3]
        party.address.line_one, party.address.line_two, party.address.line_three = first, second, third
        party.address.country_id = side["country"]
        vat_id = _vat_id(side)
        is_seller = party is agreement.seller
        if vat_id or (is_seller and side["tax_id"]):
            number = ("VA", vat_id) if vat_id else ("FC", side["tax_id"])  # BT-31, BT-48; BT-32
            party.tax_registrations.add(_model("party", "TaxRegistration")(id=number))
        if side["email"]:
            party.electronic_address.uri_ID = ("EM", side["email"])  # BT-34, BT-49
    if document["purchase_order"]:
        agreement.buyer_order.issuer_assigned_id = document["purchase_order"]  # BT-13


def _vat_id(side: Mapping[str, Any]) -> str | None:
    told = re.sub(r"[\s-]", "", side["tax_id"] or "")
    return told if _VAT_ID.fullmatch(told) else None


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


def _add_settlement(made: Any, document: Mapping[str, Any]) -> None:
    settlement = made.trade.settlement
    settlement.currency_code = document["currency"]
    settlement.period.start, settlement.period.end = map(date.fromisoformat, document["period"])
    if document["kind"] == INVOICE:
        _add_payment(settlement, document)
    else:
        settlement.invoice_referenced_document.issuer_assigned_id = document["credits"]  # BT-25
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


def _add_payment(settlement: Any, document: Mapping[str, Any]) -> None:
    terms = _model("payment", "PaymentTerms")()
    terms.due = due_on(document, date.fromisoformat(document["issued_on"]))  # BT-9
    settlement.terms.add(terms)
    iban = _iban(document["agency"]["payment"] or "")
    if iban is not None:
        means = _model("payment", "PaymentMeans")()
        means.type_code = _SEPA if document["currency"] == "EUR" else _TRANSFER
        means.payee_account.iban = iban
        settlement.payment_means.add(means)


def _iban(text: str) -> str | None:
    """The first account in a text whose check digits are right (ISO 13616: modulo 97 it is 1)."""
    for found in _IBAN.finditer(text):
        iban = found[0].replace(" ", "")
        if int("".join(str(int(one, 36)) for one in iban[4:] + iban[:4])) % 97 == 1:
            return iban
    return None
