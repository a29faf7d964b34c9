"""What a portal shows: the client's own, and no word of anybody else's or of what the agency pays and earns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import insert
from starlette.applications import Starlette

from tenantry.billing.months import read_month
from tenantry.control.client_guide import guide_facts
from tenantry.control.invoicing import find_client, issue
from tenantry.control.site import Site
from tenantry.domain.billing_details import Details
from tenantry.storage.columns import now_utc
from tenantry.storage.directory.plans import Agreed
from tenantry.storage.tables import exports
from tenantry.web.app import control_app
from tests.browser import Browser
from tests.unit.billing.offices import OnADay
from tests.unit.web.pages.conftest import make_site
from tests.unit.web.pages.test_evil_words import EVIL, Looked
from tests.unit.web.pages.test_guide import copies_every_example
from tests.unit.web.portal.conftest import CANARY, come_by, link_for

PAGES = (
    "/portal",
    "/portal?month=2026-10",
    "/portal/guide",
    "/portal/papers",
    "/portal/guide.html",
    "/portal/guide.md",
)
# Of another client, of the agency's money (its markup has such a percentage), of what is behind the gateway, internal.
FORBIDDEN = (CANARY, "globex", "your margin", "37 %", "37%", "sandbox", "anthropic.com/v1", "crd_", "ups_", "tnt_")
# A point.
LOGO = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def month_of(browser: Browser) -> str:
    return browser.get("/portal").text.partition('type="month" value="')[2][:7]


def test_a_client_sees_its_own_usage_budget_and_keys(app: Starlette, site: Site) -> None:
    shown = come_by(app, link_for(site)).get("/portal").shown
    for word in ("Acme", "claude-haiku-5-5", "website", "$50.00", "at list price", "$0.000001", "left", "Limits"):
        assert word in shown, word


def test_a_client_sees_all_of_its_endpoints_as_in_the_guide(app: Starlette, site: Site) -> None:
    site.directory.add_slot("acme", "writer")
    site.directory.add_slot("globex", "foreign")
    page, facts = come_by(app, link_for(site)).get("/portal"), guide_facts(site, "acme")
    shown = page.text.partition('<h2 id="endpoint-title">')[2]
    assert re.findall(r"<code>([^<]*)</code>", shown) == [
        facts.endpoint,
        *facts.other_endpoints,
        *(endpoint for _, endpoint in facts.slots),
    ]
    assert "acme.writer" in shown
    assert "foreign" not in page.text


def test_no_page_has_a_word_of_others_or_of_the_agencys_own_affairs(app: Starlette, site: Site) -> None:
    site.directory.set_portal("acme", may_rotate=True)
    browser, key_id = come_by(app, link_for(site)), site.directory.list_keys("acme")[0].key_id
    month = month_of(browser)
    more = (f"/portal/exports/make?period={month}&form=csv", f"/portal/exports/make?period={month}&form=json")
    texts = [browser.get(path) for path in (*PAGES, *more, f"/portal/keys/{key_id}/rotate", "/portal/nothing")]
    texts.append(browser.post(f"/portal/keys/{key_id}/rotate", {"grace": "24h", "once": "1"}))
    for answer in texts:
        assert answer.status in (200, 404)
        found = answer.text.lower()
        for word in FORBIDDEN:
            assert word not in found, (word, answer.shown[:200])
    assert any("req_0" in answer.text for answer in texts), "its own rows are in its export"


def test_keys_and_papers_of_another_client_are_not_there(app: Starlette, site: Site) -> None:
    site.directory.set_portal("acme", may_rotate=True)
    browser = come_by(app, link_for(site))
    browser.get("/portal")
    for slug in ("canary-corp", "globex"):
        key_id = site.directory.list_keys(slug)[0].key_id
        assert browser.get(f"/portal/keys/{key_id}/rotate").status == 404
        assert browser.post(f"/portal/keys/{key_id}/rotate", {"grace": "0", "once": "1"}).status == 404
        assert [one.status for one in site.directory.list_keys(slug)] == ["active"]
    assert browser.get("/portal/exports/file/2026-10.csv").status == 404
    assert browser.get("/portal/exports/file/..%2f..%2fmaster.key").status == 404
    assert browser.get("/portal/invoices/INV-2026-0001/html").status == 404


def test_invoices_and_exports_that_are_there_are_had_by_their_own_client_alone(app: Starlette, site: Site) -> None:
    """Each is there and the name is right: what is refused is refused for whose it is."""
    early, folder = OnADay(site.engine, site.vault, "test"), site.settings.data_dir / "exports"
    early.day = date(2026, 10, 1)
    early.put_plan("flat", {"fee_nanos": 10**9})
    folder.mkdir(exist_ok=True)
    numbers: dict[str, str] = {}
    for slug in ("globex", "canary-corp"):
        early.day = date(2026, 10, 1)
        early.assign_plan(slug, Agreed("flat"))
        early.day = date(2026, 11, 3)
        made = issue(replace(site, directory=early), find_client(site, slug), read_month("2026-10"))
        numbers[slug] = made.number
        (folder / f"{slug}.csv").write_text("x")
    (folder / "all.csv").write_text("x")
    with site.engine.begin() as connection:
        for name in ("globex", "canary-corp", "all"):
            tenant_id = site.directory.get_tenant(name).tenant_id if name != "all" else ""
            values = {"period": "2026-10", "tenant_id": tenant_id, "file_name": f"{name}.csv", "row_count": 1}
            values |= {"cost_nanos": 1, "sha256": "0" * 64, "written_at": now_utc()}
            connection.execute(insert(exports).values(values))
    browser = come_by(app, link_for(site, "globex"))
    papers = browser.get("/portal/papers").text
    assert numbers["globex"] in papers
    assert numbers["canary-corp"] not in papers
    files = [browser.get(f"/portal/exports/file/{name}.csv").status for name in ("globex", "canary-corp", "all")]
    assert files == [200, 404, 404]
    own, other, none = (f"/portal/invoices/{one}/html" for one in (*numbers.values(), "INV-2026-9999"))
    assert browser.get(own).status == 200
    assert browser.get(other).status == 404
    assert browser.get(other).body == browser.get(none).body
    assert browser.get(own.replace("/html", "/json")).status == 404, "what is in it beside the paper is the agency's"
    without = come_by(app, link_for(site, "globex", invoices=False))
    assert without.get(own).status == 404
    assert numbers["globex"] not in without.get("/portal/papers").text


def test_a_key_is_rotated_only_where_the_agency_allows_it_and_shown_once(app: Starlette, site: Site) -> None:
    browser, key = come_by(app, link_for(site)), site.directory.list_keys("acme")[0]
    path = f"/portal/keys/{key.key_id}/rotate"
    assert path not in browser.get("/portal").text
    assert browser.get(path).status == 403
    assert browser.post(path, {"grace": "24h", "once": "1"}).status == 403
    site.directory.set_portal("acme", may_rotate=True)
    assert path in browser.get("/portal").text
    assert browser.fill(path, {"grace": "99999d", "once": "1"}).status == 422
    made = browser.fill(path, {"grace": "24h", "once": "2"})
    assert made.status == 200
    text = made.text.partition('class="secret">')[2].partition("<")[0]
    assert site.directory.has_key(text)
    assert browser.post(path, {"grace": "24h", "once": "2"}).status == 303, "sent again, it does nothing"
    assert text not in browser.get("/portal").text
    assert len(site.directory.list_keys("acme")) == 2
    line = next(one for one in site.directory.list_audit() if one.action == "key.rotate")
    assert line.actor == "portal:acme"


def test_a_link_of_somebody_who_may_not_see_invoices_shows_none(app: Starlette, site: Site) -> None:
    assert "Invoices" in come_by(app, link_for(site)).get("/portal/papers").shown
    assert "nvoices" not in come_by(app, link_for(site, invoices=False)).get("/portal/papers").shown


def test_the_agencys_name_logo_and_colour_are_shown(app: Starlette, site: Site) -> None:
    site.directory.set_billing(None, Details(name="Bright & Co", logo=LOGO))
    browser = come_by(app, link_for(site))
    page = browser.get("/portal").text
    assert "Bright &amp; Co" in page
    assert LOGO in page
    assert "--tenantry-brand: #1d4ed8" in Browser(app).get("/portal/brand.css").text
    assert page.rindex(".css") == page.index("brand.css") + len("brand"), "no other sheet comes after the colour"
    assert "Tenantry" not in browser.get("/portal").shown


@pytest.fixture
def evil(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path)
    made = replace(made, settings=replace(made.settings, portal_name=EVIL[0], contact=EVIL[1], status_page=True))
    yield made
    made.engine.dispose()


def test_no_name_and_no_label_runs(evil: Site) -> None:
    app = control_app(evil)
    for number, words in enumerate(EVIL):
        slug = f"evil-{number}"
        evil.directory.create_tenant(slug, words, "standard")
        evil.directory.bind_credential(slug, "sandbox")
        evil.directory.issue_key(slug, words)
        evil.directory.set_portal(slug, may_rotate=True)
        browser, key_id = come_by(app, link_for(evil, slug)), evil.directory.list_keys(slug)[0].key_id
        for path in ("/portal", "/portal/guide", "/portal/papers", f"/portal/keys/{key_id}/rotate", "/status"):
            looked = Looked()
            answer = browser.get(path)
            assert answer.status == 200, (path, answer.shown[-300:])
            looked.feed(answer.text)
            assert not [one for one in looked.found if "data:image" not in one], (path, looked.found)


def test_what_is_typed_wrong_is_told_and_nothing_else(app: Starlette, site: Site) -> None:
    browser = come_by(app, link_for(site))
    assert browser.get("/portal?month=2026-13").status == 400
    assert browser.get("/portal/guide.pdf").status == 404
    assert browser.get("/portal/exports/make?period=yesterday&form=csv").status == 400
    assert browser.get("/portal/exports/make?period=2026-10&form=exe").status == 400


def test_the_guide_is_a_page_and_each_example_can_be_copied(app: Starlette, site: Site) -> None:
    page = come_by(app, link_for(site)).get("/portal/guide")
    copies_every_example(page, site, "acme")
    assert re.search(r'src="/static/base\.[^"]*\.?js"', page.text), "what copies is on the page"
