"""The weekly summary: once for each week and target, nothing of others in it, and no text of a client is markup."""

from __future__ import annotations

import email
import json
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from email.message import Message
from email.policy import default
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from tenantry.billing.summary_page import plain, render_summary, title_of
from tenantry.control.alerting import Message as Told
from tenantry.control.alerting import send
from tenantry.control.courier import Courier
from tenantry.control.site import Site
from tenantry.control.summaries import Summaries, agency_summary, tenant_summary
from tenantry.domain.attempts import RefusalCount, Tally
from tenantry.domain.periods import read_period
from tenantry.domain.proof import PROOF_IDS
from tenantry.ledger.adjustments import Scope, book_adjustments
from tenantry.ledger.booking import Drain
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.outbox import Outbox
from tenantry.ledger.tallies import book_tallies, refused_between
from tenantry.storage.directory.alert_targets import APPRISE, WEBHOOK, OpenTarget
from tenantry.storage.tables import alert_deliveries
from tests.unit.billing.clock import set_clock
from tests.unit.billing.offices import USD, OnADay, make_site, on_day
from tests.unit.ledger.books import HOUR_US, MODEL, PRICES, START_US, attempt, book
from tests.unit.ledger.test_adjustments import RAW, settled, table

# 2 to 8 November 2026; the attempts of `books` are of its first instant.
WEEK = read_period("2026-W45", ZoneInfo("UTC"))
MONDAY_AFTER = datetime(2026, 11, 9, 7, tzinfo=UTC)
WEEK_US = 7 * 24 * HOUR_US
HOSTILE = "<img src=x onerror=alert(1)>@channel [a](http://b)\x1b[2J"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    OnADay.day = date(2026, 11, 1)
    made = make_site(tmp_path, TENANTRY_SUMMARY_SCHEDULE="weekly")
    on_day(made, date(2026, 11, 9))
    yield made
    made.engine.dispose()
    OnADay.day = date(2026, 11, 1)


def used(site: Site, folder: Path) -> None:
    """Two weeks of a and one of b, refusals of both, and a model whose name a client made up."""
    key = site.directory.issue_key("a", "ci <b>main</b>").key_id
    book(
        site.engine,
        folder,
        [
            attempt(1, START_US - WEEK_US, cost_nanos=4 * USD, key=key),
            attempt(2, cost_nanos=3 * USD, key=key),
            attempt(3, cost_nanos=2 * USD, model_served=HOSTILE),
            attempt(4, tenant="tnt_b", cost_nanos=99 * USD, model_served="secret-model-of-b"),
        ],
    )
    writer = JournalWriter(folder / "journal", "counts")
    refusals = [RefusalCount("tnt_a", "rate", 7, START_US + 5), RefusalCount("tnt_b", "budget", 3, START_US + 5)]
    writer.tally(Tally(refusals, []))
    writer.close()
    Drain(site.engine, folder / "journal", PRICES).step()


def test_a_tenants_summary_has_its_week_and_the_change_and_nothing_of_others_or_of_what_the_agency_earns(
    site: Site, tmp_path: Path
) -> None:
    used(site, tmp_path)
    site.directory.set_budgets("a", {"month": 10 * USD, "day": 6 * USD})
    found = tenant_summary(site, "a", WEEK)
    assert (found["usage"]["list_nanos"], found["week_before"]["list_nanos"]) == (5 * USD, 4 * USD)
    assert [(one["name"], one["list_nanos"]) for one in found["by_key"]] == [
        ("ci <b>main</b>", 3 * USD),
        ("key_1", 2 * USD),
    ]
    assert [(one["period"], one["label"], one["spent_nanos"]) for one in found["budgets"]] == [
        ("day", "2026-11-02", 5 * USD),
        ("month", "2026-11", 5 * USD),
    ]
    assert found["refusals"] == [{"reason": "rate", "count": 7}]
    assert title_of(found) == "a & Sons in 2026-W45: $5.00 at list price (+25%)"
    for form in ("html", "text", "json"):
        told = render_summary(found, form).lower()
        for word in ("secret-model-of-b", "tnt_b", "b & sons", "margin of", "revenue", "under water", '"cost'):
            assert word not in told, (form, word)


def test_the_agencys_has_every_tenant_the_margin_and_what_to_do(site: Site, tmp_path: Path) -> None:
    used(site, tmp_path)
    book(site.engine, tmp_path, [attempt(9, tenant="tnt_c", cost_nanos=USD)], "c")
    found = agency_summary(site, WEEK)
    assert [(one["name"], one["list_nanos"]) for one in found["tenants"]] == [
        ("b", 99 * USD),
        ("a", 5 * USD),
        ("c", USD),
    ]
    assert found["margin"]["month"] == "2026-11"
    assert [one["tenant"] for one in found["margin"]["under_water"]] == ["b"]
    text = render_summary(found, "text")
    assert "b is under water in 2026-11" in text
    assert "b was refused at its budget (tenantry budget show b)" in text
    assert "On no plan, and paid by you: c" in text


