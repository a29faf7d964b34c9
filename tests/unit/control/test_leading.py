"""Who leads, of several control processes of one machine; with a clock of the test's own."""

import asyncio
import fcntl
import os
from pathlib import Path

import pytest

from tenantry.control.background import drain_until
from tenantry.control.leading import LEADING_US_MAX, SILENT_US_MAX, FileLeader, Holder, holder_of

SECOND_US = 1_000_000


class Clock:
    """Of the whole machine."""

    def __init__(self) -> None:
        self.us = 10 * SECOND_US

    def __call__(self) -> int:
        return self.us

    def pass_second(self, *leaders: FileLeader) -> None:
        """A second, at whose end these say that they go on."""
        self.us += SECOND_US
        for one in leaders:
            one.step()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "booking.leader"


def leader(path: Path, name: str, clock: Clock) -> FileLeader:
    return FileLeader(path, name, clock_us=clock)


def test_the_first_leads_and_another_waits_for_as_long_as_it_goes_on(path: Path, clock: Clock) -> None:
    one, other = leader(path, "ctl_1", clock), leader(path, "ctl_2", clock)
    one.step()
    for _ in range(20):
        clock.pass_second(other, one)
        assert (one.leads(), other.leads()) == (True, False)
    assert holder_of(path) == Holder("ctl_1", os.getpid())


def test_who_ends_is_followed_at_once(path: Path, clock: Clock) -> None:
    one, other = leader(path, "ctl_1", clock), leader(path, "ctl_2", clock)
    one.step()
    other.step()
    one.resign()
    assert not one.leads()
    other.step()
    assert other.leads()
    assert holder_of(path) == Holder("ctl_2", os.getpid())
    other.resign()
    assert holder_of(path) is None


def test_who_is_stopped_leads_no_longer_before_another_begins_and_none_when_it_wakes(path: Path, clock: Clock) -> None:
    one, other = leader(path, "ctl_1", clock), leader(path, "ctl_2", clock)
    one.step()
    other.step()
    waited_us = 0
    while not other.leads():
        assert one.leads() == (waited_us < LEADING_US_MAX)
        clock.pass_second(other)
        waited_us += SECOND_US
    assert waited_us == SILENT_US_MAX
    assert not one.leads()
    for _ in range(10):
        clock.pass_second(one, other)  # it is awake
        assert (one.leads(), other.leads()) == (False, True)
    other.resign()
    one.step()
    assert one.leads()


def test_two_that_wait_for_one_that_is_stopped_do_not_both_follow_it(path: Path, clock: Clock) -> None:
    stopped, *others = (leader(path, f"ctl_{number}", clock) for number in range(4))
    stopped.step()
    for _ in range(20):
        clock.pass_second(*others)
        assert sum(one.leads() for one in others) <= 1
    assert sum(one.leads() for one in others) == 1


def test_a_slow_leader_that_nobody_followed_goes_on(path: Path, clock: Clock) -> None:
    one = leader(path, "ctl_1", clock)
    one.step()
    clock.us += 60 * SECOND_US
    assert not one.leads()
    one.step()
    assert one.leads()


def test_who_may_not_lead_lets_go(path: Path, clock: Clock) -> None:
    may = [True]
    one, other = FileLeader(path, "ctl_1", lambda: may[0], clock), leader(path, "ctl_2", clock)
    one.step()
    assert one.leads()
    may[0] = False
    one.step()
    other.step()
    assert (one.leads(), other.leads()) == (False, True)


def test_a_file_that_is_gone_is_made_anew(path: Path, clock: Clock) -> None:
    one = leader(path, "ctl_1", clock)
    one.step()
    path.unlink()
    clock.pass_second(one)
    assert one.leads()
    assert holder_of(path) == Holder("ctl_1", os.getpid())


def test_what_holds_the_file_and_is_no_control_is_told_as_nobody(path: Path) -> None:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert holder_of(path) is None


class Drain:
    """Counts its steps; the third one ends the test."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self.steps = self.forgotten = 0

    def has_news(self) -> bool:
        return True

    def step(self) -> int:
        self.steps += 1
        if self.steps == 3:
            self._loop.call_soon_threadsafe(self._stop.set)
        return 0

    def forget(self) -> None:
        self.forgotten += 1


def test_journals_are_booked_by_who_leads_and_read_anew_by_who_does_again() -> None:
    async def run() -> tuple[int, int, list[bool]]:
        stop, caught_up, seen = asyncio.Event(), asyncio.Event(), list[bool]()
        drain, turns = Drain(stop), iter([False, True, False, True])

        def leads() -> bool:
            seen.append(caught_up.is_set())
            return next(turns, True)

        await drain_until(stop, drain, caught_up, leads)  # pyright: ignore[reportArgumentType] -- a double
        return drain.steps, drain.forgotten, seen[:5]

    steps, forgotten, seen = asyncio.run(run())
    assert (steps, forgotten) == (4, 2)  # and once more after the end
    assert seen == [False, False, True, False, True]
