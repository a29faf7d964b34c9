"""What makes the tokens of one answer dearer than others of its model: as tokens that are paid for on top.

A long prompt has rates of its own, fast mode and inference in the US are multiples on top of one another (reference
5.2): each part is what it adds to those before it, so that they add up to the whole. A plan with prices of its own
bears the same parts.

The columns of a row are those of the answer itself. Where it came in steps, what of them is billed is in none of the
columns (a summary of what was said before, an advisor of another model), or is in the columns and not billed (an answer
that was declined): steps are what is billed less what the columns say.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction
from typing import Final

from tenantry.domain.plans import PRICED_TOKENS, SEARCHES
from tenantry.domain.price_terms import Terms
from tenantry.domain.prices import PriceTable, has_declined
from tenantry.domain.usage import Iteration, Usage

STEPS: Final = "steps"
DECLINED: Final = "declined"
LONG_PROMPT: Final = "long_prompt"
FAST: Final = "fast"
US_INFERENCE: Final = "us"
SURCHARGES: Final[tuple[str, ...]] = (STEPS, DECLINED, LONG_PROMPT, FAST, US_INFERENCE)
# In the place of a column: nano-dollars at list price, for models that have no other.
AT_LIST_PRICE: Final = ""

# Tokens that are paid for on top, by what makes them dearer, by model and by the ledger's column.
Extra = dict[tuple[str, str, str], Fraction]


def extra_tokens(
    usage: Usage, model: str, at: datetime, prices: PriceTable, *, is_refused: bool = False, is_free: bool = False
) -> Extra:
    """What an answer by `model` costs beside the tokens of its columns, by the prices of `at`; nothing where the model
    has no price.

    `is_free`: it was declined before any output, and nothing of it is billed.
    """
    own = (
        usage.input_tokens,
        usage.cache_write_5m_tokens,
        usage.cache_write_1h_tokens,
        usage.cache_read_tokens,
        usage.output_tokens,
    )
    found: Extra = {}
    if is_free:
        for column, count in zip((*PRICED_TOKENS, SEARCHES), (*own, usage.web_search_requests), strict=True):
            found[DECLINED, model, column] = Fraction(-count)
    elif not usage.iterations:
        is_fast = usage.speed == "fast"
        _add_parts(found, own, model, usage.prompt_tokens, usage, at, prices, is_fast=is_fast)
    else:
        for step in _billed(usage, is_refused=is_refused):
            step_model = step.model or model
            counts = _counts(step)
            for column, count in zip(PRICED_TOKENS, counts, strict=True):
                _add(found, (STEPS, step_model, column), Fraction(count))
            _add(found, (STEPS, step_model, AT_LIST_PRICE), Fraction(prices.step_cost(step, step_model, usage, at)))
            is_fast = prices.step_speed(step, step_model, usage, at) == "fast"
            _add_parts(found, counts, step_model, step.prompt_tokens, usage, at, prices, is_fast=is_fast)
        for column, count in zip(PRICED_TOKENS, own, strict=True):
            _add(found, (STEPS, model, column), Fraction(-count))
    return {key: amount for key, amount in found.items() if amount}


def _billed(usage: Usage, *, is_refused: bool) -> Iterator[Iteration]:
    fell_back = any(step.type == "fallback_message" for step in usage.iterations)
    return (step for step in usage.iterations if not has_declined(step, fell_back, is_refused, False))


def _counts(step: Iteration) -> tuple[int, ...]:
    return (
        step.input_tokens,
        step.cache_write_5m_tokens,
        step.cache_write_1h_tokens,
        step.cache_read_tokens,
        step.output_tokens,
    )


def _add(found: Extra, key: tuple[str, str, str], amount: Fraction) -> None:
    found[key] = found.get(key, Fraction(0)) + amount


def _add_parts(
    found: Extra,
    counts: tuple[int, ...],
    model: str,
    prompt_tokens: int,
    usage: Usage,
    at: datetime,
    prices: PriceTable,
    *,
    is_fast: bool,
) -> None:
    terms = prices.find_terms(model, at)
    if terms is None:
        return
    for number, column in enumerate(PRICED_TOKENS):
        if counts[number]:
            for kind, share in _parts(terms, number, prompt_tokens, usage, at, prices.us_multiplier, is_fast=is_fast):
                _add(found, (kind, model, column), counts[number] * share)


def _parts(
    terms: Terms,
    number: int,
    prompt_tokens: int,
    usage: Usage,
    at: datetime,
    us_multiplier: Fraction,
    *,
    is_fast: bool,
) -> list[tuple[str, Fraction]]:
    """What each adds to a token of a class, as a part of its usual price."""
    found: list[tuple[str, Fraction]] = []
    usual, rate = terms.rates[number], terms.rates_for(prompt_tokens)[number]
    so_far = Fraction(rate, usual) if usual else Fraction(1)
    if so_far != 1:
        found.append((LONG_PROMPT, so_far - 1))
    if is_fast and terms.fast_multiplier is not None and terms.offers_fast(at):
        found.append((FAST, so_far * (terms.fast_multiplier - 1)))
        so_far *= terms.fast_multiplier
    if usage.inference_geo == "us" and terms.us_inference:
        found.append((US_INFERENCE, so_far * (us_multiplier - 1)))
    return found
