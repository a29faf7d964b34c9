"""The one fold of a journal run: lines in, attempts out. Booking, the opening and verification all read through it.

A run is followed by a `RunReader`, which knows how far it has read; its `RunFold` knows which attempts are open, which
have ended, and which lines say nothing that can be used. Nothing here touches the store.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, AttemptProgress, Tally
from tenantry.domain.orphans import LastSigns, end_of_orphan
from tenantry.domain.prices import PriceTable
from tenantry.domain.values import value
from tenantry.ledger.journal import Entry, attempt_named_in, files_of, read_file

DAMAGED = "its checksum is wrong"
UNKNOWN_LINE = "it is none that this version knows"
MISSING_BEGIN = "the beginning of its attempt is missing"


class OpenAttempt(msgspec.Struct, gc=False):
    """An attempt whose end has not been read. `file_number` and `offset` say where its beginning stands."""

    begun: AttemptBegun
    file_number: int
    offset: int
    line: bytes
    progress: AttemptProgress | None = None


class EndedAttempt(msgspec.Struct, gc=False):
    """An attempt with its end; the lines of both, and where the end stands."""

    begun: AttemptBegun
    end: AttemptEnded
    file_number: int
    offset: int
    begun_line: bytes
    line: bytes


@value
class TallyLine:
    """Totals, and where they stand."""

    tally: Tally
    file_number: int
    offset: int
    line: bytes


@value
class Unusable:
    """A line that cannot be booked, and why. `begun` and its line where the attempt that it ends is known."""

    reason: str
    file_number: int
    offset: int
    line: bytes
    attempt_id: str | None = None
    begun: AttemptBegun | None = None
    begun_line: bytes | None = None


class RunFold:
    """The state of one run. `ended`, `tallies` and `unusable` gather until somebody takes them; `gathered` counts them
    so far.
    """

    __slots__ = ("ended", "gathered", "open", "tallies", "unusable")

    def __init__(self) -> None:
        self.open: dict[str, OpenAttempt] = {}
        self.ended: list[EndedAttempt] = []
        self.tallies: list[TallyLine] = []
        self.unusable: list[Unusable] = []
        self.gathered = 0

    def forget(self) -> None:
        """What had gathered was taken."""
        self.ended, self.tallies, self.unusable = [], [], []
        self.gathered = 0

    def apply(self, entry: Entry, file_number: int) -> None:
        """Take one line."""
        event, line = entry.event, entry.line
        if isinstance(event, AttemptEnded):
            self.gathered += 1
            known = self.open.pop(event.attempt_id, None)
            if known is None:
                # Or it is booked: read again after a crash, its beginning lies behind the cursor. The store knows.
                self.unusable.append(Unusable(MISSING_BEGIN, file_number, entry.offset, line, event.attempt_id))
            else:
                self.ended.append(EndedAttempt(known.begun, event, file_number, entry.offset, known.line, line))
        elif isinstance(event, AttemptBegun):
            self.open[event.attempt_id] = OpenAttempt(event, file_number, entry.offset, line)
        elif isinstance(event, AttemptProgress):
            known = self.open.get(event.attempt_id)
            if known is not None:
                known.progress = event
        elif event is not None:
            self.gathered += 1
            self.tallies.append(TallyLine(event, file_number, entry.offset, line))
        else:
            self._pass_over(entry, file_number)

    def _pass_over(self, entry: Entry, file_number: int) -> None:
        """A line that is no event. One that ends an attempt all the same ends it: it would be taken for running."""
        self.gathered += 1
        if not entry.is_whole:
            self.unusable.append(Unusable(DAMAGED, file_number, entry.offset, entry.line))
            return
        attempt_id = attempt_named_in(entry.line)
        known = self.open.pop(attempt_id, None) if attempt_id is not None else None
        begun, begun_line = (known.begun, known.line) if known is not None else (None, None)
        self.unusable.append(
            Unusable(UNKNOWN_LINE, file_number, entry.offset, entry.line, attempt_id, begun, begun_line)
        )

    def orphans(self, prices: PriceTable, at_us: int, signs: LastSigns) -> list[EndedAttempt]:
        """What is open, ended: for a run whose process is dead. `at_us` is now."""
        return [
            EndedAttempt(
                one.begun,
                end_of_orphan(one.begun, one.progress, prices, at_us, signs=signs),
                one.file_number,
                one.offset,
                one.line,
                one.line,
            )
            for one in self.open.values()
        ]


class RunReader:
    """Reads the files of one run on from a position, through its fold."""

    __slots__ = ("file_number", "fold", "offset", "path")

    def __init__(self, path: Path, file_number: int = 1, offset: int = 0) -> None:
        self.path = path
        self.file_number = file_number
        self.offset = offset
        self.fold = RunFold()

    def read(self, events_max: int = sys.maxsize) -> bool:
        """Read to the end, or until so many events have gathered; whether there may be more.

        A file that is removed meanwhile was booked: it ends the reading.
        """
        fold = self.fold
        files = {int(path.stem): path for path in files_of(self.path)}
        while self.file_number in files:
            path = files[self.file_number]
            try:
                if path.stat().st_size > self.offset:
                    for entry in read_file(path, self.offset):
                        self.offset = entry.end_offset
                        fold.apply(entry, self.file_number)
                        if fold.gathered >= events_max:
                            return True
            except FileNotFoundError:
                return False
            if self.file_number + 1 not in files:
                return False
            self.file_number, self.offset = self.file_number + 1, 0
        return False

    def cursor(self) -> tuple[int, int]:
        """Where reading must start again after a crash: the oldest beginning without an end."""
        oldest = (self.file_number, self.offset)
        for entry in self.fold.open.values():
            if (entry.file_number, entry.offset) < oldest:
                oldest = (entry.file_number, entry.offset)
        return oldest
