"""Lines and tables for people, JSON for programs: the one door to the terminal, where text is made safe to show."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from tenantry.domain.printable import escaped, printable, stamp

if TYPE_CHECKING:
    from rich.console import Console


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
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


# What a column of figures says where there is nothing.
_NOTHING = ("", "0", "-", "$0.00")
# Between two columns of a table.
_GAP_CHARS = 2


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str] = ()) -> None:
    """A table on a terminal; tab-separated lines, header first, in a pipe.

    No number and no name is ever broken: where a table is too wide, columns of nothing but zeros are left out; where
    that is not enough, each row stands by itself, a line for each of its cells. `right` are the columns of figures.
    """
    import typer

    shown = [[printable(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in (columns, *shown):
            typer.echo("\t".join(row))
        return
    from rich.console import Console

    console = Console()
    table = _Table(columns, shown, right)
    if not table.fits(console.width):
        table = table.without_zeros()
    if table.fits(console.width):
        _print_beside(table, console)
    else:
        _print_stacked(table)


@dataclass(frozen=True, slots=True)
class _Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[str]

    def without_zeros(self) -> _Table:
        """Without the columns of figures that are all zero."""
        kept = [
            at
            for at, column in enumerate(self.columns)
            if column not in self.right or any(row[at] not in _NOTHING for row in self.rows)
        ]
        rows = [[row[at] for at in kept] for row in self.rows]
        return _Table([self.columns[at] for at in kept], rows, self.right)

    def fits(self, width: int) -> bool:
        return sum(self.least_widths()) + self.gaps <= width

    @property
    def gaps(self) -> int:
        return _GAP_CHARS * max(0, len(self.columns) - 1)

    def least_widths(self) -> list[int]:
        """With what stands in columns of figures in one line, and every word elsewhere."""
        return [
            max((_cells(word) for text in self._texts(at) for word in ([text] if whole else text.split())), default=0)
            for at, whole in enumerate(column in self.right for column in self.columns)
        ]

    def widths(self, width: int) -> list[int]:
        """Of the columns of a table that fits: the widest text gives way first."""
        least = self.least_widths()
        wanted = [max(map(_cells, self._texts(at)), default=0) for at in range(len(self.columns))]
        while sum(wanted) + self.gaps > width:
            widest = max(range(len(wanted)), key=lambda at: (wanted[at] > least[at], wanted[at]))
            wanted[widest] -= 1
        return wanted

    def _texts(self, at: int) -> Iterator[str]:
        yield self.columns[at]
        for row in self.rows:
            yield row[at]


def _cells(text: str) -> int:
    """How wide it is on a terminal."""
    from rich.cells import cell_len

    return cell_len(text)


def _print_stacked(table: _Table) -> None:
    """The first cell of each row, and below it what is in the others."""
    width = max(map(_cells, table.columns[1:]), default=0)
    for row in table.rows:
        say(row[0])
        for column, cell in zip(table.columns[1:], row[1:], strict=True):
            if cell:
                say(f"  {column:<{width}}  {cell}")


def _print_beside(table: _Table, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column, width in zip(table.columns, table.widths(console.width), strict=True):
        shown.add_column(column, justify="right" if column in table.right else "left", overflow="fold", width=width)
    for row in table.rows:
        shown.add_row(*map(Text, row))  # as it is: brackets in a name are no markup
    console.print(shown)
