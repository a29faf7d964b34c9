"""The background work of the control process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from tenantry.ledger.booking import Drain

log = logging.getLogger("tenantry.control")

# Usage is to be visible within a second.
DRAIN_SECONDS = 0.2
# After a fault of the store or the disk.
RETRY_SECONDS = 2.0
CHORE_RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Chore:
    """Work that is done again and again, in a thread. A step that fails is logged and tried again."""

    name: str
    seconds: float
    step: Callable[[], object]


async def drain_until(stop: asyncio.Event, drain: Drain, caught_up: asyncio.Event | None = None) -> None:
    """Book journals until `stop` is set, and once more after it. `caught_up` is set while the last round succeeded."""
    while True:
        last = stop.is_set()
        wait = DRAIN_SECONDS
        try:
            await asyncio.to_thread(drain.step)
            if caught_up is not None:
                caught_up.set()
        except (SQLAlchemyError, OSError) as error:
            # What was read stays unbooked in the journal; a fresh start reads it again from the cursor.
            log.error("journals could not be booked, trying again: %s", str(error).splitlines()[0])
            drain.forget()
            wait = RETRY_SECONDS
            if caught_up is not None:
                caught_up.clear()
        if last:
            return
        await _set_within(stop, wait)


async def chores_until(stop: asyncio.Event, caught_up: asyncio.Event, chores: Sequence[Chore]) -> None:
    """Do every chore at its interval until `stop` is set, each apart from the others.

    None starts before `caught_up`: what happened while this process was down is to be in the ledger first.
    """
    await asyncio.gather(*(_do_until(stop, caught_up, chore) for chore in chores))


async def _do_until(stop: asyncio.Event, caught_up: asyncio.Event, chore: Chore) -> None:
    while not stop.is_set():
        wait = chore.seconds
        if not caught_up.is_set():
            wait = min(wait, DRAIN_SECONDS)
        else:
            try:
                await asyncio.to_thread(chore.step)
            except Exception as error:  # noqa: BLE001 -- whatever goes wrong in one chore must not end the others
                log.error("%s failed, trying again: %s: %s", chore.name, type(error).__name__, _first_line(error))
                wait = max(RETRY_SECONDS, min(wait, CHORE_RETRY_SECONDS))
        await _set_within(stop, wait)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        return await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
