"""The long-running commands called without an option, which is how they nearly always are: nothing has to be parsed.

Typer, and Pydantic, which it loads for the first option that it looks at, are a fourth of a gateway's start (measured,
2026-11-26).
"""

from __future__ import annotations

import os

from tenantry.cli.context import Processes, is_nothing_there, settings, told
from tenantry.cli.remote.server import ADDRESS_VARIABLE


def run_direct(processes: Processes, words: list[str]) -> int | None:
    """The exit code; None where the words are for the whole command line."""
    if words not in (["gateway"], ["control"], ["serve"]) or os.environ.get(ADDRESS_VARIABLE):
        return None
    try:
        found = settings(starts=True)
        if words == ["serve"] and is_nothing_there(found):
            return None  # a first start: the command does `init`
        with told():
            if words == ["gateway"]:
                return processes.gateway(found)
            return processes.control(found) if words == ["control"] else processes.serve(found, False)
    except Exception as error:
        import typer

        if not isinstance(error, typer.Exit):
            raise
        return error.exit_code
