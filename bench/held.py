"""Tenantry on a clock that stands until it is told to go on: `python -m bench.held gateway`. For counting instructions.

Under valgrind everything takes fifty times longer, save the clock: what is done by the clock would weigh fifty times
what it weighs in life, and differ from run to run. So after `HOLD` the clock of the loop's timers stands, and each
`SECOND` lets it go on by a second. The full collection that a gateway without requests makes every 30 s is left out:
whether a window met one would be chance.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import signal
from collections.abc import Callable
from contextvars import Context
from typing import Any

import uvloop

from tenantry.app import main

HOLD, SECOND = signal.SIGUSR1, signal.SIGUSR2
# What is shorter belongs to a request.
HELD_SECONDS_MIN = 0.01
NEVER_SECONDS = 1e6
# The journal's sync is the shortest chore; others end within a step.
STEP_SECONDS = 0.02
STEPS = 50


class Loop(uvloop.Loop):
    """An event loop whose timers can be held."""

    def __init__(self) -> None:
        self._clock: float | None = None  # seconds that have been let pass since `HOLD`
        self._held: list[tuple[float, int, Any, Callable[..., Any], tuple[Any, ...], Context | None]] = []
        self._order = itertools.count()
        self._steps = 0
        self.add_signal_handler(HOLD, self._hold)
        self.add_signal_handler(SECOND, self._let_a_second_pass)

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        if self._clock is None or delay < HELD_SECONDS_MIN:
            return super().call_later(delay, callback, *args, context=context)
        handle = super().call_later(NEVER_SECONDS, callback, *args, context=context)
        heapq.heappush(self._held, (self._clock + delay, next(self._order), handle, callback, args, context))
        return handle

    def _hold(self) -> None:
        self._clock = 0.0
        gc.collect = _collect_nothing

    def _let_a_second_pass(self) -> None:
        self._steps = STEPS
        self._step()

    def _step(self) -> None:
        assert self._clock is not None
        self._clock += STEP_SECONDS
        while self._held and self._held[0][0] <= self._clock:
            _, _, handle, callback, args, context = heapq.heappop(self._held)
            if not handle.cancelled():
                handle.cancel()
                self.call_soon(callback, *args, context=context)
        self._steps -= 1
        if self._steps:
            super().call_later(STEP_SECONDS, self._step)


def _collect_nothing(generation: int = 2) -> int:
    return 0


if __name__ == "__main__":
    uvloop.new_event_loop = Loop
    main()
