"""How a command is handed a secret."""

from __future__ import annotations

import os
import sys

from tenantry.cli.context import USAGE, fail


def read_secret(variable: str | None) -> str:
    """A key from the environment variable `variable`, or from standard input; never from the command line."""
    if variable is None:
        secret = sys.stdin.readline().strip()
        source = "standard input"
    else:
        secret = os.environ.get(variable, "").strip()
        source = f"the environment variable {variable}"
    if not secret:
        raise fail(f"{source} is empty; nothing was made", USAGE)
    return secret
