"""Prices over time: what an operator sets counts from its day on, and what was before stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.domain.price_terms import (
    TOKEN_CLASSES,
    BadPriceTable,
    PriceChange,
    as_document,
    read_terms,
    relative_of,
)
from tenantry.domain.prices import PROVISIONAL, PriceTable, load_default_prices
from tenantry.domain.usage import Iteration, Usage

PRICES = load_default_prices()
AT = datetime(2026, 11, 29, tzinfo=UTC)
ROW = {"input": "2", "cache_write_5m": "2.5", "cache_write_1h": "4", "cache_read": "0.2", "output": "10"}
# Reference 5.6.
MODELS = [
    "claude-fable-5-2",
    "claude-mythos-5-2",
    "claude-haiku-5-5",
    "claude-sonnet-5-5",
    "claude-fable-5-1",
    "claude-opus-5-5",
    "claude-mythos-5-1",
    "claude-sonnet-5",
    "claude-fable-5",
    "claude-mythos-5",
    "claude-opus-5",
    "claude-opus-4-8",
    "claude-opus-4-7",
    "claude-mythos-preview",
    "claude-opus-4-6",
    "claude-sonnet-4-6",
    "claude-haiku-4-5",
    "claude-haiku-4-5-20251001",
    "claude-opus-4-5",
    "claude-opus-4-5-20251101",
    "claude-sonnet-4-5",
    "claude-sonnet-4-5-20250929",
]


def row(dollars: str) -> dict[str, str]:
    return dict.fromkeys(TOKEN_CLASSES, dollars)


def after(*changes: PriceChange, rule: bool = False) -> PriceTable:
    return PRICES.changed("test", changes, rule)


def cost(table: PriceTable, model: str, day: str, usage: Usage = Usage(1_000_000)) -> int | None:  # noqa: B008 -- a value
    return table.price(usage, model, datetime.fromisoformat(day).replace(tzinfo=UTC)).cost_nanos


def test_every_model_of_the_reference_has_a_price_or_a_reason_for_having_none() -> None:
    assert [model for model in MODELS if PRICES.of(model) is None and not PRICES.unpriced.get(model)] == []


def test_a_price_counts_from_its_day_on_and_never_before() -> None:
    first = PriceChange("claude-sonnet-5", date(2026, 12, 1), row("3"))
    second = PriceChange("claude-sonnet-5", date(2026, 12, 24), row("4"))
    for changes in ((first, second), (second, first)):
        table = after(*changes)
        days = ("2026-11-30T23:59:59", "2026-12-01", "2026-12-23T23:59:59", "2026-12-24")
        assert [cost(table, "claude-sonnet-5", day) for day in days] == [2 * 10**9, 3 * 10**9, 3 * 10**9, 4 * 10**9]
    assert cost(PRICES, "claude-sonnet-5", "2026-12-24") == 2 * 10**9  # the table that shipped stays as it is


def test_of_two_prices_for_one_day_the_later_one_counts() -> None:
    day = date(2026, 12, 1)
    table = after(PriceChange("claude-sonnet-5", day, row("30")), PriceChange("claude-sonnet-5", day, row("3")))
    assert cost(table, "claude-sonnet-5", "2026-12-02") == 3 * 10**9


def test_a_price_before_one_that_ships_with_a_date_takes_its_place() -> None:
    table = after(PriceChange("claude-sonnet-5-5", date(2026, 10, 1), row("1")))
    read = Usage(cache_read_tokens=1_000_000)
    days = ("2026-09-30", "2026-10-01", "2026-10-08")
    assert [cost(table, "claude-sonnet-5-5", day, read) for day in days] == [200_000_000, 10**9, 10**9]


def test_the_first_price_of_a_new_model_counts_from_the_beginning() -> None:
    table = after(PriceChange("claude-opus-6", date(2026, 12, 1), row("6")))
    assert cost(table, "claude-opus-6", "2026-11-01") == 6 * 10**9
    assert cost(table, "claude-opus-6-20261130", "2026-12-02") == 6 * 10**9


def test_a_table_that_becomes_another_answers_as_the_other_at_once() -> None:
    table = after()
    at_us = int(AT.timestamp() * 1_000_000)
    before = (table.quote("claude-opus-6", 5, at_us), table.quote("claude-sonnet-5", 5, at_us))
    other = after(
        PriceChange("claude-opus-6", date(2026, 1, 1), row("6")), PriceChange("claude-sonnet-5", AT.date(), row("9"))
    )
    table.become(replace_version(other))
    assert (before[0].is_known, before[1].input_nanos, before[1].output_nanos) == (False, 2000, 10_000)
    assert table.quote("claude-opus-6", 5, at_us).held_input_nanos == 6600
    assert table.quote("claude-sonnet-5", 5, at_us).read_nanos == 9000
    assert table.version == "other"


def replace_version(table: PriceTable) -> PriceTable:
    return PriceTable(
        "other",
        table.web_search_nanos,
        table.batch_multiplier,
        table.us_multiplier,
        {model: prices for model in table.models() if (prices := table.of(model)) is not None},
    )


@pytest.mark.parametrize(
    ("model", "relative"),
    [
        ("claude-opus-6", "claude-opus-5-5"),
        ("claude-opus-6-20270101", "claude-opus-5-5"),
        ("claude-haiku-7-1", "claude-haiku-5-5"),
        ("claude-mythos-preview", "claude-mythos-5-2"),
        ("claude-novel-1", None),
        ("gpt-opus-5", None),
        ("claude-opus", None),
    ],
)
def test_a_rule_takes_a_new_model_at_the_newest_of_its_family_and_says_so(model: str, relative: str | None) -> None:
    assert relative_of(model, PRICES.models()) == relative
    table = after(rule=True)
    found = table.price(Usage(1_000_000), model, AT)
    if relative is None:
        assert (found.cost_nanos, found.price_version) == (None, "test")
    else:
        assert found.cost_nanos == table.price(Usage(1_000_000), relative, AT).cost_nanos
        assert found.price_version == "test" + PROVISIONAL
    assert after().price(Usage(1), model, AT).cost_nanos is None
    assert table.price(Usage(1), "claude-opus-5-5", AT).price_version == "test"


def test_one_step_at_an_assumed_price_marks_the_whole_answer() -> None:
    steps = (
        Iteration("message", "claude-opus-5-5", 10, 0, 0, 0, 5),
        Iteration("advisor_message", "claude-opus-6", 1, 0, 0, 0, 1),
    )
    assert (
        after(rule=True)
        .price(replace(Usage(10), iterations=steps), "claude-opus-5-5", AT)
        .price_version.endswith(PROVISIONAL)
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"input": "1e3"}, "input must be a decimal number of dollars"),
        ({"input": "1_000"}, "input must be"),
        ({"input": "٣"}, "input must be"),
        ({"input": "-1"}, "input must be"),
        ({"input": 5}, "input must be"),
        ({"input": "0.0001"}, "finer than a nano-dollar"),
        ({"output": "10001"}, "above 10,000"),
        ({"fast_multiplier": "x"}, "fast_multiplier must be"),
        ({"fast_until": "tomorrow"}, "is not a date"),
        ({"tiers": [{}]}, "prompt_tokens_above is missing"),
        ({"tiers": [ROW, ROW]}, "at most one"),
        ({"tiers": 5}, "claude-x"),
    ],
)
def test_what_cannot_be_a_price_is_refused_by_name(change: dict[str, Any], told: str) -> None:
    with pytest.raises(BadPriceTable, match=told):
        read_terms("claude-x", ROW | change)


@pytest.mark.parametrize("model", ["", "a b", "x" * 200, "../x", "a\n"])
def test_a_models_id_is_one(model: str) -> None:
    with pytest.raises(BadPriceTable, match="not the id of a model"):
        read_terms(model, ROW)


prices = st.integers(0, 10_000_000).map(lambda nanos: f"{nanos / 1000:.3f}")
rows = st.fixed_dictionaries(dict.fromkeys(TOKEN_CLASSES, prices))


@given(rows, st.none() | rows, st.none() | st.integers(1, 50))
def test_terms_are_read_back_as_they_were_written(
    given_row: dict[str, str], long: dict[str, str] | None, fast: int | None
) -> None:
    document: dict[str, Any] = dict(given_row)
    if long is not None:
        document["tiers"] = [{"prompt_tokens_above": 100_000, **long}]
    if fast is not None:
        document["fast_multiplier"] = str(fast / 4)
    terms = read_terms("claude-x", document)
    assert read_terms("claude-x", as_document(terms)) == terms


@given(st.lists(st.tuples(st.integers(-400, 400), st.integers(1, 9)), max_size=8), st.integers(-500, 500))
def test_whatever_was_set_the_newest_row_of_the_latest_day_that_has_come_counts(
    changes: list[tuple[int, int]], at: int
) -> None:
    start = date(2026, 11, 29)
    table = after(
        *(PriceChange("claude-sonnet-5", start + timedelta(days), row(str(price))) for days, price in changes)
    )
    past = [(days, number, price) for number, (days, price) in enumerate(changes) if days <= at]
    expected = max(past)[2] if past else 2
    when = datetime(2026, 11, 29, 12, tzinfo=UTC) + timedelta(at)
    assert table.price(Usage(1_000_000), "claude-sonnet-5", when).cost_nanos == expected * 10**9
