"""The proof's clock: on a busy machine it goes as slowly as everything else."""

from itertools import pairwise

import pytest

from tenantry.control.isolation.pace import TICK_SECONDS, Pace, kept_pace


class Machine:
    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> float:
        return self.seconds


def passed(machine: Machine, pace: Pace, wakes: list[float]) -> float:
    """What passes on the clock when the metronome is woken after each of these."""
    began = pace.clock()
    for late in wakes:
        machine.seconds += late
        pace.tick()
    return pace.clock() - began


def test_on_an_idle_machine_a_second_is_a_second() -> None:
    machine = Machine()
    assert passed(machine, Pace(machine.now), [TICK_SECONDS] * 100) == pytest.approx(1.0)


def test_time_in_which_nobody_could_run_does_not_count() -> None:
    machine = Machine()
    # Woken after a second instead of a hundredth of one: that second was somebody else's.
    assert passed(machine, Pace(machine.now), [TICK_SECONDS, 1.0, TICK_SECONDS]) < 0.05


def test_the_wait_that_is_not_over_yet_does_not_count_either() -> None:
    machine = Machine()
    pace = Pace(machine.now)
    began = pace.clock()
    machine.seconds += 30.0
    assert pace.clock() - began < 0.05


def test_the_clock_never_goes_back() -> None:
    machine = Machine()
    pace = Pace(machine.now)
    seen = [pace.clock()]
    for number in range(500):
        machine.seconds += (number * 7 % 31) / 1000
        if number % 3 == 0:
            pace.tick()
        seen.append(pace.clock())
    assert all(after >= before - 1e-9 for before, after in pairwise(seen))


def test_its_metronome_runs_and_stops() -> None:
    with kept_pace() as pace:
        began = pace.clock()
        while pace.clock() - began < 3 * TICK_SECONDS:
            pass
