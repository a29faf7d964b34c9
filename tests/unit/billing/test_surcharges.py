"""A plan's own prices bear what makes list prices dearer: fast mode, inference in the US, long prompts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from tenantry.billing.months import Month, read_month
from tenantry.billing.usage import start_us
from tenantry.control.figures.days import DaySums
from tenantry.control.figures.margins import month_margins
from tenantry.control.invoicing import find_client, issue, preview, reading_books, verify_invoices
from tenantry.control.plan_views import simulate_plan, tenant_margins
from tenantry.control.site import Site
from tenantry.domain.plans import PRICED_TOKENS, Terms, read_terms
from tenantry.domain.price_terms import usd_per_million
from tenantry.domain.prices import load_default_prices
from tenantry.domain.surcharges import AT_LIST_PRICE, SURCHARGES, extra_tokens
from tenantry.domain.usage import Iteration, Usage, read_usage
from tenantry.storage.billing_tables import plan_versions
from tenantry.storage.directory.plans import Agreed
from tenantry.storage.tables import price_changes
from tests.unit.billing.offices import USD, on_day
from tests.unit.ledger.books import Attempt, attempt, book

PRICES = load_default_prices()
NOVEMBER, DECEMBER = read_month("2026-11"), read_month("2026-12")
AT = datetime(2026, 11, 2, tzinfo=UTC)
OPUS, HAIKU = "claude-opus-5-5", "claude-haiku-5-5"
RAW: dict[str, dict[str, Any]] = {
    "plain": {"input_tokens": 1000, "output_tokens": 10},
    "fast in the US": {"input_tokens": 1000, "output_tokens": 10, "speed": "fast", "inference_geo": "us"},
    "long in the US": {"input_tokens": 100_001, "output_tokens": 10, "inference_geo": "us"},
}


def at_list_price(*models: str) -> dict[str, dict[str, str]]:
    """Own prices that are the usual list prices."""
    names = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
    found = {model: PRICES.find_terms(model, AT) for model in models}
    return {
        model: dict(zip(names, map(usd_per_million, terms.rates), strict=True))
        for model, terms in found.items()
        if terms is not None
    }


def use(site: Site, folder: Path, *some: tuple[str, str]) -> int:
    """Attempts (what, model) of November at list price, which is their sum."""
    found: list[Attempt] = []
    for number, (what, model) in enumerate(some):
        usage = read_usage(RAW[what])
        cost = PRICES.price(usage, model, AT).cost_nanos
        end: dict[str, Any] = {
            "usage": usage,
            "usage_raw": json.dumps(RAW[what]),
            "cost_nanos": cost,
            "model_served": model,
        }
        found.append(attempt(number, price_version=PRICES.version, **end))
    book(site.engine, folder, found)
    return sum(end.cost_nanos or 0 for _, end in found)


def document(site: Site, month: Month = NOVEMBER) -> dict[str, Any]:
    with reading_books(site) as books:
        return dict(preview(site, books, find_client(site, "a"), month).document)


def lines(site: Site, month: Month = NOVEMBER) -> list[tuple[str, str, int]]:
    return [(line["kind"], line["text"], line["nanos"]) for line in document(site, month)["lines"]]


def on_own(site: Site, terms: Terms, from_day: date = date(2026, 11, 1)) -> None:
    site.directory.set_plan("own", terms)
    site.directory.assign_plan("a", Agreed("own", from_day))


usages = st.builds(
    Usage,
    *[st.integers(0, 10**6)] * 5,
    speed=st.sampled_from(["standard", "fast"]),
    inference_geo=st.sampled_from(["global", "us"]),
)


@given(usages, st.sampled_from([OPUS, HAIKU, "claude-opus-4-8", "claude-haiku-4-5", "claude-sonnet-5-5"]))
def test_the_usual_list_price_and_its_surcharges_are_the_list_price(usage: Usage, model: str) -> None:
    priced, terms = PRICES.price(usage, model, AT).cost_nanos, PRICES.find_terms(model, AT)
    if priced is None:  # fast mode where there is none
        return
    assert terms is not None
    extra = extra_tokens(usage, model, AT, PRICES)
    each: dict[str, int] = dict(zip(PRICED_TOKENS, terms.rates, strict=True))
    whole = sum(getattr(usage, name) * each[name] for name in PRICED_TOKENS)
    whole += sum(tokens * each[column] for (_, _, column), tokens in extra.items())
    assert abs(whole - priced) * 2 <= 1
    assert {kind for kind, _, _ in extra} <= set(SURCHARGES)


steps = st.builds(
    Iteration,
    st.sampled_from(["message", "compaction", "advisor_message", "fallback_message"]),
    st.sampled_from([None, OPUS, HAIKU]),
    *[st.integers(0, 200_000)] * 5,
)


@given(usages, st.lists(steps, min_size=1, max_size=5), st.booleans())
def test_what_steps_cost_at_the_usual_list_prices_is_what_they_are_booked_at(
    usage: Usage, some: list[Iteration], is_refused: bool
) -> None:
    usage.iterations = tuple(some)
    if usage.speed == "fast":  # of this model alone there is a price in fast mode
        usage.iterations = tuple(one for one in some if one.model != HAIKU) or (replace(some[0], model=OPUS),)
    priced = PRICES.price(usage, OPUS, AT, stop_reason="refusal" if is_refused else "end_turn").cost_nanos
    assert priced is not None
    rates: dict[tuple[str, str], int] = {}
    for model in (OPUS, HAIKU):
        terms = PRICES.find_terms(model, AT)
        assert terms is not None
        rates |= {(model, column): rate for column, rate in zip(PRICED_TOKENS, terms.rates, strict=True)}
    whole = Fraction(sum(getattr(usage, name) * rates[OPUS, name] for name in PRICED_TOKENS))
    for (_, model, column), tokens in extra_tokens(usage, OPUS, AT, PRICES, is_refused=is_refused).items():
        whole += tokens * rates[model, column] if column != AT_LIST_PRICE else 0
    assert abs(whole - priced) * 2 <= 1


def test_steps_bear_each_their_own_and_an_advisor_is_never_fast() -> None:
    raw = {
        "input_tokens": 900,
        "output_tokens": 0,
        "speed": "fast",
        "iterations": [
            {"type": "advisor_message", "model": OPUS, "input_tokens": 5000, "output_tokens": 300},
            {"type": "message", "model": OPUS, "input_tokens": 300, "output_tokens": 0},
            {"type": "message", "input_tokens": 600, "output_tokens": 0},
        ],
    }
    assert extra_tokens(read_usage(raw), OPUS, AT, PRICES) == {
        ("steps", OPUS, "input_tokens"): 5000,
        ("steps", OPUS, "output_tokens"): 300,
        ("steps", OPUS, AT_LIST_PRICE): 5000 * 4000 + 300 * 20_000 + 900 * 8000,
        ("fast", OPUS, "input_tokens"): 900,
    }


ADVISED: dict[str, Any] = {
    "input_tokens": 100,
    "output_tokens": 50,
    "iterations": [
        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500},
        {"type": "message", "input_tokens": 100, "output_tokens": 50},
        {"type": "advisor_message", "model": "claude-fable-5-2", "input_tokens": 100_000, "output_tokens": 8000},
    ],
}


@pytest.mark.parametrize("included", [0, 75])
def test_summaries_and_advice_are_billed_beside_the_tokens_of_the_answer(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, included: int
) -> None:
    """They stand in no column of the row, and the agency pays for them: advice at list price, it has no own one."""
    monkeypatch.setitem(RAW, "advised", ADVISED)
    on_own(site, Terms(prices=at_list_price(HAIKU, OPUS), included_tokens=included))
    cost = use(site, tmp_path, ("advised", OPUS))
    of_steps = 180_000 * 4000 + 3500 * 20_000 + 100_000 * 8000 + 8000 * 40_000
    share = 2 if included else 1
    assert [nanos for _, _, nanos in lines(site)] == [1_400_000 // share, of_steps // share]
    assert sum(nanos for _, _, nanos in lines(site)) == cost // share


def test_what_was_declined_before_any_output_is_not_billed(site: Site, tmp_path: Path) -> None:
    on_own(site, Terms(prices=at_list_price(OPUS)))
    raw = {"input_tokens": 1000, "output_tokens": 0, "server_tool_use": {"web_search_requests": 2}}
    declined: dict[str, Any] = {"usage": read_usage(raw), "usage_raw": json.dumps(raw), "model_served": OPUS}
    declined |= {"cost_nanos": 0, "stop_reason": "refusal"}
    book(site.engine, tmp_path, [attempt(1, price_version=PRICES.version, **declined)])
    assert lines(site) == [
        ("usage", "Usage of claude-opus-5-5", 4_000_000),
        ("surcharge", "Answers of claude-opus-5-5 declined before any output", -4_000_000),
    ]
    assert document(site)["net_minor"] == 0


def test_a_bill_at_own_prices_that_are_list_prices_is_the_list_price_and_tells_surcharges_apart(
    site: Site, tmp_path: Path
) -> None:
    on_own(site, Terms(prices=at_list_price(OPUS, HAIKU)))
    cost = use(site, tmp_path, ("plain", OPUS), ("fast in the US", OPUS), ("long in the US", HAIKU))
    assert lines(site) == [
        ("usage", "Usage of claude-haiku-5-5", 100_001 * 100 + 10 * 500),
        ("surcharge", "Usage of claude-haiku-5-5 with long prompts, surcharge", 4 * (100_001 * 100 + 10 * 500)),
        ("surcharge", "Inference of claude-haiku-5-5 in the US, surcharge", (100_001 * 100 + 10 * 500) // 2),
        ("usage", "Usage of claude-opus-5-5", 2 * (1000 * 4000 + 10 * 20_000)),
        ("surcharge", "Usage of claude-opus-5-5 in fast mode, surcharge", 1000 * 4000 + 10 * 20_000),
        ("surcharge", "Inference of claude-opus-5-5 in the US, surcharge", (1000 * 4000 + 10 * 20_000) // 5),
    ]
    told = document(site)
    assert told["net_nanos"] == cost == sum(line["list_nanos"] for line in told["lines"])
    of_a = next(one for one in tenant_margins(site, NOVEMBER)[1].tenants if one.tenant == "a")
    assert (of_a.now.metered_nanos, of_a.now.cost_nanos, of_a.now.margin_nanos) == (cost, cost, 0)


def test_beyond_the_included_surcharges_are_billed_in_the_same_proportion(site: Site, tmp_path: Path) -> None:
    on_own(site, Terms(prices=at_list_price(OPUS), included_tokens=1010))
    use(site, tmp_path, ("plain", OPUS), ("fast in the US", OPUS))
    assert [(kind, nanos) for kind, _, nanos in lines(site)] == [
        ("beyond", 4_200_000),
        ("beyond", 4_200_000 // 2),
        ("beyond", 4_200_000 // 10),
    ]


def test_a_plan_that_says_so_bears_none(site: Site, tmp_path: Path) -> None:
    on_own(site, Terms(prices=at_list_price(OPUS), surcharges=False))
    use(site, tmp_path, ("fast in the US", OPUS))
    assert lines(site) == [("usage", "Usage of claude-opus-5-5", 4_200_000)]
    site.directory.set_plan("own", Terms(fee_nanos=USD, prices=at_list_price(OPUS)))
    assert not site.directory.list_plans()["own"].bears_surcharges, "what is not said stays"


def as_of_old(site: Site) -> None:
    """The versions of plans as a store has them that was made before surcharges could be said."""
    with site.engine.begin() as connection:
        for row in connection.execute(select(plan_versions)).all():
            stored = {name: value for name, value in json.loads(row.terms).items() if name != "surcharges"}
            here = plan_versions.c.version_id == row.version_id
            connection.execute(update(plan_versions).where(here).values(terms=json.dumps(stored)))


def test_an_older_version_of_a_plan_keeps_its_meaning_and_a_newer_one_bears_them_from_its_day(
    site: Site, tmp_path: Path
) -> None:
    on_own(site, Terms(prices=at_list_price(OPUS)))
    as_of_old(site)
    use(site, tmp_path, ("fast in the US", OPUS))
    on_day(site, date(2026, 12, 1))
    before = issue(site, find_client(site, "a"), NOVEMBER).document
    assert [line["nanos"] for line in before["lines"]] == [4_200_000]
    newest = site.directory.list_plans()["own"]
    assert newest.surcharges is False
    site.directory.set_plan("own", replace(newest, surcharges=True), date(2026, 12, 1))
    on_day(site, date(2027, 1, 1))
    assert lines(site, DECEMBER) == [], "nothing of November is billed again"
    assert verify_invoices(site)[1] == []
    assert site.directory.list_invoices("a")[0].document == before


@pytest.mark.parametrize(("stored", "bears"), [({"prices": {}}, True), ({"prices": at_list_price(OPUS)}, False)])
def test_own_prices_that_come_to_an_old_plan_bear_them_and_those_that_were_there_do_not(
    stored: dict[str, Any], bears: bool
) -> None:
    assert replace(read_terms(stored), prices=at_list_price(OPUS)).bears_surcharges is bears


def test_a_price_that_is_set_later_changes_no_surcharge_of_what_was_booked(site: Site, tmp_path: Path) -> None:
    on_own(site, Terms(prices=at_list_price(OPUS)))
    use(site, tmp_path, ("fast in the US", OPUS))
    before = lines(site)
    terms = json.dumps(at_list_price(OPUS)[OPUS] | {"fast_multiplier": "9"})
    set_price = {"model": OPUS, "from_day": "2026-11-01", "terms": terms, "source": "", "actor": "test"}
    with site.engine.begin() as connection:
        connection.execute(price_changes.insert().values(created_at=AT, **set_price))
    assert lines(site) == before


def test_usage_that_is_tried_on_a_plan_with_own_prices_bears_them_too(site: Site, tmp_path: Path) -> None:
    site.directory.set_plan("own", Terms(prices=at_list_price(OPUS)))
    cost = use(site, tmp_path, ("fast in the US", OPUS))
    on_day(site, date(2026, 12, 1))
    ((_, _, would_be),) = simulate_plan(site, "a", "own", 1)
    assert would_be.metered_nanos == cost


def test_a_row_at_the_first_instant_of_a_month_or_of_other_terms_bears_its_surcharge_there(
    site: Site, tmp_path: Path
) -> None:
    on_own(site, Terms(prices=at_list_price(OPUS)))
    twice = {OPUS: {name: str(2 * float(price)) for name, price in at_list_price(OPUS)[OPUS].items()}}
    site.directory.set_plan("own", Terms(prices=twice), date(2026, 11, 15))
    fast = RAW["fast in the US"]
    end: dict[str, Any] = {"usage": read_usage(fast), "usage_raw": json.dumps(fast), "model_served": OPUS}
    cost = PRICES.price(end["usage"], OPUS, AT).cost_nanos
    starts = [start_us(day, site.settings.zone) for day in (date(2026, 11, 1), date(2026, 11, 15), date(2026, 12, 1))]
    moments = [*(moment for start in starts for moment in (start - 1, start)), starts[1]][1:]
    some = [
        attempt(number, at_us, price_version=PRICES.version, cost_nanos=cost, **end)
        for number, at_us in enumerate(moments)
    ]
    book(site.engine, tmp_path, some)
    of_one, on_one = 4_200_000, [4_200_000, 420_000 * 2]
    assert [nanos for _, _, nanos in lines(site)] == [
        *(2 * of_one, *(2 * nanos for nanos in on_one)),
        *(6 * of_one, *(6 * nanos for nanos in on_one)),
    ]
    assert [nanos for _, _, nanos in lines(site, DECEMBER)] == [2 * of_one, *(2 * nanos for nanos in on_one)]


def test_a_row_bears_what_its_own_version_of_the_prices_says(site: Site, tmp_path: Path) -> None:
    on_own(site, Terms(prices=at_list_price(OPUS)))
    terms = json.dumps(at_list_price(OPUS)[OPUS] | {"fast_multiplier": "3", "us_inference": False})
    set_price = {"model": OPUS, "from_day": "2026-11-01", "terms": terms, "source": "", "actor": "test"}
    with site.engine.begin() as connection:
        connection.execute(price_changes.insert().values(created_at=AT, **set_price))
    fast = RAW["fast in the US"]
    end: dict[str, Any] = {"usage": read_usage(fast), "usage_raw": json.dumps(fast), "model_served": OPUS}
    versions = [PRICES.version, f"{PRICES.version}+1"]
    some = [attempt(number, price_version=version, **end) for number, version in enumerate(versions)]
    book(site.engine, tmp_path, some)
    assert [nanos for _, _, nanos in lines(site)] == [2 * 4_200_000, (1 + 2) * 4_200_000, 840_000]


def test_a_page_tells_the_margin_also_where_a_clock_ran_ahead(site: Site, tmp_path: Path) -> None:
    """Days to come are not among the sums that pages remember; nothing of a row is billed there, and no surcharge."""
    on_own(site, Terms(prices=at_list_price(OPUS)))
    ahead = read_month("2126-11")
    fast = RAW["fast in the US"]
    end: dict[str, Any] = {"usage": read_usage(fast), "usage_raw": json.dumps(fast), "model_served": OPUS}
    at_us = start_us(ahead.first, site.settings.zone)
    book(site.engine, tmp_path, [attempt(1, at_us, price_version=PRICES.version, **end)])
    assert month_margins(site, ahead, DaySums(site.settings.zone)).now.metered_nanos == 0
    assert month_margins(site, ahead).now.metered_nanos == 2 * 4_200_000 + 840_000
