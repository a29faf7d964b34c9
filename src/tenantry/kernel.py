"""What the kernel knows of the processes of a site: how they are, which locks they hold, which files they use.

All of it is Linux's (proc_pid_stat(5), proc_locks(5)). Elsewhere, and of processes in another container, nothing is
known, and nothing raised.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
STOPPED, TRACED, DISK_SLEEP = "T", "t", "D"


def state_of(pid: int) -> str:
    """One letter: R, S, D, T, t, Z; "" when nothing is known."""
    try:
        # The name before it stands in brackets and may hold anything.
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def command_of(pid: int) -> str:
    """How a process was called; "" when that is not known."""
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def holders_of(path: Path, first: int = 0, last: int | None = None, *, writing: bool = False) -> list[int]:
    """Processes that hold a lock on the file `path`, within a range of its bytes; of `writing` ones only if asked."""
    try:
        inode = os.stat(path).st_ino
        lines = (_PROC / "locks").read_text().splitlines()
    except OSError:
        return []
    found: list[int] = []
    for line in lines:
        fields = line.split()
        if len(fields) < 8 or fields[1] == "->" or fields[5].rpartition(":")[2] != str(inode):
            continue
        start, end = int(fields[6]), float("inf") if fields[7] == "EOF" else int(fields[7])
        is_within = end >= first and (last is None or start <= last)
        pid = int(fields[4])
        # A number may be that of a file on another disk: the process tells.
        if is_within and (fields[3] == "WRITE" or not writing) and pid not in found and _uses(pid, path):
            found.append(pid)
    return found


def users_of(path: Path) -> list[int]:
    """Other processes that have the file `path` open, of those whose files this user may see."""
    pids = [int(one.name) for one in _PROC.iterdir() if one.name.isdigit()] if _PROC.exists() else []
    return [pid for pid in pids if pid != os.getpid() and _uses(pid, path)]


def uses_another(pid: int, path: Path) -> bool:
    """Whether a process has a file open that had the name of `path` when it was opened, and is another."""
    for name, target in _files_of(pid):
        if target in (str(path), f"{path} (deleted)") and not _is_same(name, path):
            return True
    return False


def _uses(pid: int, path: Path) -> bool:
    return any(_is_same(name, path) for name, _ in _files_of(pid))


def _files_of(pid: int) -> Iterator[tuple[Path, str]]:
    with contextlib.suppress(OSError):
        for name in (_PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                yield name, os.readlink(name)


def _is_same(name: Path, path: Path) -> bool:
    try:
        return os.path.samestat(name.stat(), path.stat())
    except OSError:
        return False
