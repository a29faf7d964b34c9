"""Lines and tables for people, JSON for programs: the one door to the terminal, where text is made safe to show."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tenantry.domain.printable import escaped, printable, stamp


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Lines of text; on standard error with `err`, as they end themselves without `nl`."""
    import typer

    typer.echo(printable(text, "\n\t"), err=err, nl=nl)


def print_json(value: object) -> None:
    import typer

    typer.echo(escaped(json.dumps(value, indent=2, ensure_ascii=False, default=_as_json)))


def _as_json(value: object) -> str:
    if isinstance(value, datetime):
        return stamp(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str] = ()) -> None:
    """A table on a terminal; tab-separated lines, header first, in a pipe."""
    import typer

    shown = [[printable(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in (columns, *shown):
            typer.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in shown:
        table.add_row(*map(Text, row))  # as it is: brackets in a name are no markup
    Console().print(table)
