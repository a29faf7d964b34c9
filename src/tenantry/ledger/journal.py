"""The journal: what a gateway process did, on disk before it takes effect (DESIGN section 5).

Layout: `<directory>/<run id>/lock` and `000001.log`, `000002.log`, ... Each line is `<crc32 as 8 hex digits> <JSON>`.
The lock is held with `flock` for the life of the process, so that anyone can tell a living run from a dead one. The
lines of one turn of the event loop go out in one `write`; a torn last line is what a crash leaves, and readers pass
over it. `next` is the file that will follow, made ready beside the event loop; it gets its number, and its first line,
when the one before it has had its last.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, AttemptProgress, Tally
from tenantry.domain.orphans import QUIET_US, LastSigns
from tenantry.domain.subclassing import mypyc_attr
from tenantry.ledger.lines import BEGIN_START, CHECKSUM_BYTES, END_START, PROGRESS_START, TALLY_START, Event
from tenantry.regular_files import sync_folder
from tenantry.wire.bytework import fill_line

# Small enough to re-read in a second after a crash, large enough that a busy day makes only some files.
FILE_BYTES_MAX = 64 * 1024 * 1024
# Ends that wait for the journal to come back. Beyond it the oldest are dropped and become orphaned rows.
PENDING_MAX: Final = 10_000
# The file to come; no reader takes it for one of the run's.
_NEXT_FILE: Final = "next"
# Made by who first finds a run dead.
_FOUND_DEAD: Final = "found_dead"

log = logging.getLogger("tenantry.gateway")


class JournalUnavailable(Exception):
    """The journal cannot be written."""


def _encode_scrubbed(event: Event) -> bytes:
    """The event with U+FFFD for what UTF-8 cannot say: half of a surrogate pair, out of JSON that an upstream sent."""
    return msgspec.json.encode(_scrubbed(msgspec.to_builtins(event)))


def _scrubbed(item: object) -> object:
    if isinstance(item, str):
        return item.encode("utf-8", "replace").decode("utf-8")
    if isinstance(item, dict):
        return {name: _scrubbed(one) for name, one in cast("dict[str, Any]", item).items()}
    if isinstance(item, list | tuple):
        return [_scrubbed(one) for one in cast("Sequence[Any]", item)]
    return item


@mypyc_attr(allow_interpreted_subclasses=True)
class JournalWriter:
    """Appends the events of one gateway process."""

    def __init__(self, directory: Path, gateway_id: str) -> None:
        self.run_id = f"{gateway_id}-{time.time_ns():020d}-{os.getpid()}"
        self.folder = directory / self.run_id
        self._encode = msgspec.json.Encoder().encode
        self._file = -1
        self._next = -1  # the file that will follow, once it is ready
        self._behind: list[int] = []  # files that have had their last line, and wait for their last sync
        self._syncing = threading.Lock()
        self._number = 0
        self._size = 0
        self._lines: list[bytes] = []
        try:
            self.folder.mkdir(mode=0o700, parents=True)
            self._lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._prepare()
            self._rotate()
            sync_folder(self.folder)
        except OSError as error:
            raise JournalUnavailable(f"the journal cannot be opened in {directory}: {error}") from error

    def begin(self, event: AttemptBegun) -> None:
        """On the file after the next `flush` that succeeds; nothing may be sent upstream before that."""
        self._add(BEGIN_START, event)

    def progress(self, event: AttemptProgress) -> None:
        """A hint for a crash."""
        self._add(PROGRESS_START, event)

    def end(self, event: AttemptEnded) -> None:
        """Kept until a `flush` succeeds."""
        self._add(END_START, event)

    def tally(self, event: Tally) -> None:
        """Totals; the next ones make up for those that are lost."""
        self._add(TALLY_START, event)

    def _add(self, start: bytes, event: Event) -> None:
        try:
            payload = self._encode(event)
        except UnicodeEncodeError:
            payload = _encode_scrubbed(event)
        self.add(fill_line(b"%b%b}", start, payload))

    def add(self, line: bytes) -> None:
        """An event that is a line already (`ledger.templates`)."""
        self._lines.append(line)

    @property
    def has_lines(self) -> bool:
        """Whether anything waits for a flush."""
        return bool(self._lines)

    def flush(self) -> None:
        """Write what has gathered, in one write.

        Raises:
            JournalUnavailable: it could not be written. Ends are kept for the next flush; begins are forgotten.
        """
        lines = self._lines
        if not lines:
            return
        try:
            self._append(lines[0] if len(lines) == 1 else b"".join(lines))
        except JournalUnavailable:
            self._lines = [line for line in lines if line.startswith(END_START, CHECKSUM_BYTES)][-PENDING_MAX:]
            raise
        self._lines = []

    def sync(self) -> None:
        """Bring what was written to the disk, and make the next file ready when this one is full.

        To be called from another thread: all that waits for the disk is done here.

        Raises:
            JournalUnavailable: the disk refused.
        """
        with self._syncing:
            try:
                self._sync()
            except OSError as error:
                raise JournalUnavailable(str(error)) from error

    def _sync(self) -> None:
        """Raises: OSError."""
        while self._behind:
            os.fdatasync(self._behind[0])
            os.close(self._behind.pop(0))
            sync_folder(self.folder)  # the number that its successor has since
        os.fdatasync(self._file)
        if self._size >= FILE_BYTES_MAX and self._next < 0:
            with contextlib.suppress(OSError):  # the file may grow on until a new one can be made
                self._prepare()

    def close(self) -> None:
        """Sync and let go of the lock: every attempt without an end is now known to have none."""
        if self._file < 0:
            return
        for last in (self.flush, self.sync):
            with contextlib.suppress(JournalUnavailable):
                last()
        if self._lines:
            log.error(
                "the journal could not be written to its end: %d answers are booked at what they had told, or what was "
                "held for them",
                len(self._lines),
            )
        with self._syncing:
            for descriptor in (self._file, self._lock, self._next, *self._behind):
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            self._file = self._next = -1
            self._behind.clear()

    def _append(self, lines: bytes) -> None:
        if self._next >= 0 and self._size >= FILE_BYTES_MAX:
            with contextlib.suppress(OSError):  # the lines go to the file that is there
                self._rotate()
        try:
            written = os.write(self._file, lines)
        except OSError as error:
            raise JournalUnavailable(f"the journal cannot be written: {error.strerror}") from error
        if written != len(lines):
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise JournalUnavailable("the journal's disk is full")
        self._size += written

    def _prepare(self) -> None:
        """Make the next file. Raises: OSError."""
        path = self.folder / _NEXT_FILE
        flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        self._next = os.open(path, flags, 0o600)

    def _rotate(self) -> None:
        """Go on in the file that is ready. Nothing here waits for the disk: the next `sync` brings it there, in order.

        Raises:
            OSError: it could not be given its number; lines go on into the file that is there.
        """
        number = self._number + 1
        before = os.dup(self._file) if self._file >= 0 else -1
        try:
            # A reader that sees the number may leave the file before: from here on no line goes there.
            (self.folder / _NEXT_FILE).rename(self.folder / file_name(number))
        except OSError:
            for descriptor in (before, self._next):
                if descriptor >= 0:
                    os.close(descriptor)
            self._next = -1  # another one is made
            raise
        fresh, self._next = self._next, -1
        if before >= 0:
            self._behind.append(before)
            # The number stays the same for a syncing thread: it may hold it at this moment.
            os.dup2(fresh, self._file, inheritable=False)
            os.close(fresh)
        else:
            self._file = fresh
        self._number = number
        self._size = 0


def file_name(number: int) -> str:
    """Of a file of a run; the first is 1."""
    return f"{number:06d}.log"


def files_of(run: Path) -> list[Path]:
    """The files of a run, oldest first."""
    return sorted(run.glob("*.log"))


def is_alive(run: Path) -> bool:
    """Whether the gateway process that writes this run still lives. That it does is noted, for `last_signs`.

    A run that is not there was booked to its end and removed, at any moment before or during this look.
    """
    try:
        descriptor = os.open(run / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        # Between mkdir and lock: a run this young is taken for alive.
        with contextlib.suppress(FileNotFoundError):
            return time.time() - run.stat().st_mtime < 10
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.utime(descriptor)
        return True
    finally:
        os.close(descriptor)
    return False


def last_signs(run: Path) -> LastSigns:
    """When a run that is dead last wrote anything, and until when it may have lived.

    That is when it was last seen alive; where nobody looked for longer than it is ever silent, it may have lived until
    it was found dead, or until the machine was started again.
    """
    found_us = _found_dead_us(run)
    written_us = seen_us = 0
    for path in run.iterdir():
        if path.name == _FOUND_DEAD:
            continue
        with contextlib.suppress(OSError):
            at_us = path.stat().st_mtime_ns // 1000
            seen_us = max(seen_us, at_us)
            if path.name != "lock":
                written_us = max(written_us, at_us)
    booted_us = _booted_us()
    until_us = min(found_us, booted_us) if booted_us > seen_us else found_us
    return LastSigns(written_us, until_us if until_us - seen_us > QUIET_US else seen_us, seen_us)


def _found_dead_us(run: Path) -> int:
    """When somebody first found the run dead: noted once, so that opening and booking say the same of it."""
    mark = run / _FOUND_DEAD
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        return mark.stat().st_mtime_ns // 1000
    except OSError:  # a full disk, which frees itself no later than the run is removed
        return time.time_ns() // 1000


def _booted_us() -> int:
    """When the machine was started, in unix microseconds; 0 where that is not known."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # Linux alone
    return (time.time_ns() - time.clock_gettime_ns(clock)) // 1000 if clock is not None else 0
