"""One timer for all lines that only time can help."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from tenantry.domain.lines import STALE_ENTRIES_MAX, Line
from tenantry.domain.timers import CallLater, Timer

# A timer is not set finer than this: an event loop rounds to a millisecond.
TIMER_SECONDS_MIN: Final = 0.002
# A time that is earlier by less than this is the same time, computed once more.
SAME_SECONDS: Final = 0.0005


class Alarm:
    """Wakes lines at their time, then calls `then`. `now` and `call_later` are the event loop's, in seconds."""

    __slots__ = ("_at", "_call_later", "_count", "_entries", "_now", "_then", "_timer", "_wake")

    def __init__(
        self, now: Callable[[], float], call_later: CallLater, wake: Callable[[Line], None], then: Callable[[], None]
    ) -> None:
        self._now = now
        self._call_later = call_later
        self._wake = wake
        self._then = then
        self._entries: list[tuple[float, int, Line]] = []
        self._count = 0
        self._timer: Timer | None = None
        self._at = math.inf

    def set(self, line: Line, at: float) -> None:
        """Wake `line` at `at`, or earlier."""
        if at < line.wake_at - SAME_SECONDS:
            line.wake_at = at
            self._count += 1
            heappush(self._entries, (at, self._count, line))
            if len(self._entries) > STALE_ENTRIES_MAX and self._entries[-1][2].wake_at != self._entries[-1][0]:
                self._entries = [entry for entry in self._entries if entry[2].wake_at == entry[0]]
                heapify(self._entries)

    def arm(self) -> None:
        """Set the timer for the earliest."""
        entries = self._entries
        while entries and entries[0][2].wake_at != entries[0][0]:
            heappop(entries)
        if not entries or entries[0][0] >= self._at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at = entries[0][0]
        self._timer = self._call_later(max(TIMER_SECONDS_MIN, self._at - self._now()), self._on_time)

    def clear(self) -> None:
        """Nobody waits."""
        for _, _, line in self._entries:
            line.wake_at = math.inf
        self._entries.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._at = None, math.inf

    def _on_time(self) -> None:
        self._timer, self._at = None, math.inf
        now = self._now()
        while self._entries and self._entries[0][0] <= now:
            then, _, line = heappop(self._entries)
            if line.wake_at == then:
                line.wake_at = math.inf
                self._wake(line)
        self._then()
