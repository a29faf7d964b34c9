"""Invoices on pages: looked at before, issued once, given back, proved."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from tenantry.control.invoice_round import ISSUING
from tenantry.control.invoicing import set_billing
from tenantry.control.site import Site
from tenantry.control.tasks import RUNNING
from tenantry.domain.billing_details import Details
from tenantry.domain.roles import Role
from tenantry.storage.directory.plans import Agreed
from tenantry.web.app import control_app
from tests.browser import Answer, Browser, add_person, signed_in
from tests.stack import wait_for
from tests.unit.billing.offices import OnADay, make_site
from tests.unit.ledger.books import START_US, attempt, book

PERIOD = "2026-11"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Tenants a (metered, used for two dollars) and b (flat) in the month after; c is on no plan."""
    OnADay.day = date(2026, 11, 1)
    made = make_site(tmp_path)
    book(made.engine, tmp_path, [attempt(1, START_US, "tnt_a", cost_nanos=2 * 10**9)])
    OnADay.day = date(2026, 12, 3)
    yield made
    OnADay.day = date(2026, 11, 1)
    made.engine.dispose()


@pytest.fixture
def app(site: Site) -> Starlette:
    return control_app(site)


@pytest.fixture
def browser(app: Starlette, site: Site) -> Browser:
    return signed_in(app, site, add_person(site, "bea", Role.BILLING))


def hidden(answer: Answer) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', answer.text)
    return {name: value for name, value in found if name != "csrf"}


def issue(browser: Browser, slug: str = "a") -> str:
    answer = browser.post(f"/tenants/{slug}/invoice", hidden(browser.get(f"/tenants/{slug}/invoice?month={PERIOD}")))
    assert answer.status == 303, answer.shown
    return answer.location.removeprefix("/invoices/")


def test_an_invoice_is_seen_before_it_is_issued_and_is_what_was_seen(browser: Browser, site: Site) -> None:
    preview = browser.get(f"/tenants/a/invoice?month={PERIOD}")
    assert "$2.40" in preview.shown  # two dollars and a fifth
    assert site.directory.list_invoices() == []
    number = issue(browser)
    shown = browser.get(f"/invoices/{number}")
    assert "$2.40" in shown.shown
    assert "stands" in shown.shown
    for form in ("json", "html", "csv"):
        assert browser.get(f"/invoices/{number}/file/{form}").status == 200
    assert "1 of 2 clients" in browser.get("/invoices").shown


def test_a_form_that_is_sent_twice_leads_to_the_one_invoice(browser: Browser, site: Site) -> None:
    fields = hidden(browser.get(f"/tenants/a/invoice?month={PERIOD}"))
    first, second = (browser.post("/tenants/a/invoice", fields) for _ in range(2))
    assert first.location == second.location
    assert "has its invoice already" in browser.get(second.location).shown
    assert len(site.directory.list_invoices()) == 1


def test_what_changed_since_it_was_seen_is_shown_again_and_not_issued(browser: Browser, site: Site) -> None:
    fields = hidden(browser.get(f"/tenants/a/invoice?month={PERIOD}"))
    set_billing(site, "a", Details(purchase_order="PO 7"))
    answer = browser.post("/tenants/a/invoice", fields)
    assert answer.status == 422
    assert "another one than you saw" in answer.shown
    assert "PO 7" in answer.shown
    assert site.directory.list_invoices() == []


def test_a_month_that_is_not_over_is_looked_at_and_not_issued(browser: Browser, site: Site) -> None:
    page = browser.get("/tenants/a/invoice?month=2026-12")
    assert "2026-12 is not over" in page.shown
    assert "Issue it" not in page.shown
    answer = browser.post("/tenants/a/invoice", {"month": "2026-12", "seen": "x"})
    assert answer.status == 422
    assert "is not over" in answer.shown
    assert browser.post("/invoices/month", {"month": "2026-12"}).status == 422
    assert site.directory.list_invoices() == []


def test_a_month_that_is_none_is_said_beside_its_field(browser: Browser) -> None:
    for path in ("/invoices/month?month=2026-13", "/tenants/a/invoice?month=x"):
        answer = browser.get(path)
        assert answer.status == 422
        assert "A month such as 2026-10." in answer.shown


def test_all_are_issued_in_a_task_that_is_followed_and_begun_again_issues_nothing(
    browser: Browser, app: Starlette, site: Site
) -> None:
    month = browser.get(f"/invoices/month?month={PERIOD}")
    assert "$81.40" in month.shown  # with 79 dollars of b
    assert "Issue all 2" in month.shown
    for told in ("2 invoices are issued", "0 invoices are issued. 2 clients passed by"):
        assert browser.post("/invoices/month", {"month": PERIOD}).location == "/invoices/run"
        wait_for(lambda: app.state.tasks.list()[0].state != RUNNING, 60, "the task")
        assert told in browser.get("/parts/invoices").shown
        assert [one.slug for one in site.directory.list_invoices()] == ["a", "b"]
    assert "Every client has its invoice: 2 of 2" in browser.get("/invoices").shown


