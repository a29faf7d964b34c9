"""Fills the table: every client in every column, some clients at once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.clients.catalog import CLIENTS, Client
from tests.clients.cells import COLUMNS, NOT_INSTALLED, OPERATIONS, STATES, cell, is_worse
from tests.clients.counter import Counter
from tests.clients.installing import CannotInstall, install, install_node
from tests.clients.page import Line
from tests.clients.running import run
from tests.clients.situations import Situations
from tests.stack import Stack

# Two cores; a client waits most of the time.
CLIENTS_AT_ONCE = 3
# All of it, installing apart: 16 clients with 8 cells of some 5 s, three at once, take a fourth.
WHOLE_SECONDS_MAX = 1800.0
_TOOL_USE = "tool-use"

Say = Callable[[str], None]


class Table:
    """Rows as they are made. `before`: those of the page, for a cell that seems worse is looked at once more."""

    def __init__(self, before: dict[str, Line], say: Say) -> None:
        self._before = before
        self._say = say
        self._deadline = time.monotonic() + WHOLE_SECONDS_MAX

    def fill(self, versions: dict[str, str | CannotInstall], only: tuple[str, ...] = ()) -> list[Line]:
        """All rows, in the order of the catalog."""
        chosen = [client for client in CLIENTS if not only or client.name in only]
        with tempfile.TemporaryDirectory(prefix="clients-") as folder:
            stack = Stack(Path(folder)).start()
            try:
                situations = Situations(stack)
                with ThreadPoolExecutor(CLIENTS_AT_ONCE) as pool:
                    # The last of the catalog take longest, and begin first.
                    rows = [
                        pool.submit(self._line, stack, situations, client, versions[client.name])
                        for client in reversed(chosen)
                    ]
                    return [row.result() for row in reversed(rows)]
            finally:
                stack.stop()

    def _line(self, stack: Stack, situations: Situations, client: Client, version: str | CannotInstall) -> Line:
        if isinstance(version, CannotInstall):
            return Line(client.title, str(version), (NOT_INSTALLED,) * len(COLUMNS))
        before = self._before.get(client.title)
        with Counter(stack.port) as counter:
            row = Row(client, counter, situations, stack.folder / "homes", self._deadline, self._say)
            cells = [
                row.fill(column, before.cells[number] if before is not None else None)
                for number, column in enumerate(COLUMNS)
            ]
        return Line(client.title, version, tuple(cells))


@dataclass(frozen=True, slots=True)
class Row:
    """One client before one counter. `homes`: where it finds a home for each cell; `deadline`: of the whole table."""

    client: Client
    counter: Counter
    situations: Situations
    homes: Path
    deadline: float
    say: Say

    def fill(self, column: str, before: str | None) -> str:
        """What the client does in `column`; tried again where that is worse than `before`."""
        operation = OPERATIONS.get(column, column)
        if column in STATES:
            operation = "stream" if "plain" in self.client.absent else "plain"
        if operation in self.client.absent:
            return self.client.absent[operation]
        found = self._try(column, operation, "")
        if before is not None and is_worse(found, before):
            found = self._try(column, operation, "-again")
        return found

    def _try(self, column: str, operation: str, mark: str) -> str:
        if time.monotonic() > self.deadline:
            return "fails: no time left"
        state, situations = STATES.get(column, "free"), self.situations
        access = situations.make(state, f"{self.client.name}-{operation}{mark}")
        # At the moment when the client asks: the limit gives again after 3 s, and some take longer to start.
        self.counter.before_next = (lambda: situations.use_up(access)) if state == "limited" else None
        self.counter.scenario = _TOOL_USE if column == "tools" else ""
        home = self.homes / f"{self.client.name}-{operation}-{state}{mark}"
        done = run(self.client, operation, self.counter, access.path, access.key, home)
        found = cell(column, done)
        self.say(f"{self.client.title:30} {column:14} {found} ({done.messages} messages, {done.seconds:.1f} s)")
        return found


def install_all(*, fresh: bool, say: Say, only: tuple[str, ...] = ()) -> dict[str, str | CannotInstall]:
    """Every client's version, or why it is not there."""
    found: dict[str, str | CannotInstall] = {}
    try:
        install_node(fresh=fresh)
    except CannotInstall as error:
        say(f"Node: {error}")
    for client in CLIENTS:
        if only and client.name not in only:
            continue
        try:
            found[client.name] = install(client, fresh=fresh)
        except CannotInstall as error:
            found[client.name] = error
        say(f"{client.title:30} {found[client.name]}")
    return found
