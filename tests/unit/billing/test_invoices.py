"""Issued from a booked ledger: every row on one invoice, numbers without a gap, nothing issued ever changes."""

from __future__ import annotations

import json
import threading
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from tenantry.billing.books import SumsDiffer
from tenantry.billing.invoice import NotBilled, finished
from tenantry.billing.months import Month, read_month
from tenantry.control import invoicing
from tenantry.control.invoicing import (
    Passed,
    credit,
    find_client,
    issue,
    issue_all,
    preview,
    preview_all,
    reading_books,
    set_billing,
    verify_invoices,
)
from tenantry.control.site import Site
from tenantry.domain.attempts import Outcome
from tenantry.domain.billing_details import BadDetails, Details, check_details
from tenantry.domain.plans import Terms
from tenantry.storage.billing_tables import invoice_months, invoices
from tenantry.storage.directory import Directory, DirectoryError
from tenantry.storage.directory.invoices import AnotherDay, Issued, NewInvoice
from tenantry.storage.directory.plans import Agreed
from tenantry.storage.tables import ledger, usage_rollup
from tests.unit.billing.offices import on_day
from tests.unit.ledger.books import attempt, book, random_attempts

USD = 1_000_000_000
NOVEMBER, DECEMBER, JANUARY = (read_month(one) for one in ("2026-11", "2026-12", "2027-01"))


def issued(site: Site, slug: str, month: Month) -> dict[str, Any]:
    return issue(site, find_client(site, slug), month).document


def looked_at(site: Site, slug: str, month: Month) -> dict[str, Any]:
    with reading_books(site) as books:
        return dict(preview(site, books, find_client(site, slug), month).document)


def covered(site: Site) -> dict[str, tuple[int, int]]:
    """Rows and cost that are on invoices, by tenant."""
    columns = invoice_months.c
    query = select(columns.tenant_id, func.sum(columns.row_count), func.sum(columns.cost_nanos))
    with site.engine.connect() as connection:
        return {
            id_: (int(rows), int(cost)) for id_, rows, cost in connection.execute(query.group_by(columns.tenant_id))
        }


def booked(site: Site, end_us: int | None = None) -> dict[str, tuple[int, int]]:
    columns = ledger.c
    query = select(columns.tenant_id, func.count(), func.sum(columns.cost_nanos)).group_by(columns.tenant_id)
    if end_us is not None:
        query = query.where(columns.ended_at_us < end_us)
    with site.engine.connect() as connection:
        return {id_: (int(rows), int(cost)) for id_, rows, cost in connection.execute(query)}


@pytest.mark.parametrize("seed", range(3))
def test_over_two_months_every_row_of_a_random_ledger_is_on_one_invoice(site: Site, tmp_path: Path, seed: int) -> None:
    book(site.engine, tmp_path, random_attempts(seed, 400, 55))
    on_day(site, date(2027, 1, 1))
    for month in (NOVEMBER, DECEMBER):
        for slug in ("a", "b"):
            document = issued(site, slug, month)
            lines = document["lines"]
            assert sum(line["amount_minor"] for line in lines) == document["total_minor"]
            for table in ("by_model", "by_key", "by_week", "by_outcome", "price_versions"):
                rows = document["appendix"][table]
                for name in ("rows", "list_nanos"):
                    assert sum(row[name] for row in rows) == sum(line[name] for line in lines)
    assert covered(site) == booked(site)
    assert verify_invoices(site) == (4, [])


def test_what_is_booked_after_its_invoice_is_on_the_next_and_only_there(site: Site, tmp_path: Path) -> None:
    book(site.engine, tmp_path, [attempt(1, cost_nanos=10 * USD)])
    on_day(site, date(2027, 2, 1))
    assert issued(site, "a", NOVEMBER)["total_minor"] == 1200
    book(site.engine, tmp_path, [attempt(2, cost_nanos=5 * USD)], "late")
    (fee, late) = (looked_at(site, "a", DECEMBER)["lines"] + [None, None])[:2]
    assert late is None
    assert (fee["kind"], fee["amount_minor"], fee["rows"], fee["list_nanos"]) == ("late", 600, 1, 5 * USD)
    assert issued(site, "a", DECEMBER)["total_minor"] == 600
    assert issued(site, "a", JANUARY)["lines"] == []
    assert covered(site)["tnt_a"] == (2, 15 * USD)


