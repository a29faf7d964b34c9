"""How an isolation proof comes along: a bar with the time left on a terminal, a line for each group in both."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from tenantry.cli.progress import make_bar
from tenantry.control.isolation.findings import Group, lines_of
from tenantry.control.isolation.stage import Listener, Stage

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_COLOURS = {"PASS": "green", "FAIL": "red"}


class Lines(Listener):
    """A line for each group as it ends, and what failed in it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def began(self, stage: Stage, leftovers: Sequence[str]) -> None:
        if leftovers:
            self._out.write(_removed(leftovers) + "\n")

    def ended(self, group: Group) -> None:
        for line in lines_of(group):
            self._out.write(line + "\n")
        self._out.flush()


class Bar(Listener):
    """The same above a bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def began(self, stage: Stage, leftovers: Sequence[str]) -> None:
        if leftovers:
            self._progress.console.print(_removed(leftovers), soft_wrap=True, markup=False)

    def came(self, share: float) -> None:
        self._progress.update(self._task, completed=share)

    def ended(self, group: Group) -> None:
        from rich.text import Text

        first, *others = lines_of(group)
        verdict = Text(first[:8], style=f"bold {_COLOURS.get(group.verdict, '')}".strip())
        self._progress.console.print(verdict.append(first[8:], style="not bold default"), soft_wrap=True)
        for line in others:
            self._progress.console.print(Text(line), soft_wrap=True)


class Watched(Listener):
    """Tells `told` how a run comes along, and two more when it has begun and when it tidies up."""

    def __init__(self, told: Listener, has_begun: Callable[[Stage], None], tidies_up: Callable[[], None]) -> None:
        self._told, self._has_begun, self._tidies_up = told, has_begun, tidies_up

    def began(self, stage: Stage, leftovers: Sequence[str]) -> None:
        self._has_begun(stage)
        self._told.began(stage, leftovers)

    def came(self, share: float) -> None:
        self._told.came(share)

    def ended(self, group: Group) -> None:
        self._told.ended(group)

    def tidies_up(self) -> None:
        self._tidies_up()


def _removed(leftovers: Sequence[str]) -> str:
    return f"Removed what a run before had left: {', '.join(leftovers)}"


@contextmanager
def told_progress(out: TextIO) -> Generator[Listener]:
    """Who tells it on `out`. The bar is gone when it ends."""
    if not out.isatty():
        yield Lines(out)
        return
    with make_bar(out) as progress:
        yield Bar(progress, progress.add_task("", total=1.0))
