"""The month's round: once for each tenant, whenever control starts, and nobody waits for one that fails."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import select, update

from tenantry.billing.months import read_month
from tenantry.billing.render import FORMATS
from tenantry.control import rounds
from tenantry.control.completeness import MonthIncomplete
from tenantry.control.invoicing import credit, issue_all, set_billing
from tenantry.control.rounds import InvoiceRounds, due_at
from tenantry.control.site import Site
from tenantry.domain.billing_details import Details
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.outbox import Outbox
from tenantry.setting_values import INVOICE_FORMATS
from tenantry.settings import SettingsError, load_settings
from tenantry.storage.directory.alert_targets import WEBHOOK
from tenantry.storage.tables import alert_deliveries, usage_rollup
from tests.unit.billing.offices import USD, OnADay, make_site, on_day
from tests.unit.ledger.books import attempt, book

NOVEMBER = read_month("2026-11")
DECEMBER_1 = datetime(2026, 12, 1, 6, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _first_day() -> Iterator[None]:
    OnADay.day = date(2026, 11, 1)
    yield
    OnADay.day = date(2026, 11, 1)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path, TENANTRY_INVOICE_SCHEDULE="issue", TENANTRY_INVOICE_FORMATS="html,json")
    yield made
    made.engine.dispose()


def at(site: Site, now: datetime) -> int:
    """What a control process that has just started does at that time."""
    on_day(site, now.date())
    return InvoiceRounds(site).step(now)


def told(site: Site) -> list[str]:
    return [one.message for one in reversed(Outbox(site.engine).list_alerts())]


def files(site: Site) -> set[str]:
    folder = site.settings.invoice_folder
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def numbers(site: Site) -> list[str]:
    return [one.number for one in site.directory.list_invoices()]


def test_invoices_are_issued_on_the_day_and_hour_once_however_often_control_starts(site: Site, tmp_path: Path) -> None:
    book(site.engine, tmp_path, [attempt(1, cost_nanos=10 * USD)])
    site.directory.set_alert_target("hook", WEBHOOK, "http://127.0.0.1:9/")
    assert at(site, DECEMBER_1.replace(hour=5, minute=59)) == 0
    assert [at(site, DECEMBER_1), at(site, DECEMBER_1), at(site, DECEMBER_1.replace(day=20))] == [2, 0, 0]
    assert numbers(site) == ["INV-2026-0001", "INV-2026-0002"]
    assert files(site) == {f"INV-2026-000{number}.{form}" for number in (1, 2) for form in ("html", "json")}
    folder = site.settings.invoice_folder
    assert {path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())} == {0o700, 0o600}
    assert told(site) == [f"2 invoices for 2026-11 are issued, $91.00 in all, and their files are in {folder}"]
    with site.engine.connect() as connection:
        assert len(connection.execute(select(alert_deliveries)).all()) == 1
    assert at(site, datetime(2027, 1, 1, 6, tzinfo=UTC)) == 2


def test_previews_are_written_and_nothing_is_issued(tmp_path: Path) -> None:
    site = make_site(tmp_path, TENANTRY_INVOICE_SCHEDULE="preview", TENANTRY_INVOICE_FOLDER=str(tmp_path / "looked"))
    assert [at(site, DECEMBER_1), at(site, DECEMBER_1)] == [2, 0]
    assert files(site) == {"preview-2026-11-a.html", "preview-2026-11-b.html"}
    assert numbers(site) == []
    assert len(told(site)) == 1
    assert "`tenantry invoice --all --month 2026-11 --issue` does it" in told(site)[0]
    site.engine.dispose()


def test_a_tenant_that_fails_is_told_once_and_holds_up_nobody(site: Site, tmp_path: Path) -> None:
    book(site.engine, tmp_path, [attempt(1, cost_nanos=USD)])
    with site.engine.begin() as connection:
        connection.execute(update(usage_rollup).values(cost_nanos=usage_rollup.c.cost_nanos + 1))
    assert [at(site, DECEMBER_1), at(site, DECEMBER_1)] == [1, 0]
    assert [one.slug for one in site.directory.list_invoices()] == ["b"]
    failed, issued = told(site)
    assert failed.startswith("the invoice of a for 2026-11 cannot be made: The rows do not add up")
    assert "1 invoices for 2026-11 are issued" in issued
    assert "1 could not be issued" in issued
    with site.engine.begin() as connection:
        connection.execute(update(usage_rollup).values(cost_nanos=usage_rollup.c.cost_nanos - 1))
    assert at(site, DECEMBER_1) == 1
    assert len(told(site)) == 3
    assert "2 invoices for 2026-11 are issued" in told(site)[-1]


def test_whatever_goes_wrong_with_one_tenant_the_others_get_theirs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    billing_of = OnADay.billing_of

    def broken(self: OnADay, tenant_id: str) -> object:
        if tenant_id == "tnt_a":
            raise KeyError("address")
        return billing_of(self, tenant_id)

    monkeypatch.setattr(OnADay, "billing_of", broken)
    assert at(site, DECEMBER_1) == 1
    assert "cannot be made: KeyError: 'address'" in told(site)[0]


def test_a_month_waits_until_its_journals_are_booked_and_says_so_after_an_hour(site: Site, tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "journal", "gateway")
    begun, end = attempt(1, cost_nanos=USD)
    writer.begin(begun)
    writer.end(end)
    writer.flush()
    assert at(site, DECEMBER_1) == 0
    assert told(site) == []
    with pytest.raises(
        MonthIncomplete, match=r"ledger of 2026-11 is not complete: 1 attempts wait .* 2026-11-02 00:00"
    ):
        list(issue_all(site, NOVEMBER))
    assert at(site, DECEMBER_1.replace(hour=7)) == 0
    assert told(site)[0].startswith("invoices for 2026-11 wait: the ledger of 2026-11 is not complete")
    writer.close()
    book(site.engine, tmp_path, [])
    assert at(site, DECEMBER_1.replace(hour=8)) == 2
    assert site.directory.list_invoices("a")[0].total_minor == 120


def test_what_ended_after_the_month_holds_up_nothing(site: Site, tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "journal", "gateway")
    begun, end = attempt(1, at_us=int(DECEMBER_1.timestamp()) * 1_000_000)
    writer.begin(begun)
    writer.end(end)
    writer.flush()
    assert at(site, DECEMBER_1) == 2
    writer.close()


def test_killed_before_the_files_they_are_written_by_the_next(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as changed:
        changed.setattr(rounds, "keep_files", killed)
        with pytest.raises(KeyboardInterrupt):
            at(site, DECEMBER_1)
    assert (len(numbers(site)), files(site)) == (2, set())
    assert at(site, DECEMBER_1) == 2
    assert len(files(site)) == 4
    assert [text.partition(",")[0] for text in told(site)] == ["2 invoices for 2026-11 are issued"]


def test_an_invoice_that_was_credited_is_not_issued_again_by_the_clock(site: Site) -> None:
    assert at(site, DECEMBER_1) == 2
    credit(site, "INV-2026-0001", "another price was agreed on")
    assert at(site, DECEMBER_1.replace(day=2)) == 0
    assert len(site.directory.list_invoices("a")) == 2


def test_what_was_issued_by_hand_before_gets_its_files_and_no_second_number(site: Site) -> None:
    on_day(site, date(2026, 12, 1))
    list(issue_all(site, NOVEMBER))
    assert at(site, DECEMBER_1) == 2
    assert numbers(site) == ["INV-2026-0001", "INV-2026-0002"]
    assert len(files(site)) == 4


def test_a_folder_that_cannot_be_written_is_told_and_tried_again(site: Site) -> None:
    folder = site.settings.invoice_folder
    folder.write_text("in the way")
    assert at(site, DECEMBER_1.replace(hour=9)) == 0
    assert told(site) == ["invoices for 2026-11 wait: a file cannot be written: File exists"]
    folder.unlink()
    assert at(site, DECEMBER_1.replace(hour=10)) == 2
    shutil.rmtree(folder)


def test_months_that_were_missed_are_made_up_for_and_those_before_the_first_round_are_not(site: Site) -> None:
    assert at(site, datetime(2026, 12, 20, tzinfo=UTC)) == 0  # switched on in the middle of a month
    assert at(site, datetime(2027, 1, 2, tzinfo=UTC)) == 2
    assert at(site, datetime(2027, 4, 3, tzinfo=UTC)) == 6
    assert sorted({one.month for one in site.directory.list_invoices()}) == ["2026-12", "2027-01", "2027-02", "2027-03"]


def test_the_hour_is_the_agencys_and_an_hour_after_the_month_at_the_least(tmp_path: Path) -> None:
    zone = {"TENANTRY_TIME_ZONE": "America/New_York", "TENANTRY_INVOICE_DAY": "3", "TENANTRY_INVOICE_HOUR": "8"}
    assert due_at(NOVEMBER, load_settings(None, zone)) == datetime(2026, 12, 3, 13, tzinfo=UTC)
    assert due_at(NOVEMBER, load_settings(None, {"TENANTRY_INVOICE_HOUR": "0"})) == datetime(2026, 12, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SCHEDULE", "yes"), ("DAY", "29"), ("DAY", "0"), ("HOUR", "24"), ("FORMATS", "docx"), ("FORMATS", ",")],
)
def test_a_schedule_that_cannot_be_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"invoice_{name.lower()} must be"):
        load_settings(None, {f"TENANTRY_INVOICE_{name}": value})


def test_the_settings_know_the_formats_that_there_are() -> None:
    assert INVOICE_FORMATS == FORMATS


def test_a_round_tells_what_an_e_invoice_lacks_and_issues_it_when_it_is_said(tmp_path: Path) -> None:
    site = make_site(tmp_path, TENANTRY_INVOICE_SCHEDULE="issue", TENANTRY_INVOICE_FORMATS="pdf,facturx")
    assert at(site, DECEMBER_1) == 0
    assert numbers(site) == []
    assert sum("an e-invoice needs the agency's name" in text for text in told(site)) == 2
    agency = Details(name="Agency", country="DE", tax_id="DE123456789", taxes=(("VAT", "19"),))
    set_billing(site, None, agency)
    for slug in ("a", "b"):
        set_billing(site, slug, Details(country="FR"))
    assert at(site, DECEMBER_1) == 2
    assert files(site) == {f"INV-2026-000{number}.{form}" for number in (1, 2) for form in ("pdf", "facturx.pdf")}
    site.engine.dispose()


def test_a_round_without_the_extra_of_a_format_waits_and_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(tmp_path, TENANTRY_INVOICE_SCHEDULE="issue", TENANTRY_INVOICE_FORMATS="pdf")
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: there(name) if name != "typst" else None)
    assert at(site, DECEMBER_1.replace(day=2)) == 0
    assert numbers(site) == []
    assert "tenantry[pdf]" in "; ".join(told(site))
    site.engine.dispose()
