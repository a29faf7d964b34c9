"""What somebody tries who wants what is not theirs, by way of an address or a name."""

from __future__ import annotations

import base64
import re
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from tenantry.control.offboarding import delete_tenant
from tenantry.control.site import Site
from tenantry.domain.roles import Role
from tenantry.storage.directory.invoices import INVOICE, NewInvoice
from tests.browser import add_person, signed_in
from tests.unit.ledger.books import attempt, book


def issue_invoice(site: Site, slug: str) -> str:
    tenant_id = site.directory.get_tenant(slug).tenant_id
    document: dict[str, Any] = {
        "kind": INVOICE,
        "issued_on": site.directory.today().isoformat(),
        "currency": "USD",
        "digits": 2,
        "total_minor": 4200,
    }
    newest = [one.invoice_id for one in site.directory.newest_invoices(1, [tenant_id])]
    new = NewInvoice(INVOICE, "INV-", tenant_id, slug, "2026-10", "USD", 4200, document, [], sum(newest))
    return site.directory.issue_invoice(new).number


def test_whoever_has_the_name_of_a_client_that_left_does_not_have_its_invoices(
    app: Starlette, site: Site, tmp_path: Path
) -> None:
    number = issue_invoice(site, "acme")
    before = signed_in(app, site, add_person(site, "bea", Role.BILLING, frozenset({"acme"})))
    assert number in before.get("/invoices").text
    assert before.get(f"/invoices/{number}/file/json").status == 200
    delete_tenant(site, "acme", tmp_path / "statements")
    site.directory.create_tenant("acme", "Another Acme", "standard")
    after = signed_in(app, site, add_person(site, "ben", Role.BILLING, frozenset({"acme"})))
    assert number not in after.get("/invoices").text
    assert after.get(f"/invoices/{number}/file/json").status == 404
    assert number in signed_in(app, site).get("/invoices").text


def test_a_page_that_asks_first_is_of_what_there_is(app: Starlette, site: Site) -> None:
    """A link that somebody was sent must not put another of our forms under a button that says something else."""
    browser = signed_in(app, site)
    trick = "..\\..\\tenants\\acme\\disable"
    assert browser.get(f"/alerts/targets/{trick}/remove").status == 404
    site.directory.set_alert_target(trick, "webhook", "https://hook.invalid/x")
    answer = browser.get(f"/alerts/targets/{trick}/remove")
    actions = [one for one in re.findall(r'action="([^"]*)"', answer.text) if one != "/signout"]
    assert actions == ["/alerts/targets/..%5C..%5Ctenants%5Cacme%5Cdisable/remove"]


@pytest.mark.parametrize(
    "asked",
    [
        "behind=99999999999999999999999.1",
        "behind=1.9223372036854775808",
        "from=9999-12-31",
        "to=9999-12-31",
        "from=0001-01-01",
        "to=0001-01-01T00:00",
        "min=99999999999999999999",
        "status=99999999999999999999",
    ],
)
def test_numbers_and_days_beyond_all_measure_break_nothing(shared_app: Starlette, shared: Site, asked: str) -> None:
    assert signed_in(shared_app, shared).get(f"/requests?{asked}").status == 200


def test_where_a_page_goes_on_tells_nobody_how_many_rows_the_site_has(
    app: Starlette, site: Site, tmp_path: Path
) -> None:
    ids = {slug: site.directory.get_tenant(slug).tenant_id for slug in ("acme", "globex")}
    # 1,000 of others' in between: the numbers of one's own tell how many they were.
    whose = [*("acme",) * 30, *("globex",) * 1000, *("acme",) * 30]
    now_us = time.time_ns() // 1000
    book(site.engine, tmp_path, [attempt(n, now_us - 10**9 + n, ids[slug]) for n, slug in enumerate(whose)])
    browser = signed_in(app, site, add_person(site, "vic", Role.VIEWER, frozenset({"acme"})))
    first = browser.get("/requests")
    link = re.search(r'href="(/requests\?behind=([^"]*))"', first.text)
    assert link is not None
    assert not base64.urlsafe_b64decode(link[2] + "==").isascii()
    shown = [len(set(re.findall(r'href="/requests/(req_[^"]*)"', page.text))) for page in (first, browser.get(link[1]))]
    assert shown == [50, 10]
    place = f"{now_us}.{10**6}"
    made_up = browser.get(f"/requests?behind={place}")
    assert len(set(re.findall(r'href="/requests/(req_[^"]*)"', made_up.text))) == 50


def test_a_page_of_invoices_reads_no_document_but_its_own(
    app: Starlette, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenantry.web.pages.invoices.SHOWN", 2)
    numbers = [issue_invoice(site, slug) for slug in ("acme", "globex", "acme", "acme", "acme", "globex")]
    own = [numbers[place] for place in (4, 3, 2, 0)]
    browser = signed_in(app, site, add_person(site, "bea", Role.BILLING, frozenset({"acme"})))
    first = browser.get("/invoices")
    older = re.search(r'href="(/invoices\?behind=[^"]*)"', first.text)
    assert older is not None
    second = browser.get(older[1])
    made_up = browser.get("/invoices?behind=2")
    shown = [[one for one in own if f'href="/invoices/{one}"' in page.text] for page in (first, second, made_up)]
    assert shown == [own[:2], own[2:], own[:2]]
    assert ("Older ones" in second.shown, "The newest" in second.shown) == (False, True)
    assert [one.number for one in site.directory.newest_invoices(2)] == [numbers[5], numbers[4]]
