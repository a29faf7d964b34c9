"""What got its first price stands apart from what waits for one, and nothing of it is lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tenantry.billing.corrections import Corrected, with_prices
from tenantry.billing.usage import COUNTED, IN_MONTH, LATER, NOT_YET, Used
from tests.unit.billing.sales import used

MONDAYS = [date(2026, 11, 2), date(2026, 11, 9), date(2026, 11, 16)]
NEW = "claude-new-1"
FIRST_OF_DECEMBER = date(2026, 12, 1)


def priced(of: date, booked: date, reason: str = "was_unpriced", outcome: str = "unpriced") -> Corrected:
    """A correction of one attempt of three tokens."""
    counts = dict.fromkeys(COUNTED, 0) | {"input_tokens": 3}
    return Corrected(of, booked, "key_1", NEW, reason, "v2", 1, 5, outcome, counts)


def sums(some: Sequence[Used]) -> tuple[int, int, int, int]:
    tokens, cost = sum(one.tokens for one in some), sum(one.cost_nanos for one in some)
    return sum(one.attempts for one in some), sum(one.rows for one in some), tokens, cost


@st.composite
def corrected(draw: st.DrawFn) -> list[Corrected]:
    """Of no more attempts than each week has."""
    found: list[Corrected] = []
    for monday in MONDAYS:
        for _ in range(draw(st.integers(0, 2))):
            of = monday + timedelta(days=draw(st.integers(0, 6)))
            booked = of + timedelta(days=draw(st.integers(0, 40)))
            reason = draw(st.sampled_from(["was_unpriced", "was_unpriced", "repriced"]))
            found.append(priced(of, booked, reason, draw(st.sampled_from(["unpriced", "unpriced", "estimated"]))))
    return found


@given(corrected())
def test_what_got_a_price_is_taken_from_what_waits_and_the_sums_stay(some: list[Corrected]) -> None:
    weeks = [used(monday, what, 9, NEW, 6) for monday in MONDAYS for what in ("unpriced", "settled", "adjusted")]
    found = with_prices(weeks, some, FIRST_OF_DECEMBER)
    assert sums(found) == sums(weeks)
    assert all(one.rows > 0 and one.tokens >= 0 for one in found)
    first = [one for one in some if one.reason == "was_unpriced" and one.outcome == "unpriced"]
    soon = sum(one.booked < FIRST_OF_DECEMBER for one in first)
    for when, rows in ((IN_MONTH, soon), (LATER, len(first) - soon), (NOT_YET, 6 - len(first))):
        own = [one for one in found if one.outcome == "unpriced" and one.priced == when]
        assert sum(one.rows for one in own) == rows


def test_a_price_of_another_key_or_model_or_of_days_that_were_not_read_changes_nothing() -> None:
    weeks = [used(MONDAYS[1], "unpriced", model="claude-new-2", tokens=7)]
    assert with_prices(weeks, [priced(MONDAYS[1], MONDAYS[2])], FIRST_OF_DECEMBER) == weeks
    weeks = [used(MONDAYS[1], "unpriced", model=NEW, tokens=7)]
    assert with_prices(weeks, [priced(MONDAYS[0], MONDAYS[2])], FIRST_OF_DECEMBER) == weeks
