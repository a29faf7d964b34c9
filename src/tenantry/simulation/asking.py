"""How a simulated gateway asks the store: through a line that may be slow, lost or cut, while it is stopped or dies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenantry.simulation.gateway import Gateway
from tenantry.simulation.store import Line

T = TypeVar("T")


class Asker:
    """Of one life of a gateway."""

    def __init__(self, gateway: Gateway, line: Line) -> None:
        self._gateway = gateway
        self._line = line

    def ask(self, statement: Callable[[], T], then: Callable[[T], None], failed: Callable[[], None]) -> None:
        """`then` has what the store said, unless the gateway has died; `failed`: nothing came of it in time."""
        self._line.ask(statement, then, failed, self._gateway.do)
