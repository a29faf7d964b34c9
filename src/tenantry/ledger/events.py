"""The one fold of a journal run: lines in, attempts out. Booking, the opening and verification all read through it.

A run is followed by a `RunReader`, which knows how far it has read; its `RunFold` knows which attempts are open, which
have ended, and which lines say nothing that can be used. Nothing here touches the store.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import msgspec

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, AttemptProgress, Tally
from tenantry.domain.orphans import LastSigns, end_of_orphan
from tenantry.domain.prices import PriceTable
from tenantry.domain.values import value
from tenantry.ledger.journal import file_name, files_of
from tenantry.ledger.lines import (
    BEGIN_START,
    CHECKSUM_BYTES,
    END_START,
    ESCAPE,
    LF,
    PROGRESS_START,
    UNREADABLE,
    Begun,
    Ended,
    attempt_named_in,
    decode_begin,
    decode_end,
    decode_line,
    decode_progress_id,
    event_of,
    has_nul,
)

# Lines that are read at once: some hundreds, which stay in the processor's cache while they are taken.
_READ_BYTES = 256 * 1024
# Where the JSON of an event begins in its line; behind it are `}` and LF.
_BEGIN_AT = CHECKSUM_BYTES + len(BEGIN_START)
_PROGRESS_AT = CHECKSUM_BYTES + len(PROGRESS_START)
_END_AT = CHECKSUM_BYTES + len(END_START)

DAMAGED = "its checksum is wrong"
UNKNOWN_LINE = "it is none that this version knows"
MISSING_BEGIN = "the beginning of its attempt is missing"


class OpenAttempt(msgspec.Struct, gc=False):
    """An attempt whose end has not been read. `file_number` and `offset` say where its beginning stands.

    `progress` is the last line that told how it goes on, and where that stands: it is read when no other will come.
    """

    begun: Begun
    file_number: int
    offset: int
    line: bytes
    progress: bytes | None = None
    progress_file: int = 0
    progress_offset: int = 0

    def go_on(self, line: bytes, file_number: int, offset: int) -> None:
        self.progress = line
        self.progress_file = file_number
        self.progress_offset = offset


class EndedAttempt(msgspec.Struct, gc=False):
    """An attempt with its end; the lines of both, and where the end stands."""

    begun: Begun
    end: Ended
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
    begun: Begun | None = None
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

    def take(self, lines: Sequence[bytes], file_number: int, offset: int, gathered_max: int) -> int:
        """Take lines that stand from `offset` on, until so many events have gathered; the offset behind what was taken.

        A last line without LF is not there yet, or torn.
        """
        running, ended = self.open, self.ended
        for line in lines:
            if line[-1] != LF:
                return offset
            at, offset = offset, offset + len(line)
            if line[:CHECKSUM_BYTES] != b"%08x " % crc32(line[CHECKSUM_BYTES:-1]):
                self._put_aside(Unusable(DAMAGED, file_number, at, line))
                continue
            try:
                if line[CHECKSUM_BYTES:_END_AT] == END_START:
                    end = decode_end(line[_END_AT:-2])
                    known = None if has_nul(end) else running.pop(end.attempt_id, None)
                    if known is None:
                        self._take_any(line, file_number, at)
                    else:
                        self.gathered += 1
                        ended.append(EndedAttempt(known.begun, end, file_number, at, known.line, line))
                elif line[CHECKSUM_BYTES:_BEGIN_AT] == BEGIN_START and line.find(ESCAPE) < 0:
                    begun = decode_begin(line[_BEGIN_AT:-2])
                    running[begun.attempt_id] = OpenAttempt(begun, file_number, at, line)
                elif line[CHECKSUM_BYTES:_PROGRESS_AT] == PROGRESS_START:
                    known = running.get(decode_progress_id(line[_PROGRESS_AT:-2]).attempt_id)
                    if known is not None:
                        known.go_on(line, file_number, at)
                else:
                    self._take_any(line, file_number, at)
            except UNREADABLE:
                self._take_any(line, file_number, at)
            if self.gathered >= gathered_max:
                return offset
        return offset

    def _take_any(self, line: bytes, file_number: int, at: int) -> None:
        """Take a whole line, whatever it says."""
        event = decode_line(line)
        if isinstance(event, AttemptEnded):
            known = self.open.pop(event.attempt_id, None)
            if known is None:
                self._miss(event.attempt_id, file_number, at, line)
            else:
                self.gathered += 1
                self.ended.append(EndedAttempt(known.begun, event, file_number, at, known.line, line))
        elif isinstance(event, AttemptBegun):
            self.open[event.attempt_id] = OpenAttempt(event, file_number, at, line)
        elif isinstance(event, AttemptProgress):
            known = self.open.get(event.attempt_id)
            if known is not None:
                known.go_on(line, file_number, at)
        elif event is not None:
            self.gathered += 1
            self.tallies.append(TallyLine(event, file_number, at, line))
        else:
            # One that ends an attempt all the same ends it: it would be taken for running.
            attempt_id = attempt_named_in(line)
            known = self.open.pop(attempt_id, None) if attempt_id is not None else None
            begun, begun_line = (known.begun, known.line) if known is not None else (None, None)
            self._put_aside(Unusable(UNKNOWN_LINE, file_number, at, line, attempt_id, begun, begun_line))

    def _miss(self, attempt_id: str, file_number: int, at: int, line: bytes) -> None:
        """Or it is booked: read again after a crash, its beginning lies behind the cursor. The store knows."""
        self._put_aside(Unusable(MISSING_BEGIN, file_number, at, line, attempt_id))

    def _put_aside(self, one: Unusable) -> None:
        self.gathered += 1
        self.unusable.append(one)

    def orphans(self, prices: PriceTable, at_us: int, signs: LastSigns) -> list[EndedAttempt]:
        """What is open, ended: for a run whose process is dead. `at_us` is now."""
        return [
            EndedAttempt(
                one.begun,
                end_of_orphan(event_of(one.begun), self._read_progress(one), prices, at_us, signs=signs),
                one.file_number,
                one.offset,
                one.line,
                one.line,
            )
            for one in self.open.values()
        ]

    def _read_progress(self, one: OpenAttempt) -> AttemptProgress | None:
        if one.progress is None:
            return None
        event = decode_line(one.progress)
        if isinstance(event, AttemptProgress):
            return event
        self._put_aside(Unusable(UNKNOWN_LINE, one.progress_file, one.progress_offset, one.progress))
        return None


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
        files = {int(path.stem): path for path in files_of(self.path)}
        while self.file_number in files:
            path = files[self.file_number]
            try:
                if path.stat().st_size > self.offset and self._read_file(path, events_max):
                    return True
            except FileNotFoundError:
                return False
            if self.file_number + 1 not in files:
                return False
            self.file_number, self.offset = self.file_number + 1, 0
        return False

    def is_behind(self) -> bool:
        """Whether its file has grown; what stands in a file that follows is found by reading."""
        try:
            return (self.path / file_name(self.file_number)).stat().st_size > self.offset
        except FileNotFoundError:
            return False

    def _read_file(self, path: Path, events_max: int) -> bool:
        """Read a file on; whether as much has gathered as is wanted."""
        fold = self.fold
        with path.open("rb", buffering=_READ_BYTES) as file:
            file.seek(self.offset)
            while lines := file.readlines(_READ_BYTES):
                self.offset = fold.take(lines, self.file_number, self.offset, events_max)
                if fold.gathered >= events_max:
                    return True
        return False

    def cursor(self) -> tuple[int, int]:
        """Where reading must start again after a crash: the oldest beginning without an end."""
        oldest = (self.file_number, self.offset)
        for entry in self.fold.open.values():
            if (entry.file_number, entry.offset) < oldest:
                oldest = (entry.file_number, entry.offset)
        return oldest