def test_a_second_who_issues_all_follows_the_first(browser: Browser, app: Starlette, site: Site) -> None:
    go_on = threading.Event()

    def first(_tell: object) -> dict[str, Any]:
        go_on.wait()
        return {"month": PERIOD, "clients": []}

    app.state.tasks.start(ISSUING, "web:ana", first)
    try:
        answer = browser.post("/invoices/month", {"month": PERIOD})
        assert "being issued already" in browser.follow(answer).shown
        assert site.directory.list_invoices() == []
    finally:
        go_on.set()


def test_an_amount_is_given_back_after_a_look_and_once(browser: Browser, site: Site) -> None:
    number = issue(browser)
    path = f"/invoices/{number}/credit"
    browser.get(path)
    seen = browser.post(path, {"how": "amount", "amount": "0.50", "reason": "goodwill"})
    assert "Give back $0.50" in seen.shown
    assert len(site.directory.list_invoices()) == 1, "a look issues nothing"
    first, second = (browser.post(path, hidden(seen)) for _ in range(2))
    assert first.status == 303
    assert second.status == 422
    assert "since you looked" in second.shown
    assert len(site.directory.list_invoices()) == 2
    assert "$1.90 left of it" in browser.get(f"/invoices/{number}").shown


def test_all_of_an_invoice_is_taken_back_and_its_month_billed_anew(browser: Browser, site: Site) -> None:
    number = issue(browser)
    path = f"/invoices/{number}/credit"
    browser.get(path)
    fields = hidden(browser.post(path, {"how": "whole", "reason": "wrong address"}))
    note = browser.post(path, fields).location
    assert browser.post(path, fields).location == note, "the second leads to the first's note"
    assert "taken back" in browser.get(f"/invoices/{number}").shown
    assert "wrong address" in browser.get(note).shown
    assert issue(browser) != number
    assert len(site.directory.list_invoices()) == 3


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"how": "whole", "reason": ""}, "stands on the credit note"),
        ({"how": "whole", "amount": "12.50", "reason": "slow"}, "You typed an amount"),
        ({"how": "whole", "line": "1", "reason": "slow"}, "You ticked lines"),
        ({"how": "amount", "amount": "-1", "reason": "kept words"}, "An amount such as 12.50."),
        ({"how": "amount", "amount": "900", "reason": "kept words"}, "more than what is left"),
        ({"how": "lines", "reason": "kept words"}, "Tick the lines"),
        ({"how": "lines", "line": ["77"], "reason": "kept words"}, "there is no line 77"),
        ({"how": "else", "reason": "kept words"}, "Nothing was done"),
    ],
)
def test_what_is_wrong_with_a_credit_is_said_and_nothing_typed_is_lost(
    browser: Browser, site: Site, fields: dict[str, str], told: str
) -> None:
    path = f"/invoices/{issue(browser)}/credit"
    browser.get(path)
    answer = browser.post(path, fields)
    assert answer.status == 422
    assert told.lower() in answer.shown.lower()
    assert f'value="{fields["reason"]}"' in answer.text
    assert len(site.directory.list_invoices()) == 1


def test_an_e_invoice_is_offered_where_one_can_be_made_and_else_said_why_not(browser: Browser, site: Site) -> None:
    bare = issue(browser)
    page = browser.get(f"/invoices/{bare}")
    assert f"{bare}/file/cii" not in page.text
    assert "it lacks the agency's name" in page.shown
    answer = browser.get(f"/invoices/{bare}/file/cii")
    assert answer.status == 409
    assert "the agency's country" in answer.shown
    agency = {"name": "Agency", "country": "DE", "tax_id": "DE123456789", "taxes": (("VAT", "19"),)}
    set_billing(site, None, Details(**agency))  # pyright: ignore[reportArgumentType] -- by name
    set_billing(site, "b", Details(country="FR"))
    whole = issue(browser, "b")
    assert f"{whole}/file/cii" in browser.get(f"/invoices/{whole}").text
    assert b"CrossIndustryInvoice" in browser.get(f"/invoices/{whole}/file/cii").body


