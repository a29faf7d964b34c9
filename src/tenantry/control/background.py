"""The background work of the control process."""

from __future__ import annotations

import asyncio
import logging

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
