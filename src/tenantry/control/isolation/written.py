"""Where else the processes of a site may have written: what they hold open, where they run, the temporary folders."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

# What a file system's time of a file may be behind the clock's.
CLOCK_SECONDS: Final = 2.0
_IN_MEMORY = "/dev/shm/"  # noqa: S108 -- files, beside devices: what is there is looked at, and nothing written
_LISTENING: Final = "0A"
_FOLDERS: Final = ("/tmp", "/var/tmp")  # noqa: S108 -- looked into, nothing is made there


def files_elsewhere(ports: Iterable[int], named: Iterable[Path], since: float) -> list[Path]:
    """Regular files, not below `named`, that were written since then (unix seconds): those that the processes listening
    on these ports hold open, and those of the same owner that lie where they run or may put what is temporary.

    Empty where the system does not tell.
    """
    found: set[str] = set()
    folders = {tempfile.gettempdir(), *_FOLDERS}
    for process in _listeners(set(ports)):
        found.update(path for path in _open_files(process) if _is_fresh(path, since))
        with contextlib.suppress(OSError):
            folders.add(os.readlink(f"{process}/cwd"))
    for folder in folders:
        with contextlib.suppress(OSError):
            found.update(path for path in _files_in(folder) if _is_fresh(path, since))
    roots = [path.resolve() for path in named]
    return [path for path in sorted(map(Path, found)) if not _is_below(path, roots)]


def _files_in(folder: str) -> Iterator[str]:
    """Without asking for each of what may be hundreds of thousands in a temporary folder, most of them folders."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                yield entry.path


def _is_fresh(path: str, since: float) -> bool:
    """Whether it is a file of ours that was written since then."""
    try:
        told = os.lstat(path)
    except OSError:
        return False
    ours = stat.S_ISREG(told.st_mode) and told.st_uid == os.getuid() and os.access(path, os.R_OK)
    return ours and told.st_mtime >= since - CLOCK_SECONDS


def _is_below(path: Path, roots: list[Path]) -> bool:
    return any(path.resolve().is_relative_to(root) for root in roots)


def _listeners(ports: set[int]) -> Iterator[Path]:
    """`/proc/PID` of each."""
    sockets = {f"socket:[{number}]" for number in _socket_numbers(ports)}
    if not sockets:
        return
    for process in Path("/proc").glob("[0-9]*"):
        if any(target in sockets for target in _targets(process)):
            yield process


def _socket_numbers(ports: set[int]) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text("ascii").splitlines()[1:]:
                words = line.split()
                if words[3] == _LISTENING and int(words[1].rpartition(":")[2], 16) in ports:
                    yield words[9]


def _targets(process: Path) -> Iterator[str]:
    try:
        numbers = os.listdir(f"{process}/fd")
    except OSError:  # it has ended, or is another user's
        return
    for number in numbers:
        with contextlib.suppress(OSError):  # it has just been closed
            yield os.readlink(f"{process}/fd/{number}")


def _open_files(process: Path) -> Iterator[str]:
    for target in _targets(process):
        is_device = target.startswith("/dev/") and not target.startswith(_IN_MEMORY)
        if target.startswith("/") and not is_device and not target.startswith("/proc/"):
            yield target