def test_a_credit_note_takes_an_invoice_back_and_its_month_can_be_billed_anew(site: Site, tmp_path: Path) -> None:
    book(site.engine, tmp_path, [attempt(1, cost_nanos=10 * USD)])
    on_day(site, date(2027, 1, 1))
    number = issued(site, "a", NOVEMBER)["number"]
    book(site.engine, tmp_path, [attempt(2, cost_nanos=5 * USD)], "late")
    issued(site, "a", DECEMBER)
    note = credit(site, number, "wrong address")
    assert (note.number, note.total_minor, note.credits) == ("CN-2027-0001", -1200, number)
    with pytest.raises(DirectoryError, match="no invoice that stands"):
        credit(site, number, "again")
    with pytest.raises(DirectoryError, match="no invoice that stands"):
        credit(site, note.number, "a credit of a credit")
    again = issued(site, "a", NOVEMBER)
    # What stands on the later invoice already is not billed twice.
    assert (again["number"], again["total_minor"]) == ("INV-2027-0003", 1200)
    assert covered(site) == booked(site)
    assert verify_invoices(site) == (4, [])


def test_what_was_taken_back_is_on_no_later_invoice_until_its_month_is_billed_anew(site: Site, tmp_path: Path) -> None:
    book(site.engine, tmp_path, [attempt(1, tenant="tnt_a", cost_nanos=USD)])
    on_day(site, date(2026, 12, 1))
    credit(site, issued(site, "a", NOVEMBER)["number"], "wrong address")
    on_day(site, date(2027, 1, 1))
    assert issued(site, "a", DECEMBER)["lines"] == []
    assert issued(site, "a", NOVEMBER)["net_nanos"] == 12 * USD // 10


def test_a_month_is_issued_when_it_is_over_and_once(site: Site) -> None:
    on_day(site, date(2026, 11, 30))
    with pytest.raises(DirectoryError, match="2026-11 is not over"):
        issued(site, "b", NOVEMBER)
    assert looked_at(site, "b", NOVEMBER)["total_minor"] == 7900
    on_day(site, date(2026, 12, 1))
    assert issued(site, "b", NOVEMBER)["number"] == "INV-2026-0001"
    with pytest.raises(NotBilled, match="2026-11 of b is billed: INV-2026-0001"):
        issued(site, "b", NOVEMBER)
    with pytest.raises(NotBilled, match="c had no plan"):
        issued(site, "c", NOVEMBER)


def test_terms_and_plans_of_a_billed_month_cannot_be_changed(site: Site) -> None:
    on_day(site, date(2026, 12, 5))
    issued(site, "b", NOVEMBER)
    with pytest.raises(DirectoryError, match="2026-11 is billed already: the day must be 2026-12-01"):
        site.directory.set_plan("flat", Terms(fee_nanos=1), date(2026, 11, 20))
    with pytest.raises(DirectoryError, match="billed already"):
        site.directory.assign_plan("b", Agreed("metered", date(2026, 11, 30)))
    site.directory.set_plan("flat", Terms(fee_nanos=99 * USD), date(2026, 12, 1))
    assert site.directory.list_invoices()[0].total_minor == 7900
    credit(site, "INV-2026-0001", "another price was agreed on")
    site.directory.set_plan("flat", Terms(fee_nanos=1), date(2026, 11, 20))


def test_all_goes_on_where_it_was_interrupted_without_gap_or_double_number(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invoicing, "INVOICES_PER_TRANSACTION_MAX", 7)
    on_day(site, date(2026, 12, 1))
    for number in range(20):
        slug = f"t{number:02d}"
        site.directory.create_tenant(slug, slug, "standard")
        site.directory.assign_plan(slug, Agreed("flat", date(2026, 11, 1)))
    some = issue_all(site, NOVEMBER)
    begun = [next(some) for _ in range(7)]
    some.close()  # what Ctrl-C does between two transactions
    rest = list(issue_all(site, NOVEMBER))
    assert [one.slug for one in rest if one.issued is None] == [one.slug for one in begun]
    numbers = [one.number for one in site.directory.list_invoices()]
    assert numbers == [f"INV-2026-{number:04d}" for number in range(1, 23)]
    assert verify_invoices(site) == (22, [])


