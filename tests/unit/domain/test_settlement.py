"""How attempts are booked: never below what is known to be owed, never free for being unclear."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tenantry.domain.attempts import Outcome
from tenantry.domain.prices import load_default_prices
from tenantry.domain.settlement import COST_ABSURD, PRICE_MISSING, USAGE_UNREADABLE, VOID, Observed, Sent, settle
from tenantry.domain.usage import COUNT_MAX, USAGE_MALFORMED, Iteration, Usage

PRICES = load_default_prices()
MODEL = "claude-opus-5-5"
AT_US = int(datetime(2026, 11, 24, tzinfo=UTC).timestamp() * 1_000_000)
BOUND, HELD = 900_000_000, 500_000_000
TOLD = Usage(input_tokens=1000, output_tokens=10)
PRICE = 1000 * 4000 + 10 * 20_000


def sent(**changes: Any) -> Sent:
    known: dict[str, Any] = {
        "model": MODEL,
        "status": 200,
        "was_sent": True,
        "bound_nanos": BOUND,
        "held_nanos": HELD,
        "produced_tokens": 0,
    }
    return Sent(**(known | changes))


def seen(**changes: Any) -> Observed:
    known: dict[str, Any] = {
        "model": MODEL,
        "stop_reason": "end_turn",
        "usage": TOLD,
        "usage_raw": "",
        "content_empty": False,
        "started": True,
        "complete": True,
        "failed": None,
        "estimated_output_tokens": 0,
        "is_final": True,
    }
    return Observed(**(known | changes))


NOTHING: dict[str, Any] = {"started": False, "is_final": False, "complete": False, "usage": Usage()}
CUT: dict[str, Any] = {"complete": False, "is_final": False}


@pytest.mark.parametrize(
    ("about", "answer", "outcome", "nanos", "basis"),
    [
        ({"was_sent": False, "status": None}, NOTHING, Outcome.VOIDED, 0, "usage"),
        ({"status": None}, NOTHING, Outcome.ESTIMATED, BOUND, "bound"),
        ({"status": 529}, NOTHING, Outcome.VOIDED, 0, "usage"),
        ({}, NOTHING | {"failed": "overloaded_error", "content_empty": True}, Outcome.VOIDED, 0, "usage"),
        ({}, NOTHING | {"failed": "overloaded_error"}, Outcome.ESTIMATED, HELD, "bound"),
        ({}, NOTHING, Outcome.ESTIMATED, HELD, "bound"),
        ({}, {}, Outcome.SETTLED, PRICE, "usage"),
        ({}, NOTHING | {"complete": True, "flaws": (USAGE_UNREADABLE,)}, Outcome.ESTIMATED, HELD, "bound"),
        ({}, {"flaws": (USAGE_MALFORMED,)}, Outcome.ESTIMATED, HELD, "bound"),
        ({"held_nanos": 5}, {"flaws": (USAGE_MALFORMED,)}, Outcome.ESTIMATED, PRICE, "bound"),
        ({"produced_tokens": 9}, {"complete": False}, Outcome.ESTIMATED, PRICE, "usage"),
        ({"produced_tokens": 9000}, {"complete": False}, Outcome.ESTIMATED, PRICE, "usage"),
        ({"produced_tokens": 9}, CUT, Outcome.ESTIMATED, PRICE, "usage"),
        ({"produced_tokens": 90}, CUT, Outcome.ESTIMATED, PRICE + 80 * 20_000, "usage"),
        ({}, CUT | {"estimated_output_tokens": 90}, Outcome.ESTIMATED, PRICE + 80 * 20_000, "usage"),
        ({"produced_tokens": 90, "output_tokens_max": 50}, CUT, Outcome.ESTIMATED, PRICE + 40 * 20_000, "usage"),
        ({"produced_tokens": 90, "output_tokens_max": 5}, CUT, Outcome.ESTIMATED, PRICE, "usage"),
        ({}, CUT | {"has_hidden_work": True}, Outcome.ESTIMATED, HELD, "bound"),
        ({}, {"usage": Usage(output_tokens=COUNT_MAX)}, Outcome.ESTIMATED, HELD, "bound"),
        ({}, {"model": "unheard-of"}, Outcome.UNPRICED, None, "usage"),
        ({}, {"stop_reason": "refusal", "content_empty": True}, Outcome.SETTLED, 0, "usage"),
        ({}, CUT | {"stop_reason": "refusal", "content_empty": True}, Outcome.ESTIMATED, PRICE, "usage"),
    ],
)
def test_an_attempt_is_booked(
    about: dict[str, Any], answer: dict[str, Any], outcome: Outcome, nanos: int | None, basis: str
) -> None:
    booked = settle(sent(**about), seen(**answer), PRICES, AT_US)
    assert (booked.outcome, booked.cost_nanos, booked.basis) == (outcome, nanos, basis)
    assert (booked.price_version is None) == (basis == "bound" or outcome is Outcome.VOIDED)


def test_what_had_to_be_estimated_says_why() -> None:
    assert settle(sent(was_sent=False), seen(), PRICES, AT_US) is VOID
    absurd = settle(sent(), seen(usage=Usage(output_tokens=COUNT_MAX)), PRICES, AT_US)
    assert absurd.flaws == (COST_ABSURD,)
    steps = (Iteration("message", None, 5, 0, 0, 0, 5), Iteration("advisor_message", "unheard-of", 5, 0, 0, 0, 5))
    missing = settle(sent(), seen(usage=Usage(iterations=steps)), PRICES, AT_US)
    assert (missing.outcome, missing.flaws) == (Outcome.SETTLED, (PRICE_MISSING,))


def test_usage_of_iterations_that_broke_off_is_booked_at_its_hold() -> None:
    step = Iteration("message", None, 1000, 0, 0, 0, 10)
    booked = settle(sent(), seen(**CUT, usage=Usage(iterations=(step,))), PRICES, AT_US)
    assert (booked.cost_nanos, booked.basis) == (HELD, "bound")
