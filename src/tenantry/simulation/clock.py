"""Simulated time, and what it sets off. One clock for a whole world: what happens is a function of the seed alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush


class Timer:
    """Something that will be called, unless it is cancelled."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Clock:
    """`now`: seconds that only go on. `after_each` is called after every event."""

    __slots__ = ("_count", "_soon", "_timers", "after_each", "events", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self.after_each: Callable[[], None] | None = None
        self._count = 0
        self._timers: list[tuple[float, int, Timer]] = []
        self._soon: deque[Callable[[], None]] = deque()

    def read(self) -> float:
        return self.now

    def call_soon(self, call: Callable[[], None]) -> None:
        """In the next turn."""
        self._soon.append(call)

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(call)
        self._count += 1
        heappush(self._timers, (self.now + max(0.0, seconds), self._count, timer))
        return timer

    def run(self, until: float) -> None:
        """Whatever happens until then."""
        timers = self._timers
        while True:
            self._turn()
            if not timers or timers[0][0] > until:
                break
            at, _, timer = heappop(timers)
            if timer.call is not None:
                self.now = at
                self._call(timer.call)
        self.now = max(self.now, until)

    def _turn(self) -> None:
        while self._soon:
            self._call(self._soon.popleft())

    def _call(self, call: Callable[[], None]) -> None:
        self.events += 1
        call()
        if self.after_each is not None:
            self.after_each()
