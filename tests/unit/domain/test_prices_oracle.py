"""Random usages priced beside a plain second writing of the rules of reference 5.2."""

import json
import random
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from importlib import resources
from typing import Any

from tenantry.domain.prices import load_default_prices
from tenantry.domain.usage import Iteration, Usage

DATA: dict[str, Any] = json.loads(resources.files("tenantry.domain").joinpath("prices.json").read_bytes())
PRICES = load_default_prices()
CLASSES = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def step_cost(model: str, counts: tuple[int, ...], is_fast: bool, usage: Usage, at: datetime) -> Fraction | None:
    row = DATA["models"].get(model)
    if row is None:
        return None
    prices = {name: row[name] for name in CLASSES}
    for period in sorted(row.get("history", []), key=lambda one: one["until"], reverse=True):
        if at < day(period["until"]):
            prices |= {name: period[name] for name in CLASSES if name in period}
    for tier in row.get("tiers", []):
        if sum(counts[:4]) > tier["prompt_tokens_above"]:
            prices = tier
    cost = sum((Fraction(prices[name]) * 1000 * count for name, count in zip(CLASSES, counts, strict=True)), Fraction())
    if is_fast:
        if "fast_multiplier" not in row or ("fast_until" in row and at >= day(row["fast_until"])):
            return None
        cost *= Fraction(row["fast_multiplier"])
    if usage.inference_geo == "us" and row.get("us_inference", True):
        cost *= Fraction(DATA["us_inference_multiplier"])
    return cost * Fraction(DATA["batch_multiplier"]) if usage.service_tier == "batch" else cost


def counts_of(step: Usage | Iteration) -> tuple[int, ...]:
    return (
        step.input_tokens,
        step.cache_write_5m_tokens,
        step.cache_write_1h_tokens,
        step.cache_read_tokens,
        step.output_tokens,
    )


def bill(usage: Usage, model: str, at: datetime, stop: str, is_empty: bool) -> tuple[list[Fraction | None], Fraction]:
    """What each billed step costs, None where it has no price, and the searches."""
    searches = Fraction(DATA["web_search_per_1000"]) * 1_000_000 * usage.web_search_requests
    fast = usage.speed == "fast"
    refused = stop == "refusal"
    if not usage.iterations:
        if refused and is_empty:
            return [], Fraction()
        return [step_cost(model, counts_of(usage), fast, usage, at)], searches
    fell_back = "fallback_message" in [step.type for step in usage.iterations]
    costs: list[Fraction | None] = []
    for step in usage.iterations:
        own, counts = step.model or model, counts_of(step)
        if step.type in ("message", "fallback_message") and refused and (is_empty or step.output_tokens == 0):
            continue
        if step.type == "message" and fell_back and step.output_tokens == 0:
            continue
        if step.type == "advisor_message":
            costs.append(step_cost(own, counts, False, usage, at))
        elif step.type == "fallback_message":
            dear = step_cost(own, counts, True, usage, at) if fast else None
            costs.append(dear if dear is not None else step_cost(own, counts, False, usage, at))
        else:
            costs.append(step_cost(own, counts, fast, usage, at))
    return costs, Fraction() if refused and is_empty else searches


def test_random_usages_are_priced_to_the_nano() -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    models = [*DATA["models"], "unheard-of"]
    for turn in range(6000):

        def count() -> int:
            return dice.choice([0, 0, 1, dice.randint(0, 3000), dice.randint(90_000, 110_000), 10**6])

        def step() -> Iteration:
            kind = dice.choice(["message", "compaction", "advisor_message", "fallback_message"])
            return Iteration(kind, dice.choice([None, dice.choice(models)]), *(count() for _ in range(5)))

        usage = Usage(
            *(count() for _ in range(5)),
            web_search_requests=dice.choice([0, 0, 3]),
            speed=dice.choice(["standard", "fast"]),
            inference_geo=dice.choice(["global", "us"]),
            service_tier=dice.choice(["standard", "batch"]),
            iterations=tuple(step() for _ in range(dice.choice([0, 0, 1, 2, 5]))),
        )
        model, stop, is_empty = dice.choice(models), dice.choice(["end_turn", "refusal"]), dice.random() < 0.3
        at = datetime(2026, 10, 1, tzinfo=UTC) + timedelta(hours=dice.randint(0, 24 * 75))
        costs, searches = bill(usage, model, at, stop, is_empty)
        priced = PRICES.price(usage, model, at, content_empty=is_empty, stop_reason=stop)
        known = [cost for cost in costs if cost is not None]
        label = f"seed {seed} turn {turn}: {usage}"
        if len(known) == len(costs):
            assert priced.cost_nanos == int(sum(known, searches) + Fraction(1, 2)), label
            assert priced.reason is None, label
        elif not known:
            assert priced.cost_nanos is None, label
        else:
            assert priced.cost_nanos is not None, label
            assert priced.cost_nanos >= int(sum(known, searches)), label
            assert priced.reason is not None, label
