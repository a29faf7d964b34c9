"""What is added up beside the page that shows it."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Beside:
    """Work in a thread of its own, by one at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._running: threading.Thread | None = None

    def begin(self, work: Callable[[], None]) -> threading.Thread:
        """The thread to wait for: that of `work`, or one that is under way already."""
        with self._lock:
            if self._running is None or not self._running.is_alive():
                self._running = threading.Thread(target=work, name=self._name, daemon=True)
                self._running.start()
            return self._running
