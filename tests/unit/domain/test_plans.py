"""Terms that contradict each other are refused; what was set from a day on counts until the next; own prices."""

from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.domain.plans import (
    EXAMPLE_PLANS,
    SEARCHES,
    SEARCHES_USD,
    BadTerms,
    Dated,
    Terms,
    check_terms,
    day_of_change,
    in_force,
    on_day,
    own_prices,
    read_price_table,
    read_terms,
)
from tenantry.domain.prices import load_default_prices

FIVE = {"input": "2", "cache_write_5m": "2.50", "cache_write_1h": "4", "cache_read": "0.2", "output": "9"}
FREE_SEARCHES = FIVE | {"web_search_per_1000": "0"}


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        (Terms(included_nanos=1, included_tokens=1), "included_usd and included_tokens"),
        (Terms(fair_use=True, included_nanos=1), "one way only"),
        (Terms(fair_use=True, overage="throttle"), "throttle_tier belong together"),
        (Terms(throttle_tier="slow"), "belong together"),
        (Terms(overage="block"), "needs included_usd"),
        (Terms(byok=True, markup_percent="5"), "byok"),
        (Terms(service_fee_percent="5"), "for byok"),
        (Terms(extra_slot_nanos=1), "needs slots"),
        (Terms(discount_percent="101"), "at most 100"),
        (Terms(discount_until="2027-01-01"), "needs discount_percent"),
    ],
)
def test_terms_that_contradict_each_other_are_refused_by_name(terms: Terms, told: str) -> None:
    with pytest.raises(BadTerms, match=told):
        check_terms(terms)


def test_the_example_plans_are_good_and_have_five_and_ten_slots() -> None:
    for terms in EXAMPLE_PLANS.values():
        check_terms(terms)
        assert read_terms(terms.as_json()) == terms
    assert [terms.slots for terms in EXAMPLE_PLANS.values()] == [5, 10]


def test_what_is_told_of_terms_reads_back_as_the_same_terms() -> None:
    terms = Terms(fee_nanos=5, prices={"claude-haiku-*": FIVE}, discount_percent="10", changes="next_month")
    assert read_terms(terms.told()) == terms
    assert set(Terms().told()) == {"fee_nanos", "included_nanos", "markup_percent", "slots"}


days = st.dates(date(2026, 1, 1), date(2026, 3, 31))


@given(st.lists(days), days)
def test_on_each_day_counts_what_was_set_last_for_it(set_on: list[date], day: date) -> None:
    changes = [Dated(None, -1), *(Dated(one, number) for number, one in enumerate(set_on))]
    assert on_day(in_force(changes), day) == max(
        (number for number, one in enumerate(set_on) if one <= day), default=-1
    )


def test_before_the_first_nothing_counts() -> None:
    assert on_day(in_force([Dated(date(2026, 5, 1), "a")]), date(2026, 4, 30)) is None


@pytest.mark.parametrize(
    ("rule", "today", "day"),
    [
        ("prorated", date(2026, 11, 24), date(2026, 11, 24)),
        ("next_month", date(2026, 11, 24), date(2026, 12, 1)),
        ("next_month", date(2026, 12, 2), date(2027, 1, 1)),
        ("next_month", date(2026, 12, 1), date(2026, 12, 1)),
    ],
)
def test_a_change_counts_from_the_day_that_the_plan_says(rule: str, today: date, day: date) -> None:
    assert day_of_change(rule, today) == day


def test_a_models_own_price_goes_before_a_pattern_and_the_longest_pattern_before_the_others() -> None:
    table = {"claude-*": FIVE, "claude-haiku-*": FIVE | {"input": "1"}, "claude-haiku-5-5": FIVE | {"input": "0.5"}}
    terms = Terms(prices=read_price_table(table))

    def input_of(model: str) -> Fraction | None:
        found = own_prices(terms, model)
        return found["input_tokens"] if found is not None else None

    assert input_of("claude-haiku-5-5-20261001") == 500
    assert input_of("claude-haiku-4") == 1000
    assert input_of("claude-opus-6") == 2000
    assert input_of("gpt") is None


def test_searches_are_at_list_price_where_a_table_names_none() -> None:
    assert int(SEARCHES_USD) * 1_000_000 == load_default_prices().web_search_nanos
    found = [own_prices(Terms(prices=read_price_table({"m": table})), "m") for table in (FIVE, FREE_SEARCHES)]
    assert [one[SEARCHES] for one in found if one is not None] == [10_000_000, 0]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"a*b": FIVE}, "no model's id"),
        ({"": FIVE}, "no model's id"),
        ({"a": {**FIVE, "thoughts": "1"}}, "no price 'thoughts'"),
        ({"a": {**FIVE, "output": "1e3"}}, "dollars in quotes"),
        ({"a": {"input": "1"}}, "needs cache_write_5m"),
    ],
)
def test_a_price_table_that_would_give_something_away_is_refused(table: dict[str, dict[str, str]], told: str) -> None:
    with pytest.raises(BadTerms, match=told):
        read_price_table(table)
