"""Lines of those that one limit holds back, and how they are woken one by one.

Who is refused by a limit stands in its line and is not asked again until that limit has something to give. Then the
first one is asked; once it has got what it wants, or wants it no more, or another limit holds it back, the next one is.
One that is refused again has its old place. So an event costs one look for each that gains by it, and one more.

A limit may concern several queues (a tenant's, where it uses two credentials). Those of each queue stand in a row of
their own: who waits for room in one queue must not hold up those of another.

What always holds when nothing is being asked: where some stand in a row and none of it is being asked again, the limit
really refuses the first, or refuses the first of another row that came earlier.
"""

from __future__ import annotations

import math
from enum import Enum
from heapq import heapify, heappop, heappush
from typing import Final

# Entries of a heap that no longer count are dropped when they are more than those that do, and than this.
STALE_ENTRIES_MAX: Final = 64


class Level(Enum):
    """What of a queue a limit holds back."""

    ALL = 1
    FLOW = 2  # a tenant
    BRANCH = 3  # what a tenant asks of one model
    SUB = 4  # what one key asks of it


class Held:
    """What can stand in a line. `site` is the queue that it belongs to."""

    __slots__ = ("line", "site", "spot", "trying")

    def __init__(self, site: object) -> None:
        self.site = site
        self.line: Line | None = None  # where it stands
        self.trying: Line | None = None  # whose first it is, while it is asked again
        self.spot: tuple[bool, float, int] = (False, 0.0, 0)

    def resume(self) -> bool:
        """Be asked again; False when something else holds it back, so that the next one need not wait for it."""
        raise NotImplementedError

    def stand(self, sign: int) -> None:
        """It begins (1) or ends (-1) to stand in a line."""

    def done(self) -> None:
        """It needs its place no more: the next one tries."""
        line = self.line
        if line is not None:
            line.leave(self)
        line = self.trying
        if line is not None:
            line.pass_on(self)


class Row:
    """Those of one queue in a line. `first` is the one that is being asked again."""

    __slots__ = ("count", "entries", "first")

    def __init__(self) -> None:
        self.count = 0
        self.first: Held | None = None
        self.entries: list[tuple[bool, float, int, Held]] = []


class Line:
    """Those that one limit holds back. Within a row the order is that of `hold`'s rank, then that of coming."""

    __slots__ = ("_rows", "_seq", "count", "level", "wake_at")

    def __init__(self, level: Level = Level.ALL) -> None:
        self.level = level
        self.count = 0
        self.wake_at = math.inf  # when time will let the first try again: kept by the owner of the clock
        self._rows: dict[object, Row] = {}
        self._seq = 0

    def hold(self, held: Held, above: bool = False, tag: float = 0.0) -> None:
        """`held` stands here until it is woken; the rank is (`above`, `tag`), the lowest first."""
        row = self._rows.get(held.site)
        if row is None:
            row = self._rows[held.site] = Row()
        tried, held.trying = held.trying, None
        if tried is self:
            row.first = None  # and its place is the old one: the next one has not been refused
        else:
            self._seq += 1
            held.spot = (above, tag, self._seq)
        held.line = self
        held.stand(1)
        self.count += 1
        row.count += 1
        heappush(row.entries, (*held.spot, held))
        if len(row.entries) > 2 * row.count + STALE_ENTRIES_MAX:
            row.entries = [entry for entry in row.entries if self._is_valid(entry)]
            heapify(row.entries)
        if tried is not None and tried is not self:
            tried.pass_on(held)

    def leave(self, held: Held) -> None:
        """`held` stands here no more; whoever stood behind it may be served."""
        self._take_out(held, self._rows[held.site])
        self.wake()

    def pass_on(self, held: Held) -> None:
        """`held` is asked no more as the first of its row."""
        held.trying = None
        self._rows[held.site].first = None
        self.wake()

    def wake(self) -> None:
        """The first of each row is asked again, unless one is being asked."""
        rows = self._rows
        if len(rows) > 1:
            # Who came first is asked first: rows compete for the same limit.
            for site in sorted(rows, key=self._came_at):
                self._wake(site, rows[site])
        else:
            for site, row in tuple(rows.items()):
                self._wake(site, row)

    def _wake(self, site: object, row: Row) -> None:
        while row.first is None and row.entries:
            entry = heappop(row.entries)
            held = entry[3]
            if self._is_valid(entry):
                self._take_out(held, row)
                held.trying = self
                row.first = held
                if not held.resume():
                    held.trying = row.first = None
        if row.first is None:
            del self._rows[site]

    def is_closed_to(self, held: Held, above: bool = False, tag: float = 0.0) -> bool:
        """Whether others that stand here have to be served before `held`."""
        if self.count:
            is_first = held.trying is self
            for site, row in self._rows.items():
                if not row.count:
                    continue
                if site is held.site:
                    # Who ranks before all that stand here has been asked before them, and rightly.
                    if not is_first and self._top(row)[:2] <= (above, tag):
                        return True
                elif row.first is None and (not is_first or self._top(row)[2] < held.spot[2]):
                    return True
        return False

    def _take_out(self, held: Held, row: Row) -> None:
        held.line = None
        held.stand(-1)
        self.count -= 1
        row.count -= 1

    def _top(self, row: Row) -> tuple[bool, float, int, Held]:
        while not self._is_valid(row.entries[0]):
            heappop(row.entries)
        return row.entries[0]

    def _came_at(self, site: object) -> int:
        row = self._rows[site]
        return self._top(row)[2] if row.count else 0

    def _is_valid(self, entry: tuple[bool, float, int, Held]) -> bool:
        held = entry[3]
        return held.line is self and held.spot[2] == entry[2]