def test_only_who_is_to_have_an_invoice_is_counted(app: Starlette, site: Site) -> None:
    OnADay.day = date(2026, 12, 1)
    site.directory.assign_plan("c", Agreed("metered", date(2026, 12, 1)))
    OnADay.day = date(2026, 12, 3)
    browser = signed_in(app, site)
    assert "0 of 2 clients have their invoice" in browser.get("/invoices").shown, "c came in December"
    issue(browser)
    issue(browser, "b")
    assert "Every client has its invoice: 2 of 2" in browser.get("/invoices").shown
    OnADay.day = date(2026, 12, 20)
    site.directory.assign_plan("b", Agreed(None, date(2026, 12, 20)))
    OnADay.day = date(2027, 1, 5)
    assert "0 of 3 clients have their invoice" in browser.get("/invoices").shown, "b was on its plan until the 20th"
    OnADay.day = date(2027, 2, 5)
    assert "0 of 2 clients have their invoice" in browser.get("/invoices").shown, "b has left, and used nothing"


def test_where_nobody_was_on_a_plan_nothing_is_said_to_wait(app: Starlette, site: Site) -> None:
    OnADay.day = date(2026, 11, 20)
    page = signed_in(app, site).get("/invoices").shown
    assert "Nobody was on a plan in 2026-10, so there is nothing to bill." in page
    assert "its invoice" not in page


def test_what_an_xrechnung_needs_is_said_on_pages_and_is_then_offered(browser: Browser) -> None:
    preview = browser.get(f"/tenants/b/invoice?month={PERIOD}")
    assert "For an XRechnung it lacks also the client's reference" in preview.shown
    agency = {"name": "Agency", "country": "DE", "tax_id": "DE123456789", "taxes": "VAT 19"}
    agency |= {
        "street": "Street 1\r\nYard",
        "postcode": "10115",
        "city": "Berlin",
        "contact": "Ana",
        "phone": "030 1234",
    }
    agency |= {"email": "ana@agency.example", "payment": "DE89 3704 0044 0532 0130 00"}
    assert browser.fill("/billing", agency).status == 303
    client = {"postcode": "20095", "city": "Hamburg", "country": "de", "email": "in@b.example"}
    client |= {"buyer_reference": "04011000-12345-34"}
    assert browser.fill("/tenants/b/billing", client).status == 303
    assert "it lacks" not in browser.get(f"/tenants/b/invoice?month={PERIOD}").shown
    number = issue(browser, "b")
    assert f"{number}/file/xrechnung" in browser.get(f"/invoices/{number}").text
    assert b"04011000-12345-34" in browser.get(f"/invoices/{number}/file/xrechnung").body


def test_who_issued_too_early_is_led_to_what_the_file_lacks(browser: Browser) -> None:
    page = browser.get(f"/invoices/{issue(browser)}")
    assert 'href="/billing"' in page.text
    assert 'href="/tenants/a/billing"' in page.text
    assert "credit this one and issue the month anew" in page.shown


def test_a_number_with_slashes_has_its_page_and_files(browser: Browser, site: Site) -> None:
    set_billing(site, None, Details(series="AG/{year}/"))
    number = issue(browser)
    assert number == "AG/2026/0001"
    assert f"/invoices/{number}/file/html" in browser.get(f"/invoices/{number}").text
    assert browser.get(f"/invoices/{number}/file/html").status == 200
    assert browser.get(f"/invoices/{number}/credit").status == 200


def test_a_document_that_was_changed_is_found(browser: Browser, site: Site) -> None:
    number = issue(browser)
    assert "each is as it was issued" in browser.follow(browser.post("/invoices/verify")).shown
    with site.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE invoices SET total_minor = 1")
    page = browser.post("/invoices/verify")
    assert f"{number}: its lines do not add up" in page.shown


def test_who_may_only_look_issues_nothing_and_sees_no_button(app: Starlette, site: Site) -> None:
    looks = signed_in(app, site, add_person(site, "ben", Role.BILLING, frozenset({"a"})))
    page = looks.get(f"/tenants/a/invoice?month={PERIOD}")
    assert "$2.40" in page.shown
    assert "Issue it" not in page.shown
    month = looks.get(f"/invoices/month?month={PERIOD}")
    assert "Issue" not in month.shown.replace("Issued already", "")
    assert "/tenants/b" not in month.text
    assert looks.post("/tenants/a/invoice", hidden(page)).status == 403
    assert looks.post("/invoices/month", {"month": PERIOD}).status == 403
    assert site.directory.list_invoices() == []


def test_a_client_without_a_plan_is_said_to_have_none(browser: Browser, site: Site) -> None:
    page = browser.get(f"/tenants/c/invoice?month={PERIOD}")
    assert "C had no plan" in page.shown
    assert browser.post("/tenants/c/invoice", {"month": PERIOD, "seen": ""}).status == 422
    site.directory.assign_plan("c", Agreed("flat", date(2026, 12, 1)))
    assert "had no plan in 2026-11" in browser.get(f"/tenants/c/invoice?month={PERIOD}").shown
