"""What time it is, by a clock that somebody may set.

Budgets begin anew with each day, week and month, so a clock that is wrong for a moment must not be believed: time goes
on by the monotonic clock (which NTP slews alike), and a step of the wall clock counts once it has stayed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

# NTP steps a clock that is off by more than 128 ms (ntpd) or a second (chrony's makestep 1.0); so much is followed at
# once: no more than that is spent in a wrong day.
STEP_US_MIN: Final = 2_000_000
# How long another time must have been told before it is believed. A daemon that corrects a wrong step takes some polls
# of a second; a machine that wakes up is wrong for as long.
STEADY_US: Final = 10_000_000
# The same for what is done once and for good, and has an hour at the least: somebody who set a wrong day sees it.
STAYED_US: Final = 600_000_000


class WallClock:
    """`monotonic_ns` and `told_us` are the machine's two clocks, in their units; `now_us` is unix time."""

    __slots__ = ("_monotonic_ns", "_offset_us", "_seen_offset_us", "_seen_since_us", "_told_us")

    def __init__(self, monotonic_ns: Callable[[], int], told_us: Callable[[], int]) -> None:
        self._monotonic_ns = monotonic_ns
        self._told_us = told_us
        at_us = monotonic_ns() // 1000
        self._offset_us = self._seen_offset_us = told_us() - at_us
        self._seen_since_us = at_us

    def now_us(self) -> int:
        return self._monotonic_ns() // 1000 + self._offset_us

    def look(self) -> int | None:
        """To be called about twice a second: by how much the time is to be moved now; None: not at all, or not yet."""
        at_us = self._monotonic_ns() // 1000
        offset_us = self._told_us() - at_us
        if abs(offset_us - self._seen_offset_us) >= STEP_US_MIN:
            self._seen_since_us = at_us
        self._seen_offset_us = offset_us
        moved_us = offset_us - self._offset_us
        if abs(moved_us) < STEP_US_MIN:
            self._offset_us = offset_us
            return None
        return moved_us if at_us - self._seen_since_us >= STEADY_US else None

    def move(self, by_us: int) -> None:
        """Go to the time that `look` told."""
        self._offset_us += by_us


class SteadyTime:
    """Whether a clock may be believed by what cannot be taken back: a period's only export, an invoice with a number.

    A clock that was set is believed once it has stayed so; a process that starts believes what it finds.
    """

    __slots__ = ("_monotonic_ns", "_offset_us", "_since_us", "_told_us")

    def __init__(self, monotonic_ns: Callable[[], int], told_us: Callable[[], int]) -> None:
        self._monotonic_ns = monotonic_ns
        self._told_us = told_us
        at_us = monotonic_ns() // 1000
        self._offset_us, self._since_us = told_us() - at_us, at_us - STAYED_US

    def is_now(self) -> bool:
        at_us = self._monotonic_ns() // 1000
        offset_us = self._told_us() - at_us
        if abs(offset_us - self._offset_us) >= STEP_US_MIN:
            self._since_us = at_us
        self._offset_us = offset_us
        return at_us - self._since_us >= STAYED_US
