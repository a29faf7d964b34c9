"""A fault that comes again and again is told once when it comes or changes, and once, with a count, when it is over."""

from __future__ import annotations

from typing import Final

# A fault that comes back within this time has not gone: a disk that is nearly full takes short lines and no long ones.
QUIET_SECONDS: Final = 10.0


class Repeats:
    """What there is to say of one kind of fault. Times are seconds of any clock that only goes on."""

    __slots__ = ("_last_at", "_told", "count")

    def __init__(self) -> None:
        self.count = 0  # since it began; 0: all is well
        self._told = ""
        self._last_at = 0.0

    def came(self, what: str, now: float) -> bool:
        """It has happened. True: that is news."""
        self.count += 1
        self._last_at = now
        if what == self._told:
            return False
        self._told = what
        return True

    def went_well(self, now: float) -> int:
        """It has not happened this time. How often it had, once that is over; 0 when there is nothing to say."""
        if not self.count or now - self._last_at < QUIET_SECONDS:
            return 0
        count, self.count, self._told = self.count, 0, ""
        return count
