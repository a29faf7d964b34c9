"""How attempts are booked: never below what is known to be owed, never free for being unclear."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tenantry.domain.asked import MessageFields
from tenantry.domain.attempts import Outcome
from tenantry.domain.plausible import (
    OUTPUT_ABOVE_MAX,
    PROMPT_ABOVE_CONTEXT,
    SEARCHES_ABOVE_MAX,
    SLACK_TOKENS,
    WRITTEN_TOKENS_MAX,
    could_be,
)
from tenantry.domain.prices import load_default_prices
from tenantry.domain.settlement import COST_ABSURD, PRICE_MISSING, USAGE_UNREADABLE, VOID, Observed, Sent, settle
from tenantry.domain.usage import COUNT_MAX, USAGE_MALFORMED, Iteration, Usage, read_usage
from tenantry.wire.inspect import inspect_message
from tests.conftest import FIXTURES

PRICES = load_default_prices()
MODEL = "claude-opus-5-5"
AT_US = int(datetime(2026, 11, 24, tzinfo=UTC).timestamp() * 1_000_000)
HELD = 500_000_000
TOLD = Usage(input_tokens=1000, output_tokens=10)
PRICE = 1000 * 4000 + 10 * 20_000


def sent(**changes: Any) -> Sent:
    known: dict[str, Any] = {
        "model": MODEL,
        "status": 200,
        "was_sent": True,
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
        ({"status": None}, NOTHING, Outcome.ESTIMATED, HELD, "bound"),
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


def asked(**members: Any) -> MessageFields:
    body = {"model": MODEL, "max_tokens": 1000, "messages": [{"role": "user", "content": "hi"}]}
    return inspect_message(json.dumps(body | members).encode())


def steps_of(*told: tuple[str, int, int]) -> tuple[Iteration, ...]:
    return tuple(Iteration(kind, None, prompt, 0, 0, 0, output) for kind, prompt, output in told)


SEARCH = {"type": "web_search_20260318", "name": "web_search", "max_uses": 2}
ADVISOR = {"type": "advisor_20260301", "name": "advisor", "model": MODEL, "max_uses": 2}
COMPACT = {"edits": [{"type": "compact_20260112"}]}
WINDOW = 1_000_000


@pytest.mark.parametrize(
    ("request_members", "usage", "flaws", "bounded"),
    [
        ({}, Usage(5, output_tokens=1000), (), None),
        ({"max_tokens": 0}, Usage(5, output_tokens=3), (), None),
        ({}, Usage(5, output_tokens=1001 + SLACK_TOKENS), (OUTPUT_ABOVE_MAX,), Usage(5, output_tokens=1000)),
        ({}, Usage(5, output_tokens=10**9), (OUTPUT_ABOVE_MAX,), Usage(5, output_tokens=1000)),
        ({}, Usage(WINDOW - 5, cache_read_tokens=5, output_tokens=9), (), None),
        (
            {},
            Usage(WINDOW, 10, 20, 10**9, output_tokens=9),
            (PROMPT_ABOVE_CONTEXT,),
            Usage(WINDOW - 30, 10, 20, 0, output_tokens=9),
        ),
        ({"model": "claude-haiku-4-5"}, Usage(300_000), (PROMPT_ABOVE_CONTEXT,), Usage(200_000)),
        ({}, Usage(5, web_search_requests=10**5), (SEARCHES_ABOVE_MAX,), Usage(5, web_search_requests=10)),
        # Several answers in one: each may have its max_tokens, and read the prompt again.
        ({"tools": [SEARCH]}, Usage(3 * WINDOW, output_tokens=3000, web_search_requests=2), (), None),
        ({"tools": [{**SEARCH, "max_uses": None}]}, Usage(90 * WINDOW, output_tokens=90_000), (), None),
        (
            {"tools": [SEARCH]},
            Usage(5, output_tokens=10**9),
            (OUTPUT_ABOVE_MAX,),
            Usage(5, output_tokens=13 * 1000 + 2 * WRITTEN_TOKENS_MAX),
        ),
        ({"fallbacks": [{"model": "claude-sonnet-5-5"}]}, Usage(5, output_tokens=2000), (), None),
        (
            {"fallbacks": [{"model": "claude-sonnet-5-5", "max_tokens": 5000}]},
            Usage(iterations=steps_of(("message", 9, 900), ("fallback_message", 9, 5000))),
            (),
            None,
        ),
        (
            {"tools": [ADVISOR]},
            Usage(iterations=steps_of(("message", 9, 900), ("advisor_message", 9, 90_000))),
            (),
            None,
        ),
        (
            {"context_management": COMPACT},
            Usage(9, output_tokens=9, iterations=steps_of(("compaction", 900_000, 9_000), ("message", 9, 900))),
            (),
            None,
        ),
        # A thread's tools stand upstream.
        ({"thread": {"type": "continue", "previous_message_id": "msg_1"}}, Usage(output_tokens=9000), (), None),
        (
            {},
            Usage(iterations=steps_of(("message", 9, 10**9))),
            (OUTPUT_ABOVE_MAX,),
            Usage(iterations=steps_of(("message", 9, 1000))),
        ),
        (
            {},
            Usage(iterations=steps_of(*[("message", 9, 1000)] * 999)),
            (OUTPUT_ABOVE_MAX,),
            Usage(iterations=steps_of(("message", 9, 1000))),
        ),
    ],
)
def test_no_count_is_booked_above_what_can_have_been(
    request_members: dict[str, Any], usage: Usage, flaws: tuple[str, ...], bounded: Usage | None
) -> None:
    fields = asked(**request_members)
    about = sent(asked=fields, model=fields.model, output_tokens_max=fields.output_tokens_max, held_nanos=1)
    booked = settle(about, seen(usage=usage, model=fields.model), PRICES, AT_US)
    exact = PRICES.price(bounded or usage, fields.model, datetime.fromtimestamp(AT_US / 1e6, UTC)).cost_nanos
    assert (booked.flaws, booked.usage, booked.cost_nanos) == (flaws, bounded or usage, exact)
    assert (booked.outcome, booked.basis) == ((Outcome.ESTIMATED, "bound") if flaws else (Outcome.SETTLED, "usage"))


def test_an_answer_that_tells_too_much_is_booked_at_no_less_than_was_held() -> None:
    booked = settle(sent(asked=asked(), output_tokens_max=1000), seen(usage=Usage(output_tokens=10**8)), PRICES, AT_US)
    assert booked.cost_nanos == HELD


@pytest.mark.parametrize("path", sorted(FIXTURES.rglob("message_*.json")), ids=lambda path: path.stem)
def test_no_real_answer_tells_too_much(path: Path) -> None:
    usage = read_usage(json.loads(path.read_text())["usage"])
    assert could_be(usage, asked(max_tokens=max(usage.output_tokens, 1)), None) == (usage, ())
