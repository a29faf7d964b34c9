"""Ends the PostgreSQL server of a test run with the run, however that ends: `python postgresql_keeper.py FOLDER`.

Its standard input is a pipe that who started it holds alone; with the process, killed or not, the pipe ends. Then
whatever works below FOLDER is ended, and the folder removed. It is a process of its own, for who is killed does
nothing more; it knows the server by its folder, so there is no moment in which it does not know it yet. (A death signal
of the kernel's, PR_SET_PDEATHSIG in prctl(2), comes with the end of a thread already, and removes no folder.)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

# What has not ended by then as it should (it syncs nothing: a second is usual) is killed.
_PATIENCE_SECONDS = 30.0
_LOOK_SECONDS = 0.05


def _works_in(folder: Path) -> list[int]:
    """The processes whose working folder it is, or is below it; a zombie has none."""
    found: list[int] = []
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            where = (one / "cwd").readlink()
            if where == folder or folder in where.parents:
                found.append(int(one.name))
    return found


def _end(folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while pids := _works_in(folder):
        # To the server: "fast", it waits for nobody (pg_ctl(1)). A test may have stopped it, so it has to go on first.
        ending = signal.SIGINT if time.monotonic() < deadline else signal.SIGKILL
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, ending)
        time.sleep(_LOOK_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.buffer.read(1)  # a byte: now; the pipe's end: nobody is there who could have said so
    _end(Path(sys.argv[1]))
