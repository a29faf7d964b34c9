"""How an ended attempt is booked: the outcome and the cost, from what the upstream was seen to say.

A pure decision. The rules are those of reference 5.2, and DESIGN 4.8 for answers that broke off. What is booked is
never less than what the upstream is known to have billed; an answer that was given is never free for being unclear.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from tenantry.domain.asked import MessageFields
from tenantry.domain.attempts import Outcome
from tenantry.domain.charges import CONTEXT_TOKENS_OLD
from tenantry.domain.plausible import could_be
from tenantry.domain.prices import PriceTable
from tenantry.domain.usage import COUNT_MAX, Usage
from tenantry.domain.values import value

# Ten thousand dollars: the dearest answer that reference 5 allows costs some hundred; more is a fault of the upstream.
# The ledger's rows have the same bound: as many as a quarter of an hour can hold still sum within 64 bits.
COST_NANOS_MAX = 10**13

# A whole answer whose usage was not found in it.
USAGE_UNREADABLE = "usage_unreadable"
# Part of the usage has no price, and was taken at the dearest there is.
PRICE_MISSING = "price_missing"
# Counts that are each possible, and together cost more than `COST_NANOS_MAX`.
COST_ABSURD = "cost_absurd"

BY_USAGE = "usage"
BY_BOUND = "bound"


@value
class Observed:
    """What was seen of one answer.

    `complete`: the answer came to its own end. `failed`: the `error.type` of an `error` event. `started`: the answer
    told its first usage. `estimated_output_tokens`: ceil(characters / 2) of what was shown (reference 5.2 rule 7).
    `is_final`: the usage is the final one, whether or not the end itself came. `has_hidden_work`: server tools, a
    fallback or a compaction ran, whose prompts and prices only the final usage tells. `flaws`: what was wrong with it.
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
    is_final: bool = False
    has_hidden_work: bool = False
    flaws: tuple[str, ...] = ()


@value
class Sent:
    """What is known of an attempt beside its answer.

    `model`: as requested. `status`: the upstream's, None when no head came. `was_sent`: the request had left.
    `bound_nanos`: the most it may cost, as known when it was sent. `held_nanos`: what is held for it now (grown by a
    stream). `produced_tokens`: the most that may have been generated, by what was told, by characters, by time.
    `output_tokens_max`: what the request allowed in all, so that an estimate never passes what is held.
    `may_work_unseen`: the request asks for work that only the final usage tells of, or nobody metered its answer.
    `asked`: what the request says; without it nothing bounds what its answer may tell.
    """

    model: str
    status: int | None
    was_sent: bool
    bound_nanos: int
    held_nanos: int
    produced_tokens: int
    output_tokens_max: int = COUNT_MAX
    may_work_unseen: bool = False
    asked: MessageFields | None = None


@value
class Settlement:
    """How it is booked. `basis`: "usage", the cost follows from the usage at `price_version`; "bound", it follows from
    what was held, and no price can change it. `flaws`: why an estimate had to be made, for the ledger and its alerts.
    """

    outcome: Outcome
    usage: Usage
    cost_nanos: int | None
    price_version: str | None
    basis: str = BY_USAGE
    flaws: tuple[str, ...] = ()


# To look up a member of an enumeration takes CPython 3.11 longer than a call.
_SETTLED = Outcome.SETTLED
# Successes that have a body (RFC 9110 15.3): a server that speaks the API may answer 201 to a POST.
_ANSWERED = frozenset(range(200, 300)) - {204, 205}

VOID = Settlement(Outcome.VOIDED, Usage(), 0, None)


