"""Prices on pages: what a model costs, a new price with its checks, and what it changes of what was booked."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from starlette.applications import Starlette

from tenantry.control.pricing import price_list, prices_of
from tenantry.control.site import Site
from tenantry.control.tasks import RUNNING
from tenantry.domain.attempts import Outcome
from tenantry.domain.roles import Role
from tenantry.domain.usage import Usage
from tests.browser import Browser, add_person, signed_in
from tests.stack import wait_for
from tests.unit.ledger.books import attempt, book

NEW = "claude-nova-1"


def book_unpriced(site: Site, folder: Path, model: str = NEW, speed: str = "standard") -> None:
    """One attempt today of what has no price: a million tokens in."""
    tenant_id = site.directory.get_tenant("acme").tenant_id
    usage = Usage(input_tokens=1_000_000)
    told = {"outcome": Outcome.UNPRICED, "cost_nanos": None, "model_served": model, "usage": usage}
    raw_json = json.dumps({"input_tokens": 1000000, "output_tokens": 0, "speed": speed})
    book(site.engine, folder, [attempt(1, time.time_ns() // 1000, tenant_id, usage_raw=raw_json, **told)])


def ended(app: Starlette) -> None:
    wait_for(lambda: app.state.tasks.list()[0].state != RUNNING, 60, "the task")


def test_a_model_without_a_price_is_cured_from_the_first_page_to_the_booked_cost(
    app: Starlette, site: Site, tmp_path: Path
) -> None:
    book_unpriced(site, tmp_path)
    browser = signed_in(app, site, add_person(site, "bea", Role.BILLING))
    link = re.search(r'href="(/prices/new\?model=[^"]*)"', browser.get("/").text)
    assert link is not None
    form = browser.get(link[1])
    assert f'value="{NEW}"' in form.text
    set_ = browser.post("/prices/new", {"model": NEW, "input": "2.50", "output": "12.50"})
    assert set_.location == "/recompute"
    after = browser.follow(set_).shown
    assert "for what it was used for before, too. 1 attempt had no price" in after
    assert "It has a price: book it" in browser.get("/").shown
    browser.post("/recompute")
    ended(app)
    looked = browser.get("/recompute")
    assert "$2.50 more for 1 attempt; nothing is booked yet" in looked.shown
    version = re.search(r'name="version" value="([^"]*)"', looked.text)
    assert version is not None
    for told in ("1 adjustment is booked", "0 adjustments are booked"):
        browser.post("/recompute", {"version": version[1]})
        ended(app)
        assert told in browser.get("/recompute").shown
    assert "No price is known" not in browser.get("/").shown


def test_a_mode_without_a_price_of_a_model_that_has_one_is_led_to_its_cure(
    app: Starlette, site: Site, tmp_path: Path
) -> None:
    book_unpriced(site, tmp_path, "claude-haiku-5-5", "fast")
    browser = signed_in(app, site, add_person(site, "bea", Role.BILLING))
    browser.get("/recompute")
    browser.post("/recompute")
    ended(app)
    looked = browser.get("/recompute")
    assert "a mode that its price does not know, such as fast mode" in looked.shown
    assert 'href="/prices/new?model=claude-haiku-5-5"' in looked.text


def test_who_may_not_set_prices_is_not_led_to(app: Starlette, site: Site, tmp_path: Path) -> None:
    book_unpriced(site, tmp_path)
    page = signed_in(app, site, add_person(site, "vera", Role.VIEWER)).get("/")
    assert "No price is known" in page.shown
    assert "/prices/new" not in page.text
    assert 'href="/requests?outcome=unpriced"' in page.text


@pytest.mark.parametrize(
    ("fields", "field", "told"),
    [
        ({"model": NEW, "input": "2.50"}, None, "no price yet: Output is needed"),
        ({"model": NEW, "input": "two", "output": "3"}, "input", "It must be a decimal number of dollars"),
        ({"model": NEW, "input": "2", "output": "30000"}, "output", "It is above 10,000 dollars"),
        ({"model": NEW, "input": "2.0000001", "output": "3"}, "input", "finer than a nano-dollar"),
        ({"model": "no model", "input": "2", "output": "3"}, "model", "is not the id of a model"),
        ({"model": NEW}, "input", "Say what to set"),
        ({"model": NEW, "input": "2", "output": "3", "fast": "much"}, "fast", "A factor such as 2"),
        ({"model": NEW, "input": "2", "output": "3", "from": "soon"}, "from", "A day such as 2026-12-01."),
        ({"model": NEW, "input": "2", "output": "3", "from": "2026-01-01"}, "sure", "That day is past"),
    ],
)
def test_the_checks_are_those_of_the_command_and_nothing_typed_is_lost(
    shared_app: Starlette, shared: Site, fields: dict[str, str], field: str | None, told: str
) -> None:
    browser = signed_in(shared_app, shared)
    answer = browser.fill("/prices/new", fields)
    assert answer.status == 422
    said = re.search(rf'<small id="h-{field}" class="bad">([^<]*)', answer.text) if field else None
    assert told in (said[1] if said is not None else answer.shown)
    for text in fields.values():
        assert f'value="{text}"' in answer.text
    assert NEW not in [one.model for one in price_list(shared).models]


def test_a_price_of_a_day_that_is_past_is_set_when_one_is_sure(app: Starlette, site: Site) -> None:
    browser = signed_in(app, site)
    fields = {"model": "claude-opus-5-5", "input": "9", "from": "2026-01-01", "sure": "yes", "source": "a letter"}
    assert browser.fill("/prices/new", fields).location == "/prices/claude-opus-5-5"
    page = browser.get("/prices/claude-opus-5-5")
    assert "from 2026-01-01" in page.shown
    assert "a letter" in page.shown
    assert prices_of(site, "claude-opus-5-5").periods[-1]["input"] == "9"
    assert "costs that already" in browser.follow(browser.post("/prices/new", fields)).shown
    assert "a letter" in browser.get("/prices").shown


def test_the_list_is_that_of_the_command(shared_app: Starlette, shared: Site) -> None:
    page = signed_in(shared_app, shared).get("/prices")
    for one in price_list(shared).models:
        row = re.search(rf'<a href="/prices/{re.escape(one.model)}">.*?</tr>', page.text)
        assert row is not None
        assert f'<td class="number">{one.input}</td>' in row[0]
        assert f'<td class="number">{one.output}</td>' in row[0]


def test_the_rule_is_set_and_said(app: Starlette, site: Site) -> None:
    browser = signed_in(app, site)
    browser.get("/prices")
    browser.post("/prices/rule", {"rule": "same-family"})
    assert price_list(site).rule == "same-family"
    assert "newest of its family" in browser.get("/prices").shown
    assert browser.post("/prices/rule", {"rule": "free"}).status == 400


def test_what_was_looked_at_is_not_booked_at_other_prices(app: Starlette, site: Site) -> None:
    browser = signed_in(app, site)
    browser.get("/recompute")
    answer = browser.post("/recompute", {"version": "an older one"})
    assert answer.status == 422
    assert "prices were changed since" in answer.shown
    assert browser.post("/recompute", {"month": "2026-13"}).status == 422
    assert browser.post("/recompute", {"tenant": "nobody"}).status == 422
    assert app.state.tasks.list() == []


def test_a_browser_without_a_session_sees_no_price(shared_app: Starlette) -> None:
    assert Browser(shared_app).get("/prices").status == 303
