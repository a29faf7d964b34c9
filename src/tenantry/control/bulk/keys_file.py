"""The file that new keys are written to as they are made: CSV, readable by its owner only, one run at a time.

Beside it, while clients are being made, lies `<file>.started` with their slugs, one a line. A slug is on the disk
before the client is, and goes when the key is on the disk; so a run that was killed leaves word of the clients that may
be unfinished.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import io
import os
import stat
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tenantry.domain.spreadsheets import guarded
from tenantry.regular_files import read_regular, sync_folder

COLUMNS = ("slug", "name", "endpoint", "key", "key_id", "made_at")


_OPENING = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW


class KeysFileUnusable(Exception):
    """The file for new keys cannot be used; the message says why and how to mend it."""


@dataclass(slots=True)
class KeysFile:
    """An open file of keys, for several threads. `slugs` are those that it has a key of."""

    path: Path
    descriptor: int
    slugs: set[str] = field(default_factory=set[str])
    _begun: set[str] = field(default_factory=set[str])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def _marker(self) -> Path:
        return self.path.with_name(f"{self.path.name}.started")

    def started(self) -> set[str]:
        """The slugs of clients that an earlier run began and did not finish; they stay begun until they are ended."""
        with self._lock, contextlib.suppress(FileNotFoundError):
            # Whose key is in the file was finished; the kill came before that was noted.
            self._begun |= set(read_regular(self._marker).decode("utf-8", "replace").split()) - self.slugs
            if not self._begun:
                self._marker.unlink()
        return set(self._begun)

    def begin(self, slug: str) -> None:
        """Leave word that this client is being made. On the disk before this returns.

        Raises:
            KeysFileUnusable: it cannot be written.
        """
        with self._lock:
            if slug not in self._begun:
                self._begun.add(slug)
                self._write_marker()

    def add(self, slug: str, name: str, endpoint: str, key: str, key_id: str) -> None:
        """Write a key, and take the word back. On the disk before this returns.

        Raises:
            KeysFileUnusable: it cannot be written. The word stays, so that the next run finishes this client.
        """
        made_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        # Only the name is somebody else's text; slug, endpoint, key, id and time cannot begin like a formula.
        with self._lock:
            self._write((slug, guarded(name), endpoint, key, key_id, made_at))
            self.slugs.add(slug)
        self.end(slug)

    def end(self, slug: str) -> None:
        """Nothing of this client is left unfinished."""
        with self._lock:
            self._begun.discard(slug)
            if not self._begun:
                self._marker.unlink(missing_ok=True)
            else:
                self._write_marker()

    def _write_marker(self) -> None:
        """Whole or not at all: a kill in between must not lose a slug. Raises: KeysFileUnusable."""
        draft = self._marker.with_name(f"{self._marker.name}.new")
        try:
            with draft.open("w", encoding="utf-8") as file:
                file.write("\n".join(sorted(self._begun)) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self._marker)
            sync_folder(self.path.parent)
        except OSError as error:
            raise KeysFileUnusable(f"{self._marker} cannot be written: {error.strerror}") from None

    def _write(self, cells: tuple[str, ...]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(cells)
        data = line.getvalue().encode()
        try:
            if os.write(self.descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self.descriptor)
        except OSError as error:
            raise KeysFileUnusable(
                f"{self.path} cannot be written: {error.strerror}. Mend that and run the same command again"
            ) from None

    def load(self) -> None:
        """Read what is there. A last line without an end was torn by a kill, its key never told: it is cut off."""
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.ftruncate(self.descriptor, len(whole))
        rows = list(csv.reader(io.StringIO(whole.decode("utf-8", "replace"))))
        if not rows:
            self._write(COLUMNS)
        elif tuple(rows[0]) != COLUMNS:
            raise KeysFileUnusable(f"{self.path} holds something other than keys; name another file with --keys-out")
        self.slugs = {row[0] for row in rows[1:] if len(row) == len(COLUMNS)}


@contextlib.contextmanager
def opened_keys_file(path: Path) -> Generator[KeysFile]:
    """The file, made if it is not there, locked against a second run.

    Raises:
        KeysFileUnusable: it is open to others, another run has it, or it is something else.
    """
    try:
        descriptor = os.open(path, _OPENING, 0o600)
    except OSError as error:
        raise KeysFileUnusable(f"{path} cannot be written: {error.strerror}") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise KeysFileUnusable(f"{path} is not a regular file; name another with --keys-out")
        if stat.S_IMODE(mode) & 0o077:
            raise KeysFileUnusable(f"{path} is open to others: keys are written to it, so `chmod 600 {path}` first")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise KeysFileUnusable(f"another run is writing to {path}; wait for its end") from None
        file = KeysFile(path, descriptor)
        file.load()
        yield file
    finally:
        os.close(descriptor)
