"""What decisions need of who keeps the time: an event loop, or one that is simulated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """Something that will be called."""

    def cancel(self) -> None:
        """It will not be."""
        ...


# Calls something after so many seconds.
CallLater = Callable[[float, Callable[[], None]], Timer]
