"""What makes the tokens of one answer dearer than others of its model: as tokens that are paid for on top.

A long prompt has rates of its own, fast mode and inference in the US are multiples on top of one another (reference
5.2): each part is what it adds to those before it, so that they add up to the whole. A plan with prices of its own
bears the same parts.
"""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from typing import Final

from tenantry.domain.plans import PRICED_TOKENS
from tenantry.domain.price_terms import Terms
from tenantry.domain.prices import PriceTable
from tenantry.domain.usage import Usage

LONG_PROMPT: Final = "long_prompt"
FAST: Final = "fast"
US_INFERENCE: Final = "us"
SURCHARGES: Final[tuple[str, ...]] = (LONG_PROMPT, FAST, US_INFERENCE)

# Tokens that are paid for on top, by what makes them dearer and by the ledger's column.
Extra = dict[tuple[str, str], Fraction]


def extra_tokens(usage: Usage, model: str, at: datetime, prices: PriceTable) -> Extra:
    """What is dearer in an answer by `model`, by the prices of `at`; nothing where the model has no price.

    Where the answer came in steps, each has its own: what counts of them is their share of the answer's own tokens. An
    advisor's steps are not among those.
    """
    steps: list[tuple[str, int, tuple[int, ...]]] = []
    for step in usage.iterations:
        if step.type != "advisor_message":
            counts = (
                step.input_tokens,
                step.cache_write_5m_tokens,
                step.cache_write_1h_tokens,
                step.cache_read_tokens,
                step.output_tokens,
            )
            steps.append((step.model or model, step.prompt_tokens, counts))
    own = (
        usage.input_tokens,
        usage.cache_write_5m_tokens,
        usage.cache_write_1h_tokens,
        usage.cache_read_tokens,
        usage.output_tokens,
    )
    if not steps:
        steps.append((model, usage.prompt_tokens, own))
    found: Extra = {}
    for number, column in enumerate(PRICED_TOKENS):
        of_steps = sum([counts[number] for _, _, counts in steps])
        if not own[number] or not of_steps:
            continue
        for step_model, prompt_tokens, counts in steps:
            terms = prices.find_terms(step_model, at)
            if terms is None or not counts[number]:
                continue
            tokens = Fraction(own[number] * counts[number], of_steps)
            for kind, share in _parts(terms, number, prompt_tokens, usage, at, prices.us_multiplier):
                found[kind, column] = found.get((kind, column), Fraction(0)) + tokens * share
    return found


def _parts(
    terms: Terms, number: int, prompt_tokens: int, usage: Usage, at: datetime, us_multiplier: Fraction
) -> list[tuple[str, Fraction]]:
    """What each adds to a token of a class, as a part of its usual price."""
    found: list[tuple[str, Fraction]] = []
    usual, rate = terms.rates[number], terms.rates_for(prompt_tokens)[number]
    so_far = Fraction(rate, usual) if usual else Fraction(1)
    if so_far != 1:
        found.append((LONG_PROMPT, so_far - 1))
    if usage.speed == "fast" and terms.fast_multiplier is not None and terms.offers_fast(at):
        found.append((FAST, so_far * (terms.fast_multiplier - 1)))
        so_far *= terms.fast_multiplier
    if usage.inference_geo == "us" and terms.us_inference:
        found.append((US_INFERENCE, so_far * (us_multiplier - 1)))
    return found
