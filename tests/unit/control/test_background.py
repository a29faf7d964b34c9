"""What the control process says while its work fails."""

import asyncio
import logging
import threading

import pytest

from tenantry.control import background
from tenantry.control.background import Chore, drain_until, repeat_until, until_next


class Failing:
    """Work that fails for the same reason each time; after `rounds` of it, `stop` is set."""

    def __init__(self, stop: asyncio.Event, rounds: int) -> None:
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self.rounds = rounds

    def step(self) -> int:
        self.rounds -= 1
        if self.rounds == 0:
            self._loop.call_soon_threadsafe(self._stop.set)
        raise OSError("disk I/O error")

    def forget(self) -> None:
        return


@pytest.mark.parametrize("what", ["booking", "chore"])
def test_work_that_fails_the_same_way_each_round_says_so_once(
    what: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr(background, "CHORE_RETRY_SECONDS_MAX", 0.001)

    async def run() -> None:
        stop = asyncio.Event()
        work = Failing(stop, 20)
        if what == "booking":
            await drain_until(stop, work)  # type: ignore[arg-type]
        else:
            await repeat_until(stop, Chore("the chore", 0.001, work.step))

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert len(caplog.messages) == 1
    assert "disk I/O error" in caplog.text


class Counting:
    """A drain that has news at some rounds; after `rounds` of them, `stop` is set."""

    def __init__(self, stop: asyncio.Event, news: list[bool]) -> None:
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._news = news
        self.steps = 0

    def has_news(self) -> bool:
        found = self._news.pop(0)
        if not self._news:
            self._loop.call_soon_threadsafe(self._stop.set)
        return found

    def step(self) -> int:
        self.steps += 1
        return 0


@pytest.mark.parametrize(("news", "steps"), [([False] * 20, 0), ([False, True, False, True, True, False], 3)])
def test_journals_that_have_not_grown_are_not_read(
    news: list[bool], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "DRAIN_SECONDS", 0.001)
    monkeypatch.setattr(background, "WHOLE_LOOK_SECONDS", 1000.0)

    async def run() -> int:
        stop = asyncio.Event()
        drain = Counting(stop, news.copy())
        await drain_until(stop, drain)  # type: ignore[arg-type]
        return drain.steps

    assert asyncio.run(run()) == 1 + steps + 1  # the first look is a whole one, and the last


def test_a_chore_is_done_when_it_is_due_and_asked_beside_the_threads() -> None:
    done: list[bool] = []

    async def run() -> None:
        stop, here, asked = asyncio.Event(), threading.get_ident(), 0

        def is_due() -> bool:
            nonlocal asked
            asked += 1
            assert threading.get_ident() == here
            if asked == 6:
                stop.set()
            return asked % 3 == 0

        def work() -> None:
            done.append(threading.get_ident() != here)

        await repeat_until(stop, Chore("the chore", 0.001, work, is_due))

    asyncio.run(run())
    assert done == [True, True]


@pytest.mark.parametrize("late", [0.0, 0.1, 0.3])
def test_what_wakes_early_is_not_done_again_at_the_moment_it_was_due(late: float) -> None:
    assert until_next(1.2 + late, 0.4) == pytest.approx(0.4 - late)
    assert until_next(1.1995, 0.4) == pytest.approx(0.4005)
