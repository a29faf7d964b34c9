"""Dates, tiers and refusals of the price table. The fixtures of the reference are priced in tests/unit/wire."""

import json
import os
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.domain.prices import BadPriceTable, PriceTable, load_default_prices
from tenantry.domain.usage import Usage

SEED = int(os.environ.get("TENANTRY_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
PRICES = load_default_prices()
ROW = {"input": "2", "cache_write_5m": "2.5", "cache_write_1h": "4", "cache_read": "0.2", "output": "10"}
DEAR = {name: str(2 * float(price)) for name, price in ROW.items()}


def table(**row: object) -> PriceTable:
    document = {
        "version": "test",
        "web_search_per_1000": "10",
        "batch_multiplier": "0.5",
        "us_inference_multiplier": "1.1",
        "models": {"claude-x-5": ROW | row},
    }
    return PriceTable.load(json.dumps(document).encode())


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def cost(usage: Usage, at: str = "2026-11-01", model: str = "claude-x-5", **row: object) -> int | None:
    return table(**row).price(usage, model, day(at)).cost_nanos


ONE_OF_EACH = Usage(1, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("usage", "nanos"),
    [
        (Usage(), 0),
        (ONE_OF_EACH, 2000 + 2500 + 4000 + 200 + 10_000),
        (Usage(web_search_requests=3), 30_000_000),
        (Usage(input_tokens=1, service_tier="batch"), 1000),
        (Usage(cache_read_tokens=1, inference_geo="us"), 220),
        (Usage(cache_read_tokens=1, inference_geo="us", service_tier="batch"), 110),
        (Usage(input_tokens=1, speed="fast"), None),
        (Usage(input_tokens=2**53), 2**53 * 2000),
    ],
)
def test_each_class_has_its_price(usage: Usage, nanos: int | None) -> None:
    assert cost(usage) == nanos


@pytest.mark.parametrize(
    ("at", "nanos"), [("2026-08-31T23:59:59.999999", 4000), ("2026-09-01", 2000), ("2027-01-01", 2000)]
)
def test_a_price_holds_until_its_date(at: str, nanos: int) -> None:
    assert cost(Usage(1), at, history=[{"until": "2026-09-01"} | DEAR]) == nanos


@pytest.mark.parametrize(("prompt", "nanos"), [(200_000, 2000), (200_001, 4000)])
def test_a_long_prompt_is_dearer_from_the_token_above(prompt: int, nanos: int) -> None:
    tiers = [{"prompt_tokens_above": 200_000} | DEAR]
    assert cost(Usage(prompt), tiers=tiers) == nanos * prompt


@pytest.mark.parametrize(("at", "nanos"), [("2026-08-31", 12_000), ("2026-09-01", None)])
def test_fast_has_a_price_while_it_is_offered(at: str, nanos: int | None) -> None:
    assert cost(Usage(1, speed="fast"), at, fast_multiplier="6", fast_until="2026-09-01") == nanos


@pytest.mark.parametrize(
    ("model", "known"),
    [("claude-x-5", True), ("claude-x-5-20261101", True), ("claude-x-5-5", False), ("claude-x", False), ("", False)],
)
def test_a_model_is_known_by_its_whole_name(model: str, known: bool) -> None:
    assert (cost(Usage(1), model=model) is not None) is known


@pytest.mark.parametrize("price", ["-1", "0.0000001", "x", None])
def test_a_price_that_cannot_be_is_refused(price: str | None) -> None:
    with pytest.raises(BadPriceTable):
        table(input=price)


@given(
    st.sampled_from(
        ["claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5-20260901", "unknown"]
    ),
    st.sampled_from([0, 1, 99_999, 100_000, 100_001, 1_000_000]),
    st.datetimes(datetime(2026, 10, 6), datetime(2026, 10, 8)),
    st.sampled_from(["standard", "fast"]),
    st.booleans(),
)
def test_a_kept_rate_is_the_rate_of_its_minute(
    model: str, prompt_tokens: int, naive: datetime, speed: str, is_us: bool
) -> None:
    at = naive.replace(tzinfo=UTC)
    at_us = int(at.timestamp() * 1_000_000)
    plain = PRICES.rates(model, prompt_tokens, at, speed=speed, is_us=is_us) or PRICES.rates_max(
        prompt_tokens, at, speed=speed, is_us=is_us
    )
    for _ in range(2):
        assert PRICES.rates_lately(model, prompt_tokens, at_us, speed=speed, is_us=is_us) == plain


def test_the_short_way_to_a_cost_says_what_the_long_one_says() -> None:
    chance = random.Random(SEED)
    found = 0
    for _ in range(5_000):
        usage = Usage(
            *[chance.choice((0, 1, 999, 150_000, 250_000)) for _ in range(5)],
            web_search_requests=chance.choice((0, 0, 3)),
            speed=chance.choice(("standard", "standard", "fast")),
            inference_geo=chance.choice(("global", "global", "us")),
            service_tier=chance.choice(("standard", "standard", "batch")),
        )
        model = chance.choice([*PRICES.models(), PRICES.models()[0] + "-20261001", "claude-unknown-9"])
        at = datetime(2026, 11, 25, tzinfo=UTC) + timedelta(days=chance.randrange(-900, 900))
        short = PRICES.plain_cost(usage, model, int(at.timestamp() * 1_000_000))
        if short is not None:
            found += 1
            assert short == PRICES.price(usage, model, at).cost_nanos, (usage, model, at, SEED)
    assert found > 500
