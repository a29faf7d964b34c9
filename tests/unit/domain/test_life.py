"""The table of a request's life: complete where it must be, and drawn as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenantry.domain.life import TABLE, Do, Event, State, picture

ENDS = (Do.REFUSE, Do.LAST_ANSWER, Do.FINISH, Do.INTERRUPT, Do.LEAVE)
CELLS = [(state, event, cell) for state in State for event in Event if (cell := TABLE[state][event]) is not None]


def test_the_picture_in_the_docs_is_the_table() -> None:
    page = Path(__file__).parents[3].joinpath("docs", "architecture.md").read_text("utf-8")
    assert picture() in page


@pytest.mark.parametrize(("state", "event", "cell"), CELLS)
def test_what_ends_a_life_and_nothing_else_leads_to_ended(state: State, event: Event, cell: object) -> None:
    assert (cell.to is State.ENDED) == (cell.do in ENDS)  # type: ignore[attr-defined]


def test_nothing_comes_after_the_end() -> None:
    assert not any(TABLE[State.ENDED])


@pytest.mark.parametrize("state", [state for state in State if state not in (State.DECIDING, State.ENDED)])
@pytest.mark.parametrize("event", [Event.OVERDUE, Event.CUT, Event.STOP])
def test_the_clock_and_the_operator_are_heard_in_every_state_that_lasts(state: State, event: Event) -> None:
    assert TABLE[state][event] is not None


@pytest.mark.parametrize(
    "state", [state for state in State if state not in (State.DECIDING, State.ENDED, State.DRAINING)]
)
@pytest.mark.parametrize("event", [Event.GONE, Event.GONE_CANCEL])
def test_a_client_may_leave_in_every_state_that_lasts(state: State, event: Event) -> None:
    assert TABLE[state][event] is not None


def test_every_state_can_be_reached_and_every_state_can_end() -> None:
    reached = {State.READING}
    for _ in State:
        reached |= {cell.to for state, _, cell in CELLS if state in reached}
    assert reached == set(State)
    ending = {State.ENDED}
    for _ in State:
        ending |= {state for state, _, cell in CELLS if cell.to in ending}
    assert ending == set(State)
