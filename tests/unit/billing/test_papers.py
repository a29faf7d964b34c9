"""What is read on invoices: in four locales as they are kept, with nothing from a name that could run, adding up."""

from __future__ import annotations

import base64
import csv
import io
import re
from dataclasses import replace
from html import unescape
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from pypdf import PdfReader

from tenantry.billing.calculation import calculate
from tenantry.billing.invoice import Client, Sides, appendix_of, document_of
from tenantry.billing.months import Sold
from tenantry.billing.render import NotRendered, digits_of, render
from tenantry.billing.usage import Used
from tenantry.domain.billing_details import PLAIN, Details
from tests.unit.billing import golden
from tests.unit.billing.papers import AGENCY, CLIENTS, draft_in, invoice_in, issued_as
from tests.unit.billing.sales import NOVEMBER, USD, sold, usage

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HOSTILE = (
    '#import "x.typ": *',
    "$x^2$ *bold* _it_ `raw` @ref <label> \\u{41} //",
    "<script>alert(1)</script><img src=x onerror=y>",
    "]}#{panic()}[",
    "שלום & Söhne",
    "W" * 200,
    "{{ 7*7 }} {% raw %}",
)


def pdf_of(document: dict[str, Any]) -> tuple[bytes, str]:
    made = render(document, "pdf")
    return made, "\n".join(one.extract_text() for one in PdfReader(io.BytesIO(made)).pages)


def dense(text: str) -> str:
    return re.sub(r"[\s\u200b]", "", text)


@pytest.mark.parametrize("name", golden.NAMES)
def test_a_document_says_what_it_did_when_its_golden_file_was_written(name: str) -> None:
    assert golden.document(name) == golden.kept(name)


@pytest.mark.parametrize("name", golden.NAMES)
def test_the_pdf_of_an_issued_document_reads_the_same_for_ever(name: str) -> None:
    assert golden.pdf_text(golden.kept(name)) == (golden.FOLDER / f"{name}.txt").read_text("utf-8")


def test_the_page_of_an_issued_document_is_the_same_for_ever() -> None:
    assert golden.page(golden.kept("de_DE")) == (golden.FOLDER / "de_DE.html").read_text("utf-8")


def test_what_was_issued_is_read_from_its_paper_and_not_made_again() -> None:
    issued = golden.kept("fr_FR")
    later = {**issued, "locale": "en_US", "lines": []}
    assert golden.page(later) == golden.page(issued)


def test_an_invoice_that_was_issued_before_papers_were_kept_is_read_as_its_locale_writes_it() -> None:
    first = {name: value for name, value in golden.kept("de_DE").items() if name not in ("paper", "vat_category")}
    first["format"] = 1
    for side in (first["agency"], first["client"]):
        del side["country"]
    for row in first["appendix"]["by_key"]:
        del row["label"]
    assert golden.page(first).count("576,23") == 2
    with pytest.raises(NotRendered, match="an e-invoice needs"):
        render(first, "cii")


def test_corrections_and_slots_stand_in_the_appendix_where_there_are_any() -> None:
    document = draft_in("en_US")
    row = {"name": "shop", "rows": 1, "tokens": 2, "list_nanos": 3 * USD}
    group = {"month": "2026-10", "model": "claude-new-1", "price_version": "v2", "rows": 3, "list_nanos": USD}
    document["appendix"] |= {
        "by_slot": [row, {**row, "name": ""}],
        "corrections": {
            "groups": [{**group, "why": "was_unpriced"}, {**group, "why": "repriced", "list_nanos": -5}],
            "references": [{"attempt": "att_1", "ended_on": "2026-10-05", "list_nanos": 5, "price_version": "v2"}],
            "not_named": 2,
        },
    }
    appendix = issued_as(document)["paper"]["appendix"]
    tables = {one["title"]: one["rows"] for one in appendix["tables"]}
    assert tables["By slot"] == [["shop", "1", "2", "$3.00"], ["(no slot)", "1", "2", "$3.00"]]
    assert tables["Corrections of earlier months"] == [
        ["2026-10, claude-new-1: had no price (v2)", "3", "", "$1.000000000"],
        ["2026-10, claude-new-1: another price (v2)", "3", "", "-$0.000000005"],
    ]
    assert "Corrected attempts: att_1 (October 5, 2026, $0.000000005), and 2 more. The usage" in appendix["how"][1]
    assert "Corrections of earlier months" in pdf_of(issued_as(document))[1]


def test_an_invoice_has_one_pdf_to_the_byte() -> None:
    document = invoice_in("es_ES")
    assert render(document, "pdf") == render(document, "pdf")


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_users_is_printed_as_it_is_and_never_read_as_markup(text: str) -> None:
    own = replace(CLIENTS["en_US"], name=text, address=f"{text}\n{text}", purchase_order=text)
    document = invoice_in("en_US", own, payment=text, note=text)
    _, shown = pdf_of(document)
    if text.isascii():  # who extracts text puts what is written from right to left in an order of its own
        assert dense(shown).count(dense(text)) >= 6
    page = render(document, "html").decode()
    assert not re.search(r"<(script|img)", page)
    assert unescape(page).count(text) >= 6


