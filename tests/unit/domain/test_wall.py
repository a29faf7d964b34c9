"""A clock that somebody sets: believed once it has stayed so, and never a moment before."""

from __future__ import annotations

import pytest

from tenantry.domain.wall import STAYED_US, STEADY_US, STEP_US_MIN, SteadyTime, WallClock

SECOND_US = 1_000_000
START_US = 1_795_608_000 * SECOND_US
DAY_US = 86_400 * SECOND_US


class Machine:
    """A machine's clocks; `wrong_us` is by how much the wall clock was set."""

    def __init__(self) -> None:
        self.at_us = 5 * SECOND_US
        self.wrong_us = 0
        self.wall = WallClock(lambda: self.at_us * 1000, lambda: START_US + self.at_us + self.wrong_us)

    def run(self, seconds: float) -> list[int]:
        """Let time pass, looking twice a second and doing what is told; the moves."""
        moves: list[int] = []
        for _ in range(int(seconds * 2)):
            self.at_us += SECOND_US // 2
            moved = self.wall.look()
            if moved is not None:
                moves.append(moved)
                self.wall.move(moved)
        return moves

    @property
    def error_us(self) -> int:
        return self.wall.now_us() - START_US - self.at_us


@pytest.mark.parametrize("wrong_us", [DAY_US, -DAY_US, 400 * DAY_US, STEP_US_MIN, -STEP_US_MIN])
def test_a_clock_that_is_wrong_for_a_moment_is_not_believed(wrong_us: int) -> None:
    machine = Machine()
    machine.wrong_us = wrong_us
    assert machine.run(STEADY_US / SECOND_US - 1) == []
    assert machine.error_us == 0
    machine.wrong_us = 0
    assert machine.run(60) == []
    assert machine.error_us == 0


@pytest.mark.parametrize("wrong_us", [DAY_US, -DAY_US])
def test_a_clock_that_stays_is_followed_once(wrong_us: int) -> None:
    machine = Machine()
    machine.wrong_us = wrong_us
    assert machine.run(60) == [wrong_us]
    assert machine.error_us == wrong_us


def test_a_clock_that_goes_on_being_set_is_not_followed() -> None:
    machine = Machine()
    for number in range(100):
        machine.wrong_us = (number % 7) * DAY_US
        assert machine.run(STEADY_US / SECOND_US - 1) == []
    assert machine.error_us == 0


def test_a_small_step_is_followed_at_once() -> None:
    machine = Machine()
    machine.wrong_us = STEP_US_MIN - 1
    assert machine.run(0.5) == []
    assert machine.error_us == STEP_US_MIN - 1


def test_what_is_done_for_good_waits_until_a_clock_that_was_set_has_stayed_so() -> None:
    machine = Machine()
    steady = SteadyTime(lambda: machine.at_us * 1000, lambda: START_US + machine.at_us + machine.wrong_us)

    def after(seconds: int) -> bool:
        machine.at_us += seconds * SECOND_US
        return steady.is_now()

    assert steady.is_now()
    machine.wrong_us = 3 * DAY_US
    assert not after(60)
    machine.wrong_us = 0  # corrected: another step
    assert not after(STAYED_US // SECOND_US - 1)
    assert not after(60)
    assert not after(STAYED_US // SECOND_US - 61)
    assert after(1)
    machine.wrong_us = STEP_US_MIN - 1  # slewed
    assert after(60)
