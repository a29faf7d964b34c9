"""Deadlines of many things at the cost of those that pass: a timing wheel (Varghese and Lauck, SOSP 1987).

A thing has one deadline, which moves with almost every event of its life. Moving it later is one assignment: the wheel
finds out when it comes by. Only a deadline that comes sooner than the wheel would look is entered anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from tenantry.domain.subclassing import mypyc_attr

log = logging.getLogger("tenantry.gateway")

# Deadlines need no finer grain: the shortest is a client's wait in a queue, told in seconds.
TICK_SECONDS: Final = 0.25
# The wheel looks at everything at least this often, so that deadlines that move to and fro leave few entries behind.
HORIZON_SECONDS: Final = 10.0

NEVER: Final = float("inf")
_FORGOTTEN: Final = -1.0


@mypyc_attr(allow_interpreted_subclasses=True)
class Timed:
    """Something with a deadline, in seconds of the event loop's time. `watched_at`: when the wheel will look at it."""

    __slots__ = ("deadline", "watched_at")

    def __init__(self) -> None:
        self.deadline = NEVER
        self.watched_at = NEVER

    def overdue(self) -> None:
        """The deadline has passed. It sets another one, or ends."""
        raise NotImplementedError


class Deadlines:
    """All deadlines of a process. `sweep` is to be called every `TICK_SECONDS`."""

    __slots__ = ("_next", "_now", "_slots")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._slots: dict[int, list[Timed]] = {}
        self._next = int(now() / TICK_SECONDS)

    def set(self, item: Timed, at: float) -> None:
        """Move the deadline of `item` to `at`."""
        item.deadline = at
        if at < item.watched_at:
            self._enter(item, at)

    def forget(self, item: Timed) -> None:
        """`item` has ended; it has no deadline ever after."""
        item.deadline = NEVER
        item.watched_at = _FORGOTTEN

    def _enter(self, item: Timed, at: float) -> None:
        slot = max(self._next, int(min(at, self._now() + HORIZON_SECONDS) / TICK_SECONDS) + 1)
        item.watched_at = slot * TICK_SECONDS
        entries = self._slots.get(slot)
        if entries is None:
            self._slots[slot] = [item]
        else:
            entries.append(item)

    def sweep(self) -> None:
        """Call `overdue` of all whose deadline has passed."""
        now = self._now()
        last = int(now / TICK_SECONDS)
        while self._next <= last:
            if not self._slots:  # the clock may have jumped over a whole night
                self._next = last + 1
                return
            slot, self._next = self._next, self._next + 1
            for item in self._slots.pop(slot, ()):
                if item.watched_at != slot * TICK_SECONDS:
                    continue  # entered anew since, or forgotten
                item.watched_at = NEVER
                if item.deadline <= now:
                    try:
                        item.overdue()
                    except Exception:  # one thing's fault must not cost the others their deadlines
                        log.exception("a deadline could not be acted on")
                if item.watched_at == NEVER:
                    # Overdue still, as one is whose socket closes in the loop's next turn: looked at again in the next
                    # tick, and not in every tick that a frozen process has missed.
                    self._enter(item, max(item.deadline, now))

    @property
    def watched(self) -> int:
        """Entries in the wheel; those of things that have ended leave it within `HORIZON_SECONDS`."""
        return sum(map(len, self._slots.values()))
