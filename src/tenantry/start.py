"""The `tenantry` command, begun: nothing is imported before Ctrl-C is one line and no traceback."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from types import TracebackType

# What a command loads is no garbage, and looking for some in it was a tenth of its start (measured, 2026-11-29).
# Python's own are 700 objects; a command that makes and forgets cycles of them keeps at most some 20 MB more.
COLLECT_OBJECTS = 100_000
# What a command or process makes is its user's alone, folders on the way and what a library writes included. What is
# for others (units, which systemd wants readable) says so by itself.
PRIVATE = 0o077


def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C while a command is being loaded is no fault of ours to be seen."""
    if issubclass(kind, KeyboardInterrupt):
        print("tenantry: interrupted before anything was done", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def main() -> None:
    """What the command calls."""
    sys.excepthook = tell
    os.umask(PRIVATE)
    gc.set_threshold(COLLECT_OBJECTS)
    atexit.register(gc.freeze)  # the interpreter's own last look through all of it
    from tenantry.app import main as run

    run()
