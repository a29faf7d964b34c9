"""E-invoices: taken by the schema, the same in XML and PDF; what is lacking is told with the command that says it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from lxml import etree
from pypdf import PdfReader

from tenantry.billing.credits import Part
from tenantry.billing.einvoice_needs import lacking
from tenantry.billing.render import NotRendered, render
from tenantry.domain.billing_details import Details
from tests.unit.billing.papers import CLIENTS, credit_in, draft_in, invoice_in

RAM = "{urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100}"


def told(document: dict[str, Any], *names: str) -> list[str | None]:
    """The text of all elements below each other by these names."""
    path = "/".join(f"{RAM}{name}" for name in names)
    return [one.text for one in etree.fromstring(render(document, "cii")).findall(f".//{path}")]


@pytest.mark.parametrize("locale", CLIENTS)
def test_an_invoice_in_xml_has_the_amounts_of_the_paper(locale: str) -> None:
    document = invoice_in(locale)
    places = f"{document['total_minor'] / 100:.2f}"
    assert told(document, "GrandTotalAmount") == [places]
    assert told(document, "LineTotalAmount")[-1] == f"{document['net_minor'] / 100:.2f}"
    assert told(document, "SellerTradeParty", "PostalTradeAddress", "CountryID") == ["DE"]
    assert told(document, "SellerTradeParty", "SpecifiedTaxRegistration", "ID") == ["DE123456789"]
    assert told(document, "BuyerOrderReferencedDocument", "IssuerAssignedID") == ["PO-4711"]
    assert told(document, "IBANID") == ["DE02120300000000202051"]
    assert told(document, "SpecifiedTradeProduct", "Name") == [line["text"] for line in document["lines"]]


def test_no_part_of_the_xml_is_empty() -> None:
    xml = etree.fromstring(render(invoice_in("de_DE"), "cii"))
    assert not [one.tag for one in xml.iter() if len(one) == 0 and not (one.text or "").strip()]


def test_a_discount_has_a_quantity_below_zero_and_no_price_below_it() -> None:
    document = invoice_in("de_DE")
    quantities = told(document, "BilledQuantity")
    assert [at for at, one in enumerate(quantities) if one == "-1"] == [5]
    assert not any((one or "").startswith("-") for one in told(document, "ChargeAmount"))


def test_a_credit_note_is_of_its_type_with_amounts_above_zero_and_names_its_invoice() -> None:
    document = credit_in("de_DE", Part(lines=(1,)))
    xml = render(document, "cii")
    assert b">381<" in xml
    assert told(document, "GrandTotalAmount") == ["273.70"]
    assert told(document, "InvoiceReferencedDocument", "IssuerAssignedID") == ["INV-2026-0001"]


@pytest.mark.parametrize(("category", "code"), [("AE", "VATEX-EU-AE"), ("G", "VATEX-EU-G"), ("E", None), ("Z", None)])
def test_no_vat_comes_with_its_reason_on_paper_and_in_xml(category: str, code: str | None) -> None:
    own = Details(vat_category=category, tax_id="FR 12 345678901").over(CLIENTS["fr_FR"])
    document = invoice_in("fr_FR", own)
    assert document["taxes"] == []
    assert told(document, "ExemptionReasonCode") == ([code] if code else [])
    assert len(document["paper"]["notes"]) == 2
    assert told(document, "BuyerTradeParty", "SpecifiedTaxRegistration", "ID") == ["FR12345678901"]


def test_a_pdf_carries_the_same_xml_and_says_so_in_its_metadata() -> None:
    document = invoice_in("de_DE")
    made = render(document, "facturx")
    assert made == render(document, "facturx")
    reader = PdfReader(io.BytesIO(made))
    assert reader.attachments == {"factur-x.xml": [render(document, "cii")]}
    metadata: Any = reader.trailer["/Root"]["/Metadata"]
    said = metadata.get_data().decode()
    etree.fromstring(said.encode())
    assert said.count("<pdfaExtension:schemas>") == 1  # twice is no PDF/A
    assert "<fx:ConformanceLevel>EN 16931</fx:ConformanceLevel>" in said
    assert "<pdfaid:part>3</pdfaid:part>" in said


def test_what_is_lacking_is_told_with_the_command_that_says_it() -> None:
    own = Details(country=None, name="Acme").over(Details())
    document = draft_in("en_US", own, name=None, country=None, tax_id=None, taxes=())
    document["client"]["country"] = None
    found = "; ".join(lacking(document))
    for command in (
        "details --name",
        "details --country",
        "details --tax-id",
        "details acme --country",
        "--vat-category",
    ):
        assert command in found
    with pytest.raises(NotRendered, match="an e-invoice needs the agency's name"):
        render(document, "cii")


@pytest.mark.parametrize(
    ("agency", "own", "why"),
    [
        ({"taxes": (("GST", "5"), ("PST", "7"))}, Details(), "one VAT for each line"),
        ({}, Details(currency="KWD", rate="0.3"), "a currency of at most 2 decimal places"),
        ({}, Details(vat_category="AE"), "the client's VAT id, for reverse charge"),
    ],
)
def test_what_the_standard_has_no_place_for_is_refused(agency: dict[str, Any], own: Details, why: str) -> None:
    assert [one for one in lacking(draft_in("fr_FR", own, **agency)) if one.startswith(why)]


def test_a_preview_is_no_e_invoice() -> None:
    with pytest.raises(NotRendered, match="a preview has no number"):
        render(draft_in("de_DE"), "cii")