def test_of_a_transaction_of_many_that_fails_none_is_issued_and_no_number_is_taken(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_day(site, date(2026, 12, 1))
    issue_invoice, calls = Directory.issue_invoice, list[str]()

    def fail_the_second(self: Directory, new: NewInvoice) -> Issued:
        calls.append(new.slug)
        if len(calls) == 2:
            raise OSError("the disk is full")
        return issue_invoice(self, new)

    with monkeypatch.context() as changed:
        changed.setattr(Directory, "issue_invoice", fail_the_second)
        with pytest.raises(OSError, match="disk"):
            list(issue_all(site, NOVEMBER))
    assert calls == ["a", "b"]
    assert site.directory.list_invoices() == []
    assert [one.issued.number for one in issue_all(site, NOVEMBER) if one.issued] == ["INV-2026-0001", "INV-2026-0002"]
    assert site.directory.verify_audit()[1] == verify_invoices(site)[1] == []


def test_a_preview_of_all_is_what_is_issued_then_but_for_number_and_day(site: Site, tmp_path: Path) -> None:
    book(site.engine, tmp_path, random_attempts(5, 60, 25))
    on_day(site, date(2026, 12, 1))
    shown = {one.slug: one.draft.document for one in preview_all(site, NOVEMBER) if one.draft is not None}
    passed = list(issue_all(site, NOVEMBER))
    assert {one.slug for one in passed if one.issued} == {"a", "b"} == set(shown)
    for one in passed:
        assert one.issued is not None
        new = {"number": one.issued.number, "issued_on": "2026-12-01", "paper": one.issued.document["paper"]}
        assert one.issued.document == {**shown[one.slug], **new}


def test_an_issue_that_fails_takes_no_number(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    on_day(site, date(2026, 12, 1))

    def refuse(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as changed:
        changed.setattr(site.directory, "_record", refuse)
        with pytest.raises(OSError, match="disk"):
            issued(site, "b", NOVEMBER)
    assert issued(site, "b", NOVEMBER)["number"] == "INV-2026-0001"


def test_of_many_who_issue_at_once_one_does(site: Site) -> None:
    on_day(site, date(2026, 12, 1))
    passed: list[Passed] = []

    def run() -> None:
        passed.extend(issue_all(site, NOVEMBER))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(one.issued.number for one in passed if one.issued) == ["INV-2026-0001", "INV-2026-0002"]
    assert verify_invoices(site) == (2, [])


def test_currency_taxes_and_addresses_are_frozen_with_the_invoice(site: Site) -> None:
    on_day(site, date(2026, 12, 1))
    set_billing(site, None, Details(name="Agency", currency="EUR", rate="0.923", taxes=(("VAT", "19"),), series="R"))
    set_billing(site, "b", Details(address="Main Street 1\nTown", purchase_order="4711", locale="de_DE"))
    document = issued(site, "b", NOVEMBER)
    # 79 dollars are 72.917 euros; the tax of 72.92 is 13.8548.
    assert [document[name] for name in ("net_minor", "total_minor", "currency", "rate")] == [7292, 8677, "EUR", "0.923"]
    assert (document["number"], document["client"]["name"], document["purchase_order"]) == ("R0001", "b & Sons", "4711")
    set_billing(site, None, Details(currency="USD"))
    assert site.directory.get_invoice("R0001").document == document


@pytest.mark.parametrize(
    "details",
    [
        Details(currency="EURO"),
        Details(currency="XQQ"),
        Details(rate="0"),
        Details(rate="1e3"),
        Details(rate="a rate"),
        Details(rate="\uff11"),
        Details(locale="xx_YY"),
        Details(locale="../etc"),
        Details(taxes=(("VAT", "101"),)),
        Details(taxes=(("", "1"),)),
        Details(due_days=-1),
        Details(series="{month}-"),
        Details(name="a\x1b[2J"),
    ],
)
def test_details_that_cannot_be_are_refused(site: Site, details: Details) -> None:
    with pytest.raises(DirectoryError):
        set_billing(site, None, details)


def test_a_rate_is_of_its_currency_and_of_no_other(site: Site) -> None:
    on_day(site, date(2026, 12, 1))
    set_billing(site, None, Details(currency="EUR", rate="0.92"))
    set_billing(site, "a", Details(currency="EUR"))
    with pytest.raises(DirectoryError, match="JPY has no rate"):
        set_billing(site, "b", Details(currency="JPY"))
    set_billing(site, "b", Details(currency="USD"))
    assert [looked_at(site, slug, NOVEMBER)["rate"] for slug in ("a", "b")] == ["0.92", None]
    assert looked_at(site, "b", NOVEMBER)["net_minor"] == 7900
    with pytest.raises(DirectoryError, match=r"the rate 0\.92 is of no currency"):
        set_billing(site, "b", Details(currency="USD", rate="0.92"))


def test_an_address_is_lines_or_parts_as_it_was_said_last() -> None:
    lines, parts = Details(address="Main Street 1\nTown"), Details(street="Main Street 1", city="Town")
    assert parts.over(lines) == parts
    assert Details(postcode="12345").over(parts).as_json() == {**parts.as_json(), "postcode": "12345"}
    assert lines.over(parts) == lines
    with pytest.raises(BadDetails, match="not as both"):
        check_details(Details(address="Main Street 1", city="Town"))


def test_what_was_stored_without_a_rate_is_not_billed_at_another_currencys(site: Site) -> None:
    """As a file of tenants may declare it before the agency's currency changes."""
    on_day(site, date(2026, 12, 1))
    site.directory.set_billing("b", Details(currency="JPY"))
    passed = {one.slug: one for one in issue_all(site, NOVEMBER)}
    assert passed["a"].issued is not None
    assert passed["b"].failed
    assert passed["b"].why.startswith("JPY has no rate")


def test_a_document_that_was_changed_taken_away_or_renumbered_is_found(site: Site) -> None:
    on_day(site, date(2027, 1, 1))
    for month in (NOVEMBER, DECEMBER):
        issued(site, "b", month)
        issued(site, "a", month)
    first = site.directory.list_invoices()[0]
    changed = json.dumps(first.document | {"total_minor": 1}, sort_keys=True)
    with site.engine.begin() as connection:
        connection.execute(update(invoices).where(invoices.c.number == first.number).values(document=changed))
    assert verify_invoices(site)[1] == [
        f"{first.number} is not as it was issued, or one before it is missing",
        f"{first.number}: its lines do not add up",
    ]
    with site.engine.begin() as connection:
        connection.execute(invoices.delete().where(invoices.c.number == first.number))
    assert any("one before it is missing" in text for text in verify_invoices(site)[1])


def test_the_newest_document_that_is_missing_is_found(site: Site) -> None:
    on_day(site, date(2026, 12, 1))
    issued(site, "a", NOVEMBER)
    number = issued(site, "b", NOVEMBER)["number"]
    with site.engine.begin() as connection:
        connection.execute(invoices.delete().where(invoices.c.number == number))
    assert verify_invoices(site)[1] == ["INV-2026-: 2 numbers were given, and 1 documents are there"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (update(invoices).values(month="2026-10"), "the store tells it otherwise than the document"),
        (update(invoices).values(kind="credit_note"), "the store tells it otherwise than the document"),
        (update(invoice_months).values(net_nanos=0), "what it covers is not what its lines say"),
        (invoice_months.delete(), "what it covers is not what its lines say"),
    ],
)
def test_what_the_store_says_beside_a_document_is_held_to_it(site: Site, change: Any, told: str) -> None:
    """The next bill is made by it: what is covered by no invoice would be billed again."""
    on_day(site, date(2026, 12, 1))
    number = issued(site, "b", NOVEMBER)["number"]
    with site.engine.begin() as connection:
        connection.execute(change)
    assert verify_invoices(site)[1] == [f"{number}: {told}"]


def test_nothing_is_billed_where_the_ledgers_sums_contradict_its_rows(site: Site, tmp_path: Path) -> None:
    book(site.engine, tmp_path, [attempt(1, cost_nanos=USD)])
    on_day(site, date(2026, 12, 1))
    with site.engine.begin() as connection:
        connection.execute(update(usage_rollup).values(cost_nanos=usage_rollup.c.cost_nanos + 1))
    with pytest.raises(SumsDiffer, match="ledger verify"):
        issued(site, "a", NOVEMBER)
    assert [(one.slug, one.failed) for one in issue_all(site, NOVEMBER)] == [("a", True), ("b", False)]


def test_a_tenant_that_was_deleted_gets_its_last_invoice(site: Site, tmp_path: Path) -> None:
    book(site.engine, tmp_path, [attempt(1, cost_nanos=10 * USD, outcome=Outcome.SETTLED)])
    on_day(site, date(2026, 11, 15))
    site.directory.offboard_tenant("a", True)
    on_day(site, date(2026, 12, 1))
    document = issued(site, "a", NOVEMBER)
    assert (document["total_minor"], document["client"]["name"]) == (1200, "a")


def test_a_document_that_midnight_overtakes_is_not_issued_with_a_wrong_day(site: Site) -> None:
    on_day(site, date(2026, 12, 2))
    with reading_books(site) as books:
        new = preview(site, books, find_client(site, "b"), NOVEMBER)
    with pytest.raises(AnotherDay, match="Midnight passed"):
        site.directory.issue_invoice(finished(new, date(2026, 12, 1)))
    document = issued(site, "b", NOVEMBER)
    assert (document["number"], document["issued_on"]) == ("INV-2026-0001", "2026-12-02")
    assert document["paper"]["facts"][0] == ["Issued", "December 2, 2026"]


def test_keys_in_the_appendix_have_their_labels(site: Site, tmp_path: Path) -> None:
    key_id = site.directory.issue_key("a", "Website").key_id
    book(site.engine, tmp_path, [attempt(1, cost_nanos=USD, key=key_id), attempt(2, cost_nanos=USD)])
    on_day(site, date(2026, 12, 2))
    tables = {one["title"]: one["rows"] for one in issued(site, "a", NOVEMBER)["paper"]["appendix"]["tables"]}
    assert sorted(row[0] for row in tables["By key"]) == sorted([f"Website ({key_id})", "key_1"])
