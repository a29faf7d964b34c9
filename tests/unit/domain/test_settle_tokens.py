"""What is settled by its tokens alone is settled as `settle` would: at each edge, one side and the other."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

from tenantry.domain.asked import MessageFields
from tenantry.domain.attempts import Outcome
from tenantry.domain.charges import CONTEXT_TOKENS_OLD
from tenantry.domain.prices import load_default_prices
from tenantry.domain.settlement import BY_USAGE, COST_NANOS_MAX, Observed, Sent, settle, settle_tokens
from tenantry.domain.usage import Usage

PRICES = load_default_prices()
AT_US = int(datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()) * 1_000_000
PROMPTS = (0, 10, CONTEXT_TOKENS_OLD, CONTEXT_TOKENS_OLD + 1, 10**9)
OUTPUTS = (0, 100, 101, 10**9)


def test_what_is_settled_by_its_tokens_is_settled_alike() -> None:
    settled = 0
    for model, reason, place, prompt, output, most, is_empty in product(
        ("claude-sonnet-5-5", "claude-haiku-4-5-20251001", "claude-unheard-of"),
        (None, "end_turn", "refusal"),
        range(4),
        PROMPTS,
        OUTPUTS,
        (100, 10**12),
        (True, False),
    ):
        prompts = [0, 0, 0, 0]
        prompts[place] = prompt
        fresh, write_5m, write_1h, read = prompts
        counts = (fresh, write_5m, write_1h, read, output, 0)
        cost = settle_tokens(counts, model, reason, most, PRICES, AT_US)
        if cost is None:
            continue
        settled += 1
        asked = MessageFields(model, most, False, bool(write_1h))
        seen = Observed(model, reason, Usage(*counts), "", is_empty, True, True, None, 0, is_final=True)
        booked = settle(Sent(model, 200, True, 0, 0, most, False, asked), seen, PRICES, AT_US)
        found = (booked.outcome, booked.cost_nanos, booked.price_version, booked.basis, booked.flaws)
        assert found == (Outcome.SETTLED, cost, PRICES.version, BY_USAGE, ()), (model, reason, counts, most)
    assert settled > 100


def test_what_costs_too_much_to_be_true_is_not_settled_by_its_tokens() -> None:
    counts = (0, 0, 0, 0, 10**12, 0)
    assert settle_tokens(counts, "claude-sonnet-5-5", None, 10**12, PRICES, AT_US) is None
    assert COST_NANOS_MAX < 10**12 * 10_000
