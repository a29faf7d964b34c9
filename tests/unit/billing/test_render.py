"""Invoices as pages and files: numbers and dates of the client's locale, and nothing from a name that could run."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import date

import pytest

from tenantry.billing.calculation import calculate
from tenantry.billing.invoice import Client, Sides, appendix_of, document_of
from tenantry.billing.months import Sold
from tenantry.billing.render import digits_of, render
from tenantry.domain.billing_details import PLAIN, Details
from tenantry.domain.plans import Terms
from tests.unit.billing.sales import NOVEMBER, USD, on, used, version

LONG_AGO = date(2026, 1, 1)


def document(own: Details, name: str = "Acme", **terms: int) -> dict[str, object]:
    known = Sold([on("studio", LONG_AGO)], [version("studio", Terms(fee_nanos=1234 * USD, **terms))])
    some = [used(date(2026, 11, 3), nanos=567_890_123_456, tokens=1_234_567)]
    bill = calculate(NOVEMBER, known.stretches(NOVEMBER), some)
    agency = Details(name="Agency", taxes=(("VAT", "19"),)).over(PLAIN)
    sides = Sides(agency, own, Client("tnt_a", "acme", name))
    made = document_of(bill, bill.lines, appendix_of(some, []), sides, "Europe/Berlin", digits_of)
    return made | {"number": "INV-2026-0001", "issued_on": "2026-12-01"}


@pytest.mark.parametrize(
    ("locale", "currency", "rate", "total", "due"),
    [
        ("en_US", "USD", "1", "$2,144.25", "December 15, 2026"),
        ("de_DE", "EUR", "0.92", "1.972,71\N{NO-BREAK SPACE}€", "15. Dezember 2026"),
        ("fr_FR", "EUR", "0.92", "1\N{NARROW NO-BREAK SPACE}972,71\N{NO-BREAK SPACE}€", "15 décembre 2026"),
        ("ja_JP", "JPY", "150", "￥321,638", "2026年12月15日"),
    ],
)
def test_amounts_and_days_are_written_as_the_client_writes_them(
    locale: str, currency: str, rate: str, total: str, due: str
) -> None:
    page = render(document(Details(locale=locale, currency=currency, rate=rate)), "html").decode()
    assert f">{total}</td>" in page
    assert due in page


def test_a_page_needs_nothing_else_and_runs_nothing_that_a_name_says() -> None:
    page = render(document(Details(address="<b>x</b>"), name='<script>alert("x")</script>'), "html").decode()
    assert "<script" not in page
    assert "<b>x" not in page
    assert not re.search(r"(src|href)=|url\(|@import", page)


def test_a_preview_says_so_and_has_no_number() -> None:
    made = {key: value for key, value in document(Details()).items() if key not in ("number", "issued_on")}
    page = render(made, "html").decode()
    assert "A preview: nothing is issued" in page
    assert b"PREVIEW" in render(made, "csv")


def test_the_lines_of_a_file_for_spreadsheets_add_up_to_its_total() -> None:
    rows = list(csv.DictReader(io.StringIO(render(document(Details()), "csv").decode())))
    amounts = [row["amount"] for row in rows]
    cents = [int(amount.replace(".", "")) for amount in amounts]
    assert sum(cents[:-1]) == cents[-1] == 214_425
    assert rows[1]["list_usd"] == "567.890123456"


def test_json_is_the_document() -> None:
    made = document(Details())
    assert json.loads(render(made, "json")) == made
