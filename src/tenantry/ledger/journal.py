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
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from zlib import crc32

import msgspec

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, AttemptProgress, Tally
from tenantry.domain.orphans import LastSigns

# Small enough to re-read in a second after a crash, large enough that a busy day makes only some files.
FILE_BYTES_MAX = 64 * 1024 * 1024
# Ends that wait for the journal to come back. Beyond it the oldest are dropped and become orphaned rows.
PENDING_MAX = 10_000
# The file to come; no reader takes it for one of the run's.
_NEXT_FILE = "next"


class JournalUnavailable(Exception):
    """The journal cannot be written."""


_LF = 0x0A
_CHECKSUM_BYTES = 9  # eight digits and a blank
_BEGIN_START = b'{"begin":'
_PROGRESS_START = b'{"progress":'
_END_START = b'{"end":'
_TALLY_START = b'{"tally":'


def _encode_scrubbed(event: Event) -> bytes:
    """The event with U+FFFD for what UTF-8 cannot say: half of a surrogate pair, out of JSON that an upstream sent."""
    return msgspec.json.encode(_scrubbed(msgspec.to_builtins(event)))


def _scrubbed(item: object) -> object:
    if isinstance(item, str):
        return item.encode("utf-8", "replace").decode("utf-8")
    if isinstance(item, dict):
        return {name: _scrubbed(one) for name, one in cast("dict[str, Any]", item).items()}
    if isinstance(item, list | tuple):
        return [_scrubbed(one) for one in cast("list[Any]", item)]
    return item


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
            _sync_folder(self.folder)
        except OSError as error:
            raise JournalUnavailable(f"the journal cannot be opened in {directory}: {error}") from error

    def begin(self, event: AttemptBegun) -> None:
        """On the file after the next `flush` that succeeds; nothing may be sent upstream before that."""
        self._add(_BEGIN_START, event)

    def progress(self, event: AttemptProgress) -> None:
        """A hint for a crash."""
        self._add(_PROGRESS_START, event)

    def end(self, event: AttemptEnded) -> None:
        """Kept until a `flush` succeeds."""
        self._add(_END_START, event)

    def tally(self, event: Tally) -> None:
        """Totals; the next ones make up for those that are lost."""
        self._add(_TALLY_START, event)

    def _add(self, start: bytes, event: Event) -> None:
        try:
            payload = self._encode(event)
        except UnicodeEncodeError:
            payload = _encode_scrubbed(event)
        self.add(start + payload + b"}")

    def add(self, document: bytes) -> None:
        """An event that is a JSON document already (`ledger.templates`)."""
        self._lines.append(b"%08x %b\n" % (crc32(document), document))

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
            self._lines = [line for line in lines if line.startswith(_END_START, _CHECKSUM_BYTES)][-PENDING_MAX:]
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
            _sync_folder(self.folder)  # the number that its successor has since
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
            (self.folder / _NEXT_FILE).rename(self.folder / f"{number:06d}.log")
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


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Line(msgspec.Struct):
    begin: AttemptBegun | None = None
    progress: AttemptProgress | None = None
    end: AttemptEnded | None = None
    tally: Tally | None = None


Event = AttemptBegun | AttemptProgress | AttemptEnded | Tally
_DECODER = msgspec.json.Decoder(_Line)
# By how a line starts behind its checksum: what most lines say is decoded at once, a third faster than through `_Line`.
_DECODERS: tuple[tuple[bytes, int, Callable[[bytes], Event]], ...] = (
    (_END_START, _CHECKSUM_BYTES + len(_END_START), msgspec.json.Decoder(AttemptEnded).decode),
    (_BEGIN_START, _CHECKSUM_BYTES + len(_BEGIN_START), msgspec.json.Decoder(AttemptBegun).decode),
    (_PROGRESS_START, _CHECKSUM_BYTES + len(_PROGRESS_START), msgspec.json.Decoder(AttemptProgress).decode),
)


class Entry(msgspec.Struct, gc=False):
    """One line read back. `event` is None where it cannot be used: the line is damaged, or (`is_whole`) says something
    that is no event of this version. `end_offset` is the byte behind it.
    """

    event: Event | None
    offset: int
    end_offset: int
    line: bytes
    is_whole: bool


def read_file(path: Path, offset: int) -> Iterator[Entry]:
    """The whole lines of a journal file from byte `offset`. What follows the last LF is not there yet, or torn."""
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if line[-1] != _LF:
                return
            end_offset = offset + len(line)
            if line[:_CHECKSUM_BYTES] == b"%08x " % crc32(line[_CHECKSUM_BYTES:-1]):
                yield Entry(decode_line(line), offset, end_offset, line, True)
            else:
                yield Entry(None, offset, end_offset, line, False)
            offset = end_offset


def decode_line(line: bytes) -> Event | None:
    """The event of a whole line; None where it is none that this version knows."""
    try:
        for start, at, decode in _DECODERS:
            if line.startswith(start, _CHECKSUM_BYTES):
                return decode(line[at:-2])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # or it says more than that one thing
    try:
        decoded = _DECODER.decode(line[_CHECKSUM_BYTES:-1])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return decoded.begin or decoded.progress or decoded.end or decoded.tally


_ATTEMPT_ID = re.compile(rb'"attempt_id":"([^"\\]{1,64})"')


def attempt_named_in(line: bytes) -> str | None:
    """The attempt that a line ends which is no event; None where it ends none."""
    found = _ATTEMPT_ID.search(line) if line.startswith(_END_START, _CHECKSUM_BYTES) else None
    return found.group(1).decode("utf-8", "replace") if found is not None else None


def files_of(run: Path) -> list[Path]:
    """The files of a run, oldest first."""
    return sorted(run.glob("*.log"))


def is_alive(run: Path) -> bool:
    """Whether the gateway process that writes this run still lives. That it does is noted, for `last_signs`."""
    try:
        descriptor = os.open(run / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        # Between mkdir and lock: a run this young is taken for alive.
        return time.time() - run.stat().st_mtime < 10
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.utime(descriptor)
        return True
    finally:
        os.close(descriptor)
    return False


def last_signs(run: Path) -> LastSigns:
    """When a run that is dead last wrote anything, and when it was last seen alive: the times of its files."""
    written_us = alive_us = 0
    for path in run.iterdir():
        with contextlib.suppress(OSError):
            at_us = path.stat().st_mtime_ns // 1000
            alive_us = max(alive_us, at_us)
            if path.name != "lock":
                written_us = max(written_us, at_us)
    return LastSigns(written_us, alive_us)