def settle(sent: Sent, seen: Observed, prices: PriceTable, at_us: int) -> Settlement:
    """Book one attempt. `at_us` decides which dated price applies, in unix microseconds.

    Not sent, refused, or failed before anything was told or shown: voided. Sent and never answered: estimated at its
    bound. Whole, with usage: settled. Broken off after the final usage (the last `message_delta` carries the stop
    reason) or a whole document: estimated, at exactly what was told. Broken off before: estimated at the most that may
    have been generated, never below what was told; at what was held where nothing was told, or where work was under way
    that only the final usage tells. Usage that is missing from a whole answer or malformed, or tells more than can have
    been: estimated at what was held, or at the price of the readable and possible part where that is more.
    """
    if not sent.was_sent:
        return VOID
    if sent.status is None:
        return Settlement(Outcome.ESTIMATED, Usage(), sent.bound_nanos, None, BY_BOUND)
    if seen.complete and seen.is_final and not seen.flaws and sent.status == 200:
        plain = _settle_plain(sent, seen, prices, at_us)
        if plain is not None:
            return plain
    was_told = seen.started or seen.is_final
    if sent.status not in _ANSWERED or (seen.failed is not None and not was_told and seen.content_empty):
        return VOID
    if not was_told:
        return Settlement(Outcome.ESTIMATED, seen.usage, sent.held_nanos, None, BY_BOUND, seen.flaws)
    usage, flaws = _possible(sent, seen)
    is_open = not (seen.is_final or seen.complete)
    if is_open:
        usage = _most_generated(sent, seen, usage)
    priced = prices.price(
        usage,
        seen.model or sent.model,
        datetime.fromtimestamp(at_us / 1_000_000, UTC),
        content_empty=seen.content_empty and seen.complete,
        stop_reason=seen.stop_reason,
    )
    cost, is_flawed = priced.cost_nanos, bool(flaws)
    if cost is not None and priced.reason is not None:
        flaws = (*flaws, PRICE_MISSING)
    if cost is not None and cost > COST_NANOS_MAX:
        return Settlement(Outcome.ESTIMATED, usage, sent.held_nanos, None, BY_BOUND, (*flaws, COST_ABSURD))
    if is_flawed or (is_open and (seen.has_hidden_work or sent.may_work_unseen or usage.iterations)):
        return Settlement(Outcome.ESTIMATED, usage, max(cost or 0, sent.held_nanos), None, BY_BOUND, flaws)
    if cost is None:
        return Settlement(Outcome.UNPRICED, usage, None, priced.price_version, BY_USAGE, flaws)
    outcome = Outcome.SETTLED if seen.complete else Outcome.ESTIMATED
    return Settlement(outcome, usage, cost, priced.price_version, BY_USAGE, flaws)


def _settle_plain(sent: Sent, seen: Observed, prices: PriceTable, at_us: int) -> Settlement | None:
    """Nearly every answer: whole, without a flaw, far within its bounds, by one model. None: it is another one."""
    usage = seen.usage
    if seen.failed is not None or seen.stop_reason == "refusal" or not _is_far_within(usage, sent):
        return None
    cost = prices.plain_cost(usage, seen.model or sent.model, at_us)
    if cost is None or cost > COST_NANOS_MAX:
        return None
    return Settlement(_SETTLED, usage, cost, prices.version)


def _is_far_within(usage: Usage, sent: Sent) -> bool:
    """Whether nothing that was told needs to be held against what the request allows."""
    return (
        usage.output_tokens <= sent.output_tokens_max
        and usage.input_tokens + usage.cache_read_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
        <= CONTEXT_TOKENS_OLD
        and not usage.iterations
        and not usage.web_search_requests
    )


def _possible(sent: Sent, seen: Observed) -> tuple[Usage, tuple[str, ...]]:
    """What was told, as far as it can be, and what is wrong with it."""
    usage, asked = seen.usage, sent.asked
    if asked is None or _is_far_within(usage, sent):
        return usage, seen.flaws
    usage, flaws = could_be(usage, asked, seen.model)
    return usage, seen.flaws + flaws


def _most_generated(sent: Sent, seen: Observed, usage: Usage) -> Usage:
    """The usage of an answer that broke off: thinking may be hidden, and is counted by its time."""
    may_be = min(max(seen.estimated_output_tokens, sent.produced_tokens), sent.output_tokens_max)
    return usage if may_be <= usage.output_tokens else replace(usage, output_tokens=may_be)
