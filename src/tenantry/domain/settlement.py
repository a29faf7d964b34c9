"""How an ended attempt is booked: the outcome and the cost, from what the upstream was seen to say.

A pure decision. The rules are those of reference 5.2, and DESIGN 4.8 for answers that broke off.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from tenantry.domain.attempts import Outcome
from tenantry.domain.prices import PriceTable
from tenantry.domain.usage import Usage
from tenantry.domain.values import value


@value
class Observed:
    """What was seen of one answer.

    `complete`: the answer came to its own end. `failed`: the `error.type` of an `error` event. `started`: the answer
    told its first usage. `estimated_output_tokens`: ceil(characters / 4) of what was generated, for answers cut short.
    """

    model: str | None
    stop_reason: str | None
    usage: Usage
    usage_raw: str
    content_empty: bool
    started: bool
    complete: bool
    failed: str | None
    estimated_output_tokens: int


@value
class Settlement:
    outcome: Outcome
    usage: Usage
    cost_nanos: int | None
    price_version: str | None


VOID = Settlement(Outcome.VOIDED, Usage(), 0, None)


@value
class Sent:
    model: str
    status: int | None
    was_sent: bool
    bound_nanos: int
    held_nanos: int
    produced_tokens: int


def settle(sent: Sent, seen: Observed, prices: PriceTable, at_us: int) -> Settlement:
    """Book one attempt.

    `status` is the upstream's status, None when no head came; `was_sent` says whether the request had left. `at_us` is
    the time that decides which dated price applies, in unix microseconds.
    """
    status, was_sent, model_requested = sent.status, sent.was_sent, sent.model
    if status is None:
        # Sent but never answered: upstream may have worked on it, and nothing it did can be known.
        return Settlement(Outcome.ESTIMATED, Usage(), 0, None) if was_sent else VOID
    if status != 200 or (seen.failed is not None and not seen.started):
        return VOID
    usage, outcome = seen.usage, Outcome.SETTLED
    if not seen.complete:
        outcome = Outcome.ESTIMATED
        usage = replace(usage, output_tokens=max(usage.output_tokens, seen.estimated_output_tokens))
    priced = prices.price(
        usage,
        seen.model or model_requested,
        datetime.fromtimestamp(at_us / 1_000_000, UTC),
        content_empty=seen.content_empty and seen.complete,
        stop_reason=seen.stop_reason,
    )
    if priced.cost_nanos is None:
        outcome = Outcome.UNPRICED
    return Settlement(outcome, usage, priced.cost_nanos, priced.price_version)
