"""A scenario says who waits, who is refused and what it costs; a larger limit helps whom it was too small for."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from tenantry.domain.prices import load_default_prices
from tenantry.simulation.advice import advise
from tenantry.simulation.capacity import Planning, plan_capacity
from tenantry.simulation.figures import SLOTS
from tenantry.simulation.page import render_page
from tenantry.simulation.plot import bars, plot
from tenantry.simulation.scenario import Fleet, Scenario, read_scenario

PRICES = load_default_prices()
EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "simulate.toml"


def scenario(tenant: str = "", traffic: str = "", organization: str = "", days: float = 0.1) -> Scenario:
    """One tenant, `acme`, with lines of its own."""
    return read_scenario(
        f"""
        [simulation]
        days = {days}
        [organizations.agency]
        first_byte_ms = 1000
        first_byte_spread = 0
        {organization}
        [tenants.acme]
        {tenant}
        [[tenants.acme.traffic]]
        spread = 0
        prompt_tokens = 1000
        answer_tokens = 350
        {traffic}
        """.encode()
    )


def test_what_fits_is_served_without_a_wait_and_costs_what_the_prices_say() -> None:
    figures = plan_capacity(scenario(traffic="requests_per_hour = 30"), PRICES)
    acme = figures.tenants["acme"]
    assert acme.asked == acme.served > 40
    assert acme.wait(1.0) == 0.0
    each = PRICES.quote("claude-haiku-5-5", 1000, 1_796_600_000_000_000)
    assert acme.cost_nanos == acme.served * (1000 * each.input_nanos + 350 * each.output_nanos)
    assert figures.first is None


def test_too_few_sessions_make_a_queue_and_are_named_first() -> None:
    # 0.5 requests a second of some 6 seconds each want three sessions, and have two.
    figures = plan_capacity(
        scenario("limits = { sessions_max = 2, requests_per_minute = 6000 }", "requests_per_hour = 1800"), PRICES
    )
    acme, first = figures.tenants["acme"], figures.first
    assert first is not None
    assert (first.limit, first.whose) == ("sessions_max", "acme")
    assert acme.wait(0.99) > 1.0
    assert acme.refusals["sessions_max"] > 0
    assert figures.uses["sessions_max", "tenant", "acme"].peak == 1.0


def test_advice_is_what_another_run_shows_and_more_sessions_help() -> None:
    tight = scenario("limits = { sessions_max = 2, requests_per_minute = 6000 }", "requests_per_hour = 1800", days=0.03)
    figures = plan_capacity(tight, PRICES)
    advice = advise(tight, figures, PRICES)[0]
    again = plan_capacity(tight.with_limits("acme", {"sessions_max": 5}), PRICES).tenants["acme"]
    assert advice.helps
    assert advice.what == "acme: 2 → 5 sessions"
    assert (advice.wait_after, advice.refused_after) == (again.wait(0.99), again.refused)
    assert "p99 wait" in str(advice)


def test_a_hard_budget_refuses_what_does_not_fit_and_is_never_passed() -> None:
    figures = plan_capacity(scenario('budget = { day = "0.02" }', "requests_per_hour = 60"), PRICES)
    acme = figures.tenants["acme"]
    assert acme.refusals["budget_day"] > 0
    assert acme.cost_nanos <= 20_000_000
    assert any(one.scope == "budget" for one in figures.ranked)


def test_an_organization_that_is_not_declared_is_learned_and_one_that_is_is_never_asked_for_more() -> None:
    limits = "requests_per_minute = 20"
    traffic = "requests_per_hour = 1800"
    wide = "limits = { sessions_max = 100, requests_per_minute = 6000 }"
    learned = plan_capacity(scenario(wide, traffic, f"{limits}\ndeclared = false"), PRICES)
    declared = plan_capacity(scenario(wide, traffic, limits), PRICES)
    assert declared.upstream_refusals["agency"] == 0
    # One answer, or one refusal, tells the limit; from then on few are sent in vain.
    assert learned.upstream_refusals["agency"] < 0.05 * learned.requests
    first = declared.first
    assert first is not None
    assert (first.scope, first.limit) == ("upstream", "requests_per_minute")


def test_traffic_of_one_tenant_is_the_same_whatever_others_do() -> None:
    alone = scenario(traffic="requests_per_hour = 100")
    crowded = replace(alone, tenants={**alone.tenants, "globex": alone.tenants["acme"]})
    assert (
        plan_capacity(alone, PRICES).tenants["acme"].asked_in == plan_capacity(crowded, PRICES).tenants["acme"].asked_in
    )


def test_offices_sleep_at_night_and_bursts_come_at_once() -> None:
    day = replace(scenario(traffic='shape = "office"\nrequests_per_hour = 200', days=1.0))
    asked = plan_capacity(day, PRICES).tenants["acme"].asked_in
    assert sum(asked[: SLOTS // 4]) == 0  # before six
    assert sum(asked) > 1_000
    burst = scenario(traffic='shape = "bursts"\nburst_requests = 30\nburst_minutes = 30', days=0.5)
    assert plan_capacity(burst, PRICES).tenants["acme"].asked % 30 == 0


def test_everything_is_given_back_at_the_end() -> None:
    tight = read_scenario(EXAMPLE.read_bytes()).with_limits("acme", {"sessions_max": 1})
    planning = Planning(replace(tight, days=0.2), PRICES)
    planning.run()
    assert not planning.gateway.calls
    assert planning.gateway.lanes.in_flight() == planning.gateway.till.held_nanos() == 0


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href") or "://" in str(value)]


def test_the_report_fetches_nothing_follows_light_and_dark_and_escapes_names() -> None:
    one = scenario(traffic="requests_per_hour = 30")
    figures = plan_capacity(one, PRICES)
    figures.tenants["acme"].slug = "<b>"
    page = render_page(one, figures, [])
    links = _Links()
    links.feed(page)
    assert links.fetched == []
    assert "<b>" not in page
    assert "prefers-color-scheme:dark" in page
    assert "url(" not in page


def test_figures_are_plain_json_and_the_plot_fits_a_terminal() -> None:
    figures = plan_capacity(scenario(traffic="requests_per_hour = 30"), PRICES)
    assert json.loads(json.dumps(figures.as_json()))["tenants"][0]["tenant"] == "acme"
    assert all(len(line) <= 80 or "peak" in line for line in plot(figures))
    assert bars([0, 1, 2, 4], 4) == " ▃▅█"


def test_where_one_limit_stands_behind_another_advice_tells_what_both_do() -> None:
    example = read_scenario(EXAMPLE.read_bytes())
    tight = replace(example, days=0.2, tenants={"acme": example.tenants["acme"]})
    advice = advise(tight, plan_capacity(tight, PRICES), PRICES)
    assert advice[-1].what == "all of these together"
    assert advice[-1].refused_after < min(one.refused_after for one in advice[:-1])


def test_a_limit_that_refused_somebody_was_full_whatever_was_sampled() -> None:
    own = "limits = { sessions_max = 50, requests_per_minute = 1, request_burst = 1, queue_wait_ms_max = 0 }"
    figures = plan_capacity(scenario(own, 'shape = "bursts"\nburst_requests = 5\nburst_minutes = 60'), PRICES)
    assert figures.tenants["acme"].refusals["requests_per_minute"] > 0
    assert figures.uses["requests_per_minute", "tenant", "acme"].peak == 1.0


def of_gateways(gateways: int, balancer: str) -> Scenario:
    """Two tenants that ask twice a minute, at so many gateways."""
    wide = scenario('budget = { day = "5" }', "requests_per_hour = 120")
    both = replace(wide, tenants={**wide.tenants, "globex": wide.tenants["acme"]})
    return replace(both, fleet=Fleet(gateways, balancer))


def test_gateways_that_share_their_tenants_serve_what_one_does_and_a_balancer_by_tenant_saves_the_hop() -> None:
    alone = plan_capacity(of_gateways(1, "tenant"), PRICES)
    sprayed = plan_capacity(of_gateways(3, "any"), PRICES)
    hashed = plan_capacity(of_gateways(3, "tenant"), PRICES)
    assert alone.fleet is None
    assert alone.tenants["acme"].served == sprayed.tenants["acme"].served == hashed.tenants["acme"].served
    assert sprayed.fleet is not None
    assert hashed.fleet is not None
    # Two of three gateways are not the tenant's.
    assert 60 < sprayed.fleet["passed_on_percent"] < 73
    # Both draw on one organization, so they have one owner; the balancer sends one of them to another gateway at most.
    assert hashed.fleet["passed_on_percent"] < 55


def test_what_the_store_is_asked_for_is_counted_by_kind() -> None:
    fleet = plan_capacity(of_gateways(4, "any"), PRICES).fleet
    assert fleet is not None
    rates = fleet["store_statements_per_second"]
    assert abs(rates["renew"] - 4 / 3) < 0.05  # each renews ten times in thirty seconds
    assert rates["poll"] == 8
    assert rates["look"] > 0  # at the three that are not the tenant's
    assert {"open", "take"} <= {*rates}
    assert fleet["store_wait_p99_seconds"] < 0.1
