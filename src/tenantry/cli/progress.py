"""How long work comes along: a bar with the time left on a terminal, a line now and then in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

# Told of how much is done, from 0 to 1.
Came = Callable[[float], None]
# What is over sooner is told by its result alone; nobody has begun to wonder.
SILENT_SECONDS = 2.0
# In a pipe: a line for each part of that size.
LINE_PERCENT = 25


def make_bar(out: TextIO) -> Progress:
    """A bar that is gone when it ends."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("left"))
    return Progress(*columns, console=Console(file=out), transient=True)


@contextmanager
def told_share(out: TextIO, what: str, clock: Callable[[], float] = time.monotonic) -> Generator[Came]:
    """Who is told how much of `what` is done, and tells it on `out`."""
    if out.isatty():
        with make_bar(out) as progress:
            task = progress.add_task("", total=1.0)
            yield lambda share: progress.update(task, completed=share)
        return
    lines = _Lines(out, what, clock)
    yield lines.came


class _Lines:
    def __init__(self, out: TextIO, what: str, clock: Callable[[], float]) -> None:
        self._out, self._what, self._clock = out, what, clock
        self._begun = clock()
        self._told = 0

    def came(self, share: float) -> None:
        percent = int(share * 100) // LINE_PERCENT * LINE_PERCENT
        if self._told < percent < 100 and self._clock() - self._begun >= SILENT_SECONDS:
            self._told = percent
            self._out.write(f"{self._what}: {percent} %\n")
            self._out.flush()
