"""What is booked for an attempt whose gateway died: what its time was enough for, and never below what is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantry.domain.attempts import AttemptBegun, AttemptProgress, Outcome
from tenantry.domain.estimates import FAST_TOKENS_PER_SECOND, MARGIN_TOKENS, TOKENS_PER_SECOND
from tenantry.domain.orphans import QUIET_US, LastSigns, end_of_orphan
from tenantry.domain.prices import load_default_prices
from tenantry.domain.usage import Usage

PRICES = load_default_prices()
SECOND_US = 1_000_000
AT_US = 1_795_608_000 * SECOND_US
PROMPT, RATE, MOST = 7_000_000, 500, 64_000
OLD = AttemptBegun("a", "r", "t", "k", "c", "u", "claude-haiku-5-5", False, AT_US, PROMPT + RATE * MOST)


def whole(speed: str = "standard") -> AttemptBegun:
    return AttemptBegun(
        *("a", "r", "t", "k", "c", "u", "claude-haiku-5-5", False, AT_US, PROMPT + RATE * MOST, speed, "global"),
        *(RATE, MOST, MOST),
    )


def stream() -> AttemptBegun:
    """Of which the first three thousand tokens are held."""
    return AttemptBegun(
        *("a", "r", "t", "k", "c", "u", "claude-haiku-5-5", True, AT_US, PROMPT + RATE * 3000, "standard", "global"),
        *(RATE, 3000, MOST),
    )


def signs(alive_s: float, written_s: float | None = None) -> LastSigns:
    """Seen alive to the end."""
    written = alive_s if written_s is None else written_s
    alive_us = AT_US + int(alive_s * SECOND_US)
    return LastSigns(AT_US + int(written * SECOND_US), alive_us, alive_us)


def unseen(alive_s: float) -> LastSigns:
    """Written and seen at the beginning alone, and found dead then."""
    return LastSigns(AT_US, AT_US + int(alive_s * SECOND_US), AT_US)


def cost(begun: AttemptBegun, last: LastSigns | None, progress: AttemptProgress | None = None) -> int | None:
    end = end_of_orphan(begun, progress, PRICES, AT_US + 10**12, signs=last)
    assert (end.outcome, end.basis) == (Outcome.ORPHANED, "bound")
    return end.cost_nanos


@pytest.mark.parametrize(
    ("begun", "last", "tokens"),
    [
        (whole(), signs(0), MARGIN_TOKENS),
        (whole(), signs(2), 2 * TOKENS_PER_SECOND + MARGIN_TOKENS),
        (whole("fast"), signs(2), 2 * FAST_TOKENS_PER_SECOND + MARGIN_TOKENS),
        (whole(), signs(3600), MOST),
        (whole(), None, MOST),
        (whole(), signs(-1), MOST),  # the clock was set: nothing is known
        (stream(), signs(1), TOKENS_PER_SECOND + MARGIN_TOKENS),
        (stream(), signs(60, 0), 60 * TOKENS_PER_SECOND + MARGIN_TOKENS),  # it was stopped, and upstream went on
        (stream(), signs(3600, 0), MOST),
        (stream(), signs(60), 3000),  # no more was held, as no more is owed where the gateway lives
        (stream(), unseen(60), 3000),
        (whole(), unseen(2), 2 * TOKENS_PER_SECOND + MARGIN_TOKENS),
    ],
)
def test_an_orphan_that_told_nothing_is_booked_at_its_prompt_and_its_time(
    begun: AttemptBegun, last: LastSigns | None, tokens: int
) -> None:
    assert cost(begun, last) == PROMPT + RATE * tokens


def test_a_line_of_an_older_version_is_booked_at_its_bound() -> None:
    assert cost(OLD, signs(1)) == OLD.bound_nanos


def test_what_an_orphan_told_is_owed_where_that_is_more_than_was_held_and_can_be() -> None:
    told = AttemptProgress("a", "claude-haiku-5-5", Usage(input_tokens=1_000_000), held_nanos=8_000_000)
    exact = PRICES.price(told.usage, "claude-haiku-5-5", datetime(2026, 11, 25, tzinfo=UTC)).cost_nanos
    assert cost(stream(), None, told) == exact > 8_000_000
    absurd = AttemptProgress("a", "claude-haiku-5-5", Usage(input_tokens=10**12), held_nanos=8_000_000)
    assert cost(stream(), None, absurd) == 8_000_000


@pytest.mark.parametrize(
    ("last", "tokens"),
    [
        (signs(100), 0),
        (signs(100, 100 - QUIET_US / SECOND_US), 0),
        (signs(100, 60), 40 * TOKENS_PER_SECOND),
        (signs(10_000, 60), MOST - 500),
        (unseen(60), 0),
        (None, 0),
    ],
)
def test_a_stream_whose_gateway_was_stopped_before_it_died_went_on_meanwhile(
    last: LastSigns | None, tokens: int
) -> None:
    progress = AttemptProgress("a", "claude-haiku-5-5", Usage(input_tokens=9, output_tokens=500), held_nanos=8_000_000)
    assert cost(stream(), last, progress) == 8_000_000 + RATE * tokens


seconds = st.floats(-5, 10_000)


@settings(max_examples=300)
@given(
    st.sampled_from([whole(), whole("fast"), stream(), OLD]),
    st.none() | st.builds(Usage, st.integers(0, 10**6), output_tokens=st.integers(0, MOST)),
    st.integers(1, 10**10),
    seconds,
    seconds,
)
def test_no_kill_passes_a_budget_and_what_was_told_is_owed(
    begun: AttemptBegun, told: Usage | None, held: int, alive_s: float, written_s: float
) -> None:
    """What was held or told, whenever it is found; but of one that was seen to have stopped."""
    progress = AttemptProgress("a", "claude-haiku-5-5", told, held_nanos=held) if told is not None else None
    seen_us = AT_US + int(written_s * SECOND_US)
    found = cost(begun, LastSigns(seen_us, max(seen_us, AT_US + int(alive_s * SECOND_US)), seen_us), progress)
    assert found is not None
    if told is None:
        assert found <= begun.bound_nanos
        return
    asked = replace(told, speed=begun.speed, inference_geo=begun.inference_geo)
    priced = PRICES.price(asked, "claude-haiku-5-5", datetime(2026, 11, 25, tzinfo=UTC)).cost_nanos or 0
    assert found == max(held, priced)
