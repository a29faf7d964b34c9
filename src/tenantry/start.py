"""The `tenantry` command, begun: nothing is imported before Ctrl-C is one line and no traceback."""

from __future__ import annotations

import sys
from types import TracebackType


def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C while a command is being loaded is no fault of ours to be seen."""
    if issubclass(kind, KeyboardInterrupt):
        print("tenantry: interrupted before anything was done", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def main() -> None:
    """What the command calls."""
    sys.excepthook = tell
    from tenantry.app import main as run

    run()
