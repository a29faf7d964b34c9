"""Plans on pages: terms are set as the command sets them, and which of them count today is said."""

from __future__ import annotations

import re
from datetime import date, timedelta

import pytest
from starlette.applications import Starlette

from tenantry.control.site import Site
from tenantry.domain.plans import Terms
from tests.browser import Browser, signed_in

OWN = Terms(prices={"*": {"input_usd": "10", "output_usd": "50"}})


@pytest.fixture
def browser(app: Starlette, site: Site) -> Browser:
    return signed_in(app, site)


def fields(browser: Browser, path: str) -> dict[str, str]:
    """What the form of a page would send as it stands."""
    text = browser.get(path).text
    found = dict(re.findall(r'<input id="f-\w+" name="(\w+)" type="\w+" value="([^"]*)"', text))
    ticked = dict.fromkeys(re.findall(r'type="checkbox" name="(\w+)" value="yes" checked', text), "yes")
    chosen = re.findall(r'<select id="f-(\w+)".*?<option value="(\w+)" selected', text, re.DOTALL)
    return found | ticked | dict(chosen)


def newest(site: Site, name: str) -> Terms:
    return site.directory.list_plan_versions(name)[-1].terms


def test_surcharges_on_own_prices_are_shown_and_set(browser: Browser, site: Site) -> None:
    site.directory.set_plan("own", OWN)
    before = fields(browser, "/plans/own")
    assert before["surcharges"] == "yes"
    assert browser.post("/plans/own", before).status == 303
    assert len(site.directory.list_plan_versions("own")) == 1, "nothing was changed"
    assert browser.post("/plans/own", before | {"surcharges": "no"}).status == 303
    assert newest(site, "own").surcharges is False
    after = fields(browser, "/plans/own")
    assert after["surcharges"] == "no"
    assert browser.post("/plans/own", {name: one for name, one in after.items() if name != "surcharges"}).status == 303
    assert newest(site, "own").surcharges is False, "a page without the field changes nothing of it"
    answer = browser.post("/plans/own", after | {"surcharges": "perhaps", "fee_usd": "7"})
    assert answer.status == 422
    assert 'value="7"' in answer.text


def test_a_plan_without_own_prices_is_not_asked_for_surcharges(browser: Browser, site: Site) -> None:
    site.directory.set_plan("listed", Terms())
    assert "surcharges" not in fields(browser, "/plans/listed")
    assert browser.post("/plans/listed", fields(browser, "/plans/listed") | {"surcharges": "no"}).status == 303
    assert newest(site, "listed").surcharges is None


def test_versions_say_which_counts_today(browser: Browser, site: Site) -> None:
    today = site.directory.today()
    days: list[date | None] = [None, today - timedelta(2), today + timedelta(30), today + timedelta(20)]
    for fee, day in enumerate(days):
        site.directory.set_plan("dated", Terms(fee_nanos=fee * 10**9), day)
    shown = re.findall(
        r'<h3>From (?:the beginning|[\d-]+) <span class="badge \w*">([^<]*)', browser.get("/plans/dated").text
    )
    assert shown == ["to come", "replaced", "counts today", "over"]
