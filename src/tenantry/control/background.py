"""The background work of the control process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from tenantry.ledger.booking import Drain

log = logging.getLogger("tenantry.control")

# Usage is to be visible within a second.
DRAIN_SECONDS = 0.2
# After a fault of the store or the disk.
RETRY_SECONDS = 2.0


async def drain_until(stop: asyncio.Event, drain: Drain) -> None:
    """Book journals until `stop` is set, and once more after it."""
    while True:
        last = stop.is_set()
        wait = DRAIN_SECONDS
        try:
            await asyncio.to_thread(drain.step)
        except (SQLAlchemyError, OSError) as error:
            # What was read stays unbooked in the journal; a fresh start reads it again from the cursor.
            log.error("journals could not be booked, trying again: %s", str(error).splitlines()[0])
            drain.forget()
            wait = RETRY_SECONDS
        if last:
            return
        try:
            await asyncio.wait_for(stop.wait(), wait)
        except TimeoutError:
            continue


@dataclass(frozen=True, slots=True)
class Chore:
    """Work that is done again and again, in a thread: a slow one holds up nothing else."""

    name: str
    every_seconds: float
    run: Callable[[], object]


async def repeat_until(stop: asyncio.Event, chore: Chore) -> None:
    """Do a chore until `stop` is set. A fault of the store or the disk is told, and does not end it."""
    while not stop.is_set():
        wait = chore.every_seconds
        try:
            await asyncio.to_thread(chore.run)
        except (SQLAlchemyError, OSError) as error:
            log.error("%s failed, trying again: %s", chore.name, str(error).splitlines()[0])
            wait = RETRY_SECONDS
        try:
            await asyncio.wait_for(stop.wait(), wait)
        except TimeoutError:
            continue