def test_what_no_font_of_the_wheel_has_is_asked_of_the_machine_and_an_invoice_comes_in_any_case() -> None:
    own = replace(CLIENTS["en_US"], name="漢字 😀 مرحبا")
    made, shown = pdf_of(invoice_in("en_US", own))
    assert made.startswith(b"%PDF")
    assert "INV-2026-0001" in shown


@pytest.mark.parametrize("kind", ["png", "svg+xml"])
def test_a_logo_is_drawn_and_one_that_cannot_be_costs_the_logo_alone(kind: str) -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle cx="4" cy="4" r="4"/></svg>'
    good = PIXEL if kind == "png" else svg
    plain = render(invoice_in("en_US"), "pdf")
    for data, is_drawn in ((good, True), (b"\x89PNG garbage", False)):
        url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        made, shown = pdf_of(invoice_in("en_US", logo=url))
        assert "Northlight Agency GmbH" in shown
        assert (b"/Figure" in made or len(made) > len(plain)) == is_drawn
    assert url in render(invoice_in("en_US", logo=url), "html").decode()


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Of random terms and usage, in a random locale and currency, issued."""
    known: Sold = draw(sold())
    some: list[Used] = draw(usage())
    stretches = known.stretches(NOVEMBER)
    days = sorted({one.first for one in stretches} | {NOVEMBER.end})
    cut = [one for first, end in pairwise(days) for one in some if first <= one.first < end]
    bill = calculate(NOVEMBER, stretches, cut)
    currency, rate = draw(st.sampled_from([("USD", "1"), ("EUR", "0.917"), ("JPY", "151.3"), ("SEK", "10.37")]))
    taxes = draw(st.sampled_from([(), (("VAT", "19"),), (("VAT", "8.625"),)]))
    agency = Details(**AGENCY, currency=currency, rate=rate, taxes=taxes, vat_category=None if taxes else "AE")
    locale = draw(st.sampled_from(["en_US", "de_DE", "fr_CH", "es_ES", "hi_IN"]))
    own = Details(locale=locale, country="FR", tax_id="FR12345678901")
    sides = Sides(agency.over(PLAIN), own, Client("tnt_a", "acme", "Acme"))
    return issued_as(document_of(bill, bill.lines, appendix_of(cut, []), sides, "UTC", digits_of))


def minor(text: str) -> int:
    """Of an amount as any of the locales writes it, whose decimal places are known."""
    digits = int(re.sub(r"\D", "", text))
    return -digits if re.search("[-\N{MINUS SIGN}]", text) else digits


@given(documents())
@settings(max_examples=25, deadline=None)
def test_lines_of_every_text_format_add_up_to_the_total_that_stands_there(document: dict[str, Any]) -> None:
    paper = document["paper"]
    shown = [minor(line["amount"]) for line in paper["lines"]]
    taxes = [minor(value) for _, value in paper["sums"][1:-1]]
    total = document["total_minor"]
    assert sum(shown) + sum(taxes) == minor(paper["sums"][-1][1]) == total == abs(total) * (-1 if total < 0 else 1)

    page = render(document, "html").decode().partition('class="appendix"')[0]
    cells = [minor(one) for one in re.findall(r'<td class="n">([^<]+)</td>', unescape(page))]
    count = len(paper["lines"])
    assert (sum(cells[:count]), cells[-1]) == (document["net_minor"], total)

    rows = list(csv.DictReader(io.StringIO(render(document, "csv").decode())))
    amounts = [minor(row["amount"]) for row in rows]
    assert sum(amounts[:-1]) == amounts[-1] == total

    ram = "{urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100}"
    told = etree.fromstring(render(document, "cii"))
    places = document["digits"]

    def amounts_of(name: str) -> list[int]:
        return [round(float(one.text or "") * 10**places) for one in told.iter(f"{ram}{name}")]

    assert sum(amounts_of("LineTotalAmount")[:-1]) == amounts_of("LineTotalAmount")[-1] == document["net_minor"]
    assert amounts_of("GrandTotalAmount") == amounts_of("DuePayableAmount") == [total]


@given(documents())
@settings(max_examples=6, deadline=None)
def test_a_pdf_has_every_amount_of_the_paper_in_its_order(document: dict[str, Any]) -> None:
    _, shown = pdf_of(document)
    paper, left = document["paper"], dense(shown)
    for amount in [*(line["amount"] for line in paper["lines"]), *(value for _, value in paper["sums"])]:
        _, found, left = left.partition(dense(amount))
        assert found
