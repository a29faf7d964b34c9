"""Credit notes over parts: goodwill beside the ledger, never more than what is left, the rest of the taxes last."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, update

from tenantry.billing.credits import NotCredited, Part, credit_note, credit_part, left_of
from tenantry.billing.margin import tenant_margin
from tenantry.control.invoicing import credit, find_client, reading_books, set_billing, verify_invoices
from tenantry.control.site import Site
from tenantry.domain.billing_details import Details
from tenantry.domain.plans import Terms
from tenantry.storage.billing_tables import invoice_months
from tenantry.storage.directory import DirectoryError
from tenantry.storage.directory.invoices import Issued
from tenantry.storage.directory.plans import Agreed
from tests.unit.billing.offices import on_day
from tests.unit.billing.papers import ISSUED_ON, invoice_in, row_of
from tests.unit.billing.test_invoices import (
    DECEMBER,
    NOVEMBER,
    USD,
    booked,
    covered,
    issued,
    looked_at,
)
from tests.unit.ledger.books import attempt, book


def sums(notes: list[Issued]) -> int:
    return sum(one.total_minor for one in notes)


@pytest.fixture
def billed(site: Site, tmp_path: Path) -> str:
    """An invoice of 12.00 and 19 % of tax."""
    set_billing(site, None, Details(taxes=(("VAT", "19"),)))
    book(site.engine, tmp_path, [attempt(1, cost_nanos=10 * USD)])
    on_day(site, date(2027, 1, 1))
    return issued(site, "a", NOVEMBER)["number"]


def test_a_part_is_given_back_before_taxes_and_the_invoice_stands(site: Site, billed: str) -> None:
    note = credit(site, billed, "slow answers", Part(Decimal("2.50")))
    assert (note.number, note.kind, note.total_minor, note.credits) == ("CN-2027-0001", "partial_credit", -298, billed)
    assert [tax["amount_minor"] for tax in note.document["taxes"]] == [-48]
    assert note.document["lines"][0]["nanos"] == -2_500_000_000
    with pytest.raises(DirectoryError, match=r"9\.51 USD is more than what is left of INV-2027-0001: 9\.50 USD"):
        credit(site, billed, "too much", Part(Decimal("9.51")))
    rest = credit(site, billed, "all of it", Part(Decimal("9.50")))
    assert sums(site.directory.list_invoices()) == 0
    assert rest.total_minor == -1130
    with pytest.raises(DirectoryError, match=r"left of INV-2027-0001: 0\.00 USD"):
        credit(site, billed, "more", Part(Decimal("0.01")))
    assert covered(site) == booked(site)
    assert verify_invoices(site) == (3, [])


def test_a_part_is_in_dollars_what_it_is_at_the_invoices_rate(site: Site) -> None:
    set_billing(site, None, Details(currency="EUR", rate="0.5"))
    on_day(site, date(2027, 1, 1))
    number = issued(site, "b", NOVEMBER)["number"]
    set_billing(site, None, Details(currency="EUR", rate="0.8"))
    note = credit(site, number, "slow answers", Part(Decimal(10)))
    assert (note.total_minor, note.document["net_nanos"]) == (-1000, -20 * USD)


def test_taxes_of_many_small_parts_are_never_more_than_those_of_the_invoice(site: Site) -> None:
    set_billing(site, None, Details(taxes=(("VAT", "50"),)))
    site.directory.set_plan("small", Terms(fee_nanos=4 * USD // 100))
    site.directory.assign_plan("c", Agreed("small", date(2026, 11, 1)))
    on_day(site, date(2027, 1, 1))
    number = issued(site, "c", NOVEMBER)["number"]
    notes = [credit(site, number, "a cent", Part(Decimal("0.01"))) for _ in range(4)]
    assert [one.document["taxes"][0]["amount_minor"] for one in notes] == [-1, -1, 0, 0]


def test_what_was_given_back_is_not_billed_again_with_what_comes_late(
    site: Site,
    billed: str,
    tmp_path: Path,
) -> None:
    credit(site, billed, "slow answers", Part(Decimal("2.50")))
    assert looked_at(site, "a", DECEMBER)["lines"] == []
    book(site.engine, tmp_path, [attempt(2, cost_nanos=5 * USD)], "late")
    assert [line["amount_minor"] for line in looked_at(site, "a", DECEMBER)["lines"]] == [600]


def test_the_whole_of_an_invoice_takes_back_what_is_left_and_its_month_is_billed_anew(
    site: Site,
    billed: str,
) -> None:
    credit(site, billed, "slow answers", Part(lines=(1,), amount=Decimal("2.50")))
    note = credit(site, billed, "wrong address")
    assert note.total_minor == -1428 + 298
    assert [line["amount_minor"] for line in note.document["lines"]] == [-1200, 250]
    assert sums(site.directory.list_invoices()) == 0
    with pytest.raises(DirectoryError, match="no invoice that stands"):
        credit(site, billed, "again", Part(Decimal("1")))
    again = issued(site, "a", NOVEMBER)
    assert again["total_minor"] == 1428
    assert covered(site) == booked(site)
    assert verify_invoices(site) == (4, [])


def test_an_invoice_its_parts_and_the_note_over_the_whole_are_nothing_in_dollars_too(site: Site, billed: str) -> None:
    credit(site, billed, "slow answers", Part(Decimal("2.50")))
    credit(site, billed, "wrong address")
    invoice, part, whole = (one.document["net_nanos"] for one in site.directory.list_invoices())
    assert (invoice, part, whole) == (12 * USD, -2_500_000_000, -9_500_000_000)


def test_margin_has_less_revenue_by_what_was_given_back(site: Site, billed: str) -> None:
    def margin() -> Any:
        with reading_books(site) as books:
            return tenant_margin(books, find_client(site, "a"), NOVEMBER, {}, datetime(2027, 1, 1, tzinfo=UTC)).now

    before = margin()
    credit(site, billed, "slow answers", Part(Decimal("2.50")))
    assert (margin().credits_nanos, margin().margin_nanos) == (2_500_000_000, before.margin_nanos - 2_500_000_000)
    credit(site, billed, "all of it")
    assert margin() == before


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (Part(), "a part is an amount"),
        (Part(Decimal("0")), "an amount of EUR is above zero"),
        (Part(Decimal("0.001")), "2 decimal places at most, not 0.001"),
        (Part(lines=(0,)), "there is no line 0: the invoice has 10"),
        (Part(lines=(11,)), "there is no line 11"),
        (Part(lines=(6,)), "nothing is left of line 6"),  # the discount
        (Part(Decimal("1"), (1, 2)), "an amount is of one line"),
        (Part(Decimal("230.01"), (1,)), "230.01 EUR is more than what is left of line 1: 230.00 EUR"),
    ],
)
def test_a_part_that_cannot_be_is_refused_with_the_reason(part: Part, why: str) -> None:
    with pytest.raises(NotCredited, match=why):
        credit_part(row_of(invoice_in("de_DE")), [], part, "CN-", 1, "x")


@given(st.lists(st.tuples(st.integers(1, 20_000), st.sampled_from([None, 1, 2, 3, 4, 8])), max_size=12), st.booleans())
@settings(deadline=None, max_examples=60)
def test_parts_and_the_whole_never_add_up_to_more_than_the_invoice(
    wanted: list[tuple[int, int | None]], is_whole: bool
) -> None:
    invoice = row_of(invoice_in("de_DE"))
    parts: list[Issued] = []

    def kept(new: Any) -> Issued:
        return row_of({**new.document, "number": f"CN-{len(parts)}", "issued_on": ISSUED_ON.isoformat()})

    for cents, line in wanted:
        part = Part(Decimal(cents).scaleb(-2), () if line is None else (line,))
        try:
            parts.append(kept(credit_part(invoice, parts, part, "CN-", 1, "x")))
        except NotCredited:
            continue
    left = left_of(invoice, parts)
    assert left.net_minor >= 0
    assert min(left.lines_minor[:5]) >= 0
    assert sum(left.taxes_minor) >= 0
    assert invoice.total_minor + sums(parts) == left.net_minor + sum(left.taxes_minor) >= 0
    if is_whole:
        note = kept(credit_note(invoice, [], parts, "CN-", 1, "x"))
        assert invoice.total_minor + sums(parts) + note.total_minor == 0
        assert sum(line["amount_minor"] for line in note.document["lines"]) == note.document["net_minor"]


@pytest.mark.parametrize("fault", ["row_count", "cost_nanos", "net_nanos", "month", "gone", "more"])
def test_a_whole_credit_note_that_gives_back_other_rows_than_those_of_its_invoice_is_found(
    site: Site, billed: str, tmp_path: Path, fault: str
) -> None:
    """By what it covers the next bill is made: of two months here, one of them late."""
    book(site.engine, tmp_path, [attempt(2, cost_nanos=5 * USD)], "late")
    number = issued(site, "a", DECEMBER)["number"]
    note = credit(site, number, "wrong address").number
    assert verify_invoices(site)[1] == []
    columns = invoice_months.c
    here = (columns.number == note, columns.month == "2026-11")
    more = {"tenant_id": "tnt_a", "row_count": -1, "cost_nanos": 0, "net_nanos": 0}
    with site.engine.begin() as connection:
        if fault == "gone":
            connection.execute(delete(invoice_months).where(*here))
        elif fault == "more":
            connection.execute(insert(invoice_months).values(number=note, month="2026-10", **more))
        elif fault == "month":
            connection.execute(update(invoice_months).where(*here).values(month="2026-10"))
        else:
            connection.execute(update(invoice_months).where(*here).values({fault: columns[fault] - 1}))
    assert verify_invoices(site)[1] == [f"{note}: the rows that it gives back are not those of {number}"]


def test_a_note_over_a_part_that_gives_rows_back_is_found(site: Site, billed: str) -> None:
    note = credit(site, billed, "slow answers", Part(Decimal("2.50"))).number
    row = {"month": "2026-11", "tenant_id": "tnt_a", "row_count": -1, "cost_nanos": 0, "net_nanos": 0}
    with site.engine.begin() as connection:
        connection.execute(insert(invoice_months).values(number=note, **row))
    assert verify_invoices(site)[1] == [f"{note}: the rows that it gives back are not those of {billed}"]
