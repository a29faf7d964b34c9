"""A clock that goes more slowly on a busy machine: the time that a gateway is given is time in which it could run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

# So often the metronome wants to be woken; how late it is, everything else on the machine was kept waiting, too.
TICK_SECONDS: Final = 0.01
# An idle machine wakes a sleeper within this.
WAKE_SECONDS: Final = 0.001

Clock = Callable[[], float]


class Pace:
    """Seconds since some time, without those in which a thread that wanted to run could not."""

    def __init__(self, now: Clock = time.monotonic) -> None:
        self._now = now
        self._lost = 0.0
        self._due = now() + TICK_SECONDS

    def clock(self) -> float:
        """Seconds that only go on, for differences."""
        now = self._now()
        return now - self._lost - max(0.0, now - self._due - WAKE_SECONDS)

    def tick(self) -> None:
        """The metronome has been woken."""
        now = self._now()
        self._lost += max(0.0, now - self._due - WAKE_SECONDS)
        self._due = now + TICK_SECONDS


@contextmanager
def kept_pace() -> Generator[Pace]:
    """A pace whose metronome runs beside, in a thread that sleeps."""
    pace, stop = Pace(), threading.Event()

    def run() -> None:
        while not stop.wait(TICK_SECONDS):
            pace.tick()

    thread = threading.Thread(target=run, name="pace", daemon=True)
    thread.start()
    try:
        yield pace
    finally:
        stop.set()
        thread.join()
