"""Margins on pages: over months, by client and plan, the sums of the command; what another plan would have brought."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from starlette.applications import Starlette

from tenantry.billing.months import Month
from tenantry.control.invoicing import find_client
from tenantry.control.invoicing import issue as issue_invoice
from tenantry.control.plan_views import simulate_plan, simulate_plans, tenant_margins
from tenantry.control.site import Site
from tenantry.domain.roles import Role
from tenantry.ledger.adjustments import Scope, book_adjustments
from tenantry.web.app import control_app
from tenantry.web.pages.marks import MonthBars, month_bars
from tests.browser import Browser, add_person, signed_in
from tests.stack import wait_for
from tests.unit.billing.clock import set_clock
from tests.unit.billing.offices import OnADay, make_site
from tests.unit.ledger.books import START_US, attempt, book
from tests.unit.ledger.test_adjustments import RAW, settled, table

USD = 10**9
NOVEMBER = Month(date(2026, 11, 1))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """In December; in November the metered a used ten dollars, and c, on no plan, three."""
    folder = tmp_path_factory.mktemp("margins")
    OnADay.day = date(2026, 11, 1)
    made = make_site(folder)
    rows = [attempt(1, START_US, "tnt_a", cost_nanos=10 * USD), attempt(2, START_US, "tnt_c", cost_nanos=3 * USD)]
    book(made.engine, folder, rows)
    yield made
    made.engine.dispose()


@pytest.fixture(autouse=True)
def _december() -> Iterator[None]:
    OnADay.day = date(2026, 12, 3)
    yield
    OnADay.day = date(2026, 11, 1)


@pytest.fixture(scope="module")
def app(site: Site) -> Starlette:
    return control_app(site)


@pytest.fixture
def browser(app: Starlette, site: Site) -> Browser:
    """Who looks when everything is added up."""
    figures = app.state.figures
    wait_for(lambda: figures.history.find()[1] and figures.margins.find() is not None, 60, "the margins")
    return signed_in(app, site)


def test_a_month_has_the_sums_of_the_command(browser: Browser, site: Site) -> None:
    found, view = tenant_margins(site, NOVEMBER)
    page = browser.get("/margins?month=2026-11")
    told = re.search(r'id="margin-month"[^>]*><data class="usd" value="(-?\d+)"', page.text)
    assert told is not None
    assert int(told[1]) == view.total.now.margin_nanos == (12 + 79 - 13) * USD
    for one in found:
        row = re.search(rf'<tr><th scope="row"><a href="/tenants/{one.slug}">.*?</tr>', page.text)
        assert row is not None
        assert f'value="{one.now.margin_nanos}"' in row[0]
        assert f'value="{one.now.cost_nanos}"' in row[0]


def test_corrections_are_a_column_where_there_are_any(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = browser.get("/margins?month=2026-11").text
    assert ">Corrections<" not in bare
    assert "corrections of earlier months" not in bare
    OnADay.day = date(2026, 11, 1)
    clock, site = set_clock(monkeypatch), make_site(tmp_path)
    book(site.engine, tmp_path, [settled(1, RAW["plain"])])
    OnADay.day = date(2026, 12, 1)
    issue_invoice(site, find_client(site, "a"), NOVEMBER)
    clock.day = date(2026, 12, 10)
    assert book_adjustments(site.engine, table("v2", 2), Scope()) == 1
    OnADay.day = date(2027, 1, 5)
    [(_, now)] = [(one.slug, one.now) for one in tenant_margins(site, Month(date(2026, 12, 1)))[0] if one.slug == "a"]
    page = signed_in(control_app(site), site).get("/margins?month=2026-12")
    site.engine.dispose()
    assert now.corrections_nanos
    assert ">Corrections<" in page.text
    assert page.text.count(f'value="{now.corrections_nanos}"') >= 3, "of the client, of all, and among what they pay"
    assert "for corrections of earlier months" in page.shown
    assert "of it by corrections of earlier months" in page.shown


def test_who_costs_more_than_it_pays_comes_first(browser: Browser) -> None:
    page = browser.get("/margins?month=2026-11").text
    assert re.findall(r'<tr><th scope="row"><a href="/tenants/(\w)">', page) == ["c", "a", "b"]
    assert 'class="loss"' in page


def test_the_chart_says_each_month_and_where_the_running_one_goes(browser: Browser) -> None:
    page = browser.get("/margins")
    titles = re.findall(r"<title>(\d{4}-\d\d: [^<]*)", page.text)
    assert len(titles) == 12
    assert "2026-11: brings $91.00, costs $13.00, margin $78.00" in titles
    assert titles[-1].startswith("2026-12: ")
    assert "at its end about" in titles[-1]
    assert 'class="bar ahead"' in page.text
    of_a = browser.get("/margins?tenant=a")
    assert "2026-11: brings $12.00, costs $10.00, margin $2.00" in of_a.text


def test_months_that_are_not_added_up_yet_are_said_to_come(app: Starlette, site: Site) -> None:
    fresh = control_app(site)
    fresh.state.figures.history.find = lambda: ({}, False)
    page = signed_in(fresh, site).get("/margins")
    assert page.status == 200
    assert 'hx-get="/parts/margins"' in page.text
    assert "load it again" in page.shown


def test_plans_are_compared_as_the_command_simulates_them(browser: Browser, site: Site) -> None:
    page = browser.get("/plan-simulation?tenant=a&plan=flat&months=2")
    [(_, _, _), (_, was, then)] = simulate_plan(site, "a", "flat", 2)
    row = re.search(r'<a href="/plan-simulation\?tenant=a&amp;plan=flat&amp;months=2">.*?</tr>', page.text)
    assert row is not None
    assert f'value="{2 * 79 * USD}"' in row[0], "a flat fee for each of both months"
    last = re.search(r'<tr><th scope="row">2026-11</th>.*?</tr>', page.text)
    assert last is not None
    assert f'value="{was.revenue_nanos}"' in last[0]
    assert f'value="{then.margin_nanos}"' in last[0]
    assert "2026-11: brought $12.00, would have brought $79.00" in page.text


def test_plans_that_are_simulated_together_come_to_what_each_comes_to_alone(site: Site) -> None:
    plans = list(site.directory.list_plans())
    assert len(plans) > 1
    together = simulate_plans(site, "a", plans, 3)
    assert together == {plan: simulate_plan(site, "a", plan, 3) for plan in plans}
    assert [month for month, _, _ in together["flat"]] == ["2026-09", "2026-10", "2026-11"]
    assert together["flat"][-1][2].fixed_nanos == 79 * USD


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("tenant=a&months=99", "A number from 1 to 12."),
        ("tenant=nobody", "There is no such client."),
        ("tenant=a&plan=none", "There is no such plan."),
    ],
)
def test_what_cannot_be_simulated_is_said_beside_its_field(browser: Browser, asked: str, told: str) -> None:
    answer = browser.get(f"/plan-simulation?{asked}")
    assert answer.status == 422
    assert told in answer.shown


def test_a_month_that_is_none_is_said(browser: Browser) -> None:
    answer = browser.get("/margins?month=2026-13")
    assert answer.status == 422
    assert "A month such as 2026-10." in answer.shown


def test_who_sees_no_margin_has_no_page_of_them(app: Starlette, site: Site) -> None:
    looks = signed_in(app, site, add_person(site, "vera", Role.VIEWER))
    assert looks.get("/margins").status == 403
    assert looks.get("/plan-simulation").status == 403
    assert "/margins" not in looks.get("/plans").text


def test_bars_of_months_are_as_high_as_their_sums() -> None:
    made = month_bars(
        [MonthBars("2026-11", (50, 100), "words <b>", None), MonthBars("2026-12", (0, -3), "", (200, 1))], "of"
    )
    assert "words &lt;b&gt;" in made
    heights = [
        int(one) for one in re.findall(r'<rect class="bar[^"]*" x="\d+" y="\d+" width="10" height="(\d+)"', made)
    ]
    assert heights == [29, 59, 118, 2, 1, 1]