def test_no_text_of_a_client_is_markup(site: Site, tmp_path: Path) -> None:
    used(site, tmp_path)
    for summary in (tenant_summary(site, "a", WEEK), agency_summary(site, WEEK)):
        html, text = (render_summary(summary, form) for form in ("html", "text"))
        assert "<img" not in html
        assert "<b>main" not in html
        assert "&lt;img src=x" in html
        for mark in ("<", ">", "@", "[", "]", "\x1b"):
            assert mark not in text
    assert plain("<!channel> @here") == "‹!channel› ＠here"


def test_numbers_and_dates_are_those_of_the_locale(site: Site, tmp_path: Path) -> None:
    used(site, tmp_path)
    html = render_summary({**tenant_summary(site, "a", WEEK), "locale": "de_DE"}, "html")
    assert 'lang="de"' in html
    assert "5,00\xa0$" in html
    assert "2. November 2026" in html


def test_refusals_are_counted_in_their_week_however_often_a_total_is_booked(site: Site) -> None:
    def tell(run: str, count: int, at_us: int) -> None:
        with site.engine.begin() as connection:
            book_tallies(connection, run, [Tally([RefusalCount("tnt_a", "rate", count, at_us)], [])])

    for _ in range(2):
        tell("one", 5, START_US - HOUR_US)
    tell("one", 8, START_US + HOUR_US)
    tell("one", 7, START_US + HOUR_US)  # an older line, read again
    tell("two", 2, START_US + HOUR_US)
    with site.engine.connect() as connection:
        assert refused_between(connection, WEEK.start_us - WEEK_US, WEEK.start_us) == {"tnt_a": {"rate": 5}}
        assert refused_between(connection, WEEK.start_us, WEEK.end_us) == {"tnt_a": {"rate": 5}}


def test_a_budget_is_used_as_far_as_budget_show_says(site: Site, tmp_path: Path) -> None:
    """And who left, or was made by a proof and removed, is nobody to do something about."""
    used(site, tmp_path)
    summary = tenant_summary(site, "a", WEEK)
    budget = {"period": "month", "label": "2026-11", "amount_nanos": 12_000_000, "spent_nanos": 2_351_100}
    for form in ("text", "html"):
        assert "(19%)" in render_summary({**summary, "budgets": [budget]}, form)
    with site.engine.begin() as connection:
        told = [RefusalCount("tnt_probe-1-noisy", "requests_per_minute", 9, START_US)]
        book_tallies(connection, "proof", [Tally(told, [])])
    assert "tnt_probe" not in str(agency_summary(site, WEEK)["refused"])
    assert "tnt_probe" not in str(agency_summary(site, WEEK)["advice"])


def deliveries(site: Site) -> int:
    with site.engine.connect() as connection:
        return len(connection.execute(select(alert_deliveries)).all())


def test_each_target_gets_its_own_summary_once_a_week_over_restarts(site: Site, tmp_path: Path) -> None:
    used(site, tmp_path)
    directory = site.directory
    directory.set_alert_target("all", WEBHOOK, "http://127.0.0.1:9/")
    directory.set_alert_target("budgets", WEBHOOK, "http://127.0.0.1:9/b", kinds=["budget_threshold"])
    directory.set_alert_target("a-mail", WEBHOOK, "http://127.0.0.1:9/a", "a", ["summary"])
    assert Summaries(site).step(MONDAY_AFTER - timedelta(seconds=1)) == 0
    assert [Summaries(site).step(MONDAY_AFTER) for _ in range(3)] == [2, 0, 0]
    raised = Outbox(site.engine).list_alerts()
    assert [(one.slug, one.waiting) for one in reversed(raised)] == [(None, 1), ("a", 1)]
    assert deliveries(site) == 2
    assert raised[0].message == "a & Sons in 2026-W45: $5.00 at list price (+25%)"
    on_day(site, date(2026, 11, 16))
    assert Summaries(site).step(MONDAY_AFTER + timedelta(days=7)) == 2


def test_a_week_whose_journals_are_not_booked_waits(site: Site, tmp_path: Path) -> None:
    site.directory.set_alert_target("all", WEBHOOK, "http://127.0.0.1:9/")
    writer = JournalWriter(tmp_path / "journal", "gateway")
    begun, end = attempt(1, cost_nanos=USD)
    writer.begin(begun)
    writer.end(end)
    writer.flush()
    chore = Summaries(site)
    assert chore.step(MONDAY_AFTER) == 0
    writer.close()
    book(site.engine, tmp_path, [])
    assert chore.step(MONDAY_AFTER) == 1


