"""How an isolation proof comes along: a bar with the time left on a terminal, a line for each group in both."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from tenantry.cli.progress import make_bar
from tenantry.control.isolation.findings import Group
from tenantry.control.isolation.stage import Listener
from tenantry.domain.printable import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# On a terminal, the first of each group; the report has them all.
SHOWN_MAX = 5
_COLOURS = {"PASS": "green", "FAIL": "red"}


class Lines(Listener):
    """A line for each group as it ends, and what failed in it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def ended(self, group: Group) -> None:
        for line in lines_of(group):
            self._out.write(line + "\n")
        self._out.flush()


class Bar(Listener):
    """The same above a bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def came(self, share: float) -> None:
        self._progress.update(self._task, completed=share)

    def ended(self, group: Group) -> None:
        from rich.text import Text

        first, *others = lines_of(group)
        verdict = Text(first[:8], style=f"bold {_COLOURS.get(group.verdict, '')}".strip())
        self._progress.console.print(verdict.append(first[8:], style="not bold default"), soft_wrap=True)
        for line in others:
            self._progress.console.print(Text(line), soft_wrap=True)


def lines_of(group: Group) -> list[str]:
    """What is told of a group that has ended."""
    lines = [f"{group.verdict:8}{group.proves} ({group.not_run or f'{len(group.checks)} checks'})"]
    for check in group.failures[:SHOWN_MAX]:
        lines += [f"        {check.tried}", f"          expected {check.expected}", f"          seen {check.seen}"]
        if check.repeat:
            lines.append(f"          {check.repeat}")
    if len(group.failures) > SHOWN_MAX:
        lines.append(f"        and {len(group.failures) - SHOWN_MAX} more; --report or --json has them")
    return [printable(line) for line in lines]


@contextmanager
def told_progress(out: TextIO) -> Generator[Listener]:
    """Who tells it on `out`. The bar is gone when it ends."""
    if not out.isatty():
        yield Lines(out)
        return
    with make_bar(out) as progress:
        yield Bar(progress, progress.add_task("", total=1.0))