def test_summaries_are_private_files_where_a_folder_is_set(tmp_path: Path) -> None:
    folder = tmp_path / "weeks"
    site = make_site(tmp_path, TENANTRY_SUMMARY_SCHEDULE="weekly", TENANTRY_SUMMARY_FOLDER=str(folder))
    used(site, tmp_path)
    assert [Summaries(site).step(MONDAY_AFTER) for _ in range(2)] == [4, 0]
    names = {f"summary-2026-W45{whose}.{end}" for whose in ("", "-a", "-b", "-c") for end in ("html", "txt")}
    assert {path.name for path in folder.iterdir()} == names
    assert {path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())} == {0o700, 0o600}
    site.engine.dispose()


class _Smtp(socketserver.StreamRequestHandler):
    """Takes a mail (RFC 5321), and keeps it."""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            word = line[:4].upper().strip()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                body = b""
                while (part := self.rfile.readline()) != b".\r\n":
                    body += part.removeprefix(b".") if part.startswith(b"..") else part
                cast("_Server", self.server).mails.append(email.message_from_bytes(body, policy=default))
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
            if word == b"QUIT":
                return


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Smtp)
        self.mails: list[Message] = []


def test_a_mail_has_the_page_and_our_plain_text_beside_it(site: Site, tmp_path: Path) -> None:
    used(site, tmp_path)
    with _Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"mailto://127.0.0.1:{server.server_address[1]}?from=t@agency.example&to=a@acme.example&mode=insecure"
        site.directory.set_alert_target("a-mail", APPRISE, url, "a", ["summary"])
        Summaries(site).step(MONDAY_AFTER)
        clock_us = int(MONDAY_AFTER.timestamp()) * 1_000_000
        [raised] = Outbox(site.engine).list_alerts()
        clock_us = max(clock_us, raised.raised_at_us + 1)
        courier = Courier(Outbox(site.engine), site.directory, lambda: clock_us, send)
        assert courier.step() == 1
        assert courier.wait(30)
        server.shutdown()
    [mail] = server.mails
    parts: dict[str, Any] = {part.get_content_type(): part for part in mail.walk()}
    summary = tenant_summary(site, "a", WEEK)
    assert parts["text/plain"].get_content().replace("\r\n", "\n").strip() == render_summary(summary, "text").strip()
    assert parts["text/html"].get_content().replace("\r\n", "\n").strip() == render_summary(summary, "html").strip()
    assert mail["Subject"] == title_of(summary)


def test_a_webhook_gets_the_figures_and_not_the_page(site: Site, tmp_path: Path) -> None:
    used(site, tmp_path)
    site.directory.set_alert_target("hook", WEBHOOK, "http://127.0.0.1:9/", "a")
    Summaries(site).step(MONDAY_AFTER)
    sent: list[bytes] = []

    def keep(_target: OpenTarget, message: Told, _at_us: int) -> None:
        sent.append(message.body())

    [raised] = Outbox(site.engine).list_alerts()
    courier = Courier(Outbox(site.engine), site.directory, lambda: raised.raised_at_us + 1, keep)
    assert courier.step() == 1
    assert courier.wait(30)
    detail = json.loads(sent[0])["detail"]
    assert set(detail) == {"summary"}
    assert detail["summary"]["usage"]["requests"] == 2


def test_the_agencys_summary_has_the_isolation_proof_on_a_line_of_its_own(site: Site, tmp_path: Path) -> None:
    proof = attempt(5, tenant=f"{PROOF_IDS}0123abcd-own", cost_nanos=7 * USD, model_served="claude-of-the-proof")
    book(site.engine, tmp_path, [attempt(4, tenant="tnt_b", cost_nanos=3 * USD), proof])
    found = agency_summary(site, WEEK)
    assert (found["usage"]["list_nanos"], found["proof"]["list_nanos"]) == (3 * USD, 7 * USD)
    for form in ("text", "html"):
        told = render_summary(found, form)
        assert "the isolation proof, 1 requests, $7.00" in told
        assert "claude-of-the-proof" not in told


def test_what_got_its_first_price_since_is_not_told_as_without_one_in_its_week_or_in_another(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = set_clock(monkeypatch)
    book(site.engine, tmp_path, [settled(number, RAW["plain"], model_served=NEW) for number in range(2)])
    clock.day = date(2026, 11, 10)
    assert unpriced(site) == [(2, [NEW]), (0, [])]
    assert book_adjustments(site.engine, table("v2", **{NEW: MODEL}), Scope()) == 2
    fast = [settled(9, RAW["plain"] | {"speed": "fast"}, model_served=NEW, ended_at_us=START_US + WEEK_US)]
    book(site.engine, tmp_path, fast, "fast")
    # A price of one week takes nothing from what waits of another.
    assert unpriced(site) == [(0, []), (1, [NEW])]


NEW = "claude-new-1"


def unpriced(site: Site) -> list[tuple[int, list[str]]]:
    """Of two weeks: requests of a that have no price, and the models of all that have none."""
    weeks = [read_period(one, site.settings.zone) for one in ("2026-W45", "2026-W46")]
    return [
        (tenant_summary(site, "a", one)["usage"]["unpriced"], agency_summary(site, one)["unpriced"]) for one in weeks
    ]
