"""The background work of the control process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from tenantry.domain.repeats import Repeats
from tenantry.ledger.booking import Drain

log = logging.getLogger("tenantry.control")

# Usage is to be visible within a second.
DRAIN_SECONDS = 0.2
# Under load, once a second: a transaction costs a sync of the disk and pages of every index, however few rows it has.
# At 400 rows a second a row then costs two thirds (measured with `python -m bench.drain`, 2026-11-25).
BUSY_DRAIN_SECONDS = 1.0
BUSY_ROWS = 20
# On one core with the gateway a quarter of the processor is left to booking, which is what its rows need when every
# request of a busy gateway is small (sched(7): each step of niceness is worth a fourth of the one before).
BOOKING_NICENESS = 5
# The loop counts in whole milliseconds and wakes somewhat early: not again for what was just done.
EARLY_SECONDS_MAX = 0.01
# A run that begins or ends is found by a look at all of them; what a known one has written, by the size of its file.
WHOLE_LOOK_SECONDS = 1.0
# After a fault of the store or the disk.
RETRY_SECONDS = 2.0
# A chore that is done rarely is tried again sooner than that.
CHORE_RETRY_SECONDS_MAX = 30.0


def _always() -> bool:
    return True


async def drain_until(
    stop: asyncio.Event,
    drain: Drain,
    caught_up: asyncio.Event | None = None,
    leads: Callable[[], bool] = _always,
) -> None:
    """Book journals until `stop` is set, and once more after it; while another process leads, none.

    `caught_up` is set while the last round succeeded: then what happened while no control process ran is booked.
    """
    with ThreadPoolExecutor(1, "booking", _give_way) as thread:
        await _drain_in(thread, stop, drain, caught_up, leads)


async def _drain_in(
    thread: ThreadPoolExecutor,
    stop: asyncio.Event,
    drain: Drain,
    caught_up: asyncio.Event | None,
    leads: Callable[[], bool],
) -> None:
    loop = asyncio.get_running_loop()
    faults, now, whole_at = Repeats(), loop.time, loop.time()
    while True:
        last = stop.is_set()
        if not leads():
            drain.forget()  # another books meanwhile
            whole_at = now()
            if caught_up is not None:
                caught_up.clear()
            if last:
                return
            await pause(stop, until_next(now(), DRAIN_SECONDS))
            continue
        wait, is_whole = DRAIN_SECONDS, last or now() >= whole_at
        try:
            # Asked here: a run has one file that grows, and what asks for its size 5 times a second needs no thread.
            booked = await loop.run_in_executor(thread, drain.step) if is_whole or drain.has_news() else 0
            if is_whole:
                whole_at = now() + WHOLE_LOOK_SECONDS
            wait = BUSY_DRAIN_SECONDS if booked >= BUSY_ROWS else until_next(now(), DRAIN_SECONDS)
            if faults.count and (count := faults.went_well(now())):
                log.warning("journals can be booked again; they could not %d times", count)
            if caught_up is not None:
                caught_up.set()
        except (SQLAlchemyError, OSError) as error:
            # What was read stays unbooked in the journal; a fresh start reads it again from the cursor.
            reason = first_line(error)
            if faults.came(reason, now()):
                log.error("journals could not be booked, trying again: %s", reason)
            drain.forget()
            wait, whole_at = RETRY_SECONDS, now()
            if caught_up is not None:
                caught_up.clear()
        if last:
            return
        await pause(stop, wait)


def until_next(now: float, seconds: float) -> float:
    """Until the next multiple of `seconds`: what waits for one wakes an idle process together, once and not each."""
    wait = seconds - now % seconds
    return wait if wait > EARLY_SECONDS_MAX else wait + seconds


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Until `stop` is set, `seconds` at most. `wait_for` makes a task each time, which costs more than the wait."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


def _give_way() -> None:
    """Let this thread have what the gateway leaves, and never take its place in the middle of a turn (Linux alone)."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BOOKING_NICENESS)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


@dataclass(frozen=True, slots=True)
class Chore:
    """Work that is done again and again, in a thread: a slow one holds up nothing else.

    `is_due`, where it is given, is asked before, and not in a thread: it takes some microseconds.
    """

    name: str
    every_seconds: float
    run: Callable[[], object]
    is_due: Callable[[], bool] = lambda: True


async def repeat_until(stop: asyncio.Event, chore: Chore, ready: asyncio.Event | None = None) -> None:
    """Do a chore until `stop` is set, and only while `ready` is set. A fault is told, and does not end it."""
    faults, now = Repeats(), asyncio.get_running_loop().time
    while not stop.is_set():
        wait = chore.every_seconds
        if ready is not None and not ready.is_set():
            wait = DRAIN_SECONDS
        else:
            try:
                if chore.is_due():
                    await asyncio.to_thread(chore.run)
                wait = until_next(now(), wait)
                if faults.count and (count := faults.went_well(now())):
                    log.warning("%s goes on; it had failed %d times", chore.name, count)
            except Exception as error:  # noqa: BLE001 -- whatever goes wrong in one round, the next may succeed
                reason = f"{type(error).__name__}: {first_line(error)}"
                if faults.came(reason, now()):
                    log.error("%s failed, trying again: %s", chore.name, reason)
                wait = max(RETRY_SECONDS, min(chore.every_seconds, CHORE_RETRY_SECONDS_MAX))
        await pause(stop, wait)


async def first_death(stop: asyncio.Event, tasks: Mapping[asyncio.Task[None], str]) -> bool:
    """Wait until `stop` is set, or until a task ends before that; whether one did, which is told.

    A process without one of its tasks would look well and do half of its work: it has to end, and be started again.
    """
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if stop.is_set():
        return False
    for task, name in tasks.items():
        if task.done():
            error = None if task.cancelled() else task.exception()
            why = f"{type(error).__name__}: {first_line(error)}" if error is not None else "without an error"
            log.critical("%s has died (%s): this process ends, to be started again", name, why, exc_info=error)
    return True


async def ended_within(seconds: float, tasks: Mapping[asyncio.Task[None], str], *, raises: bool) -> list[str]:
    """The names of those that have not ended in that time. `raises`: the error of one that has."""
    done, left = await asyncio.wait(tasks, timeout=seconds)
    for task in done:
        if raises:
            task.result()
    return sorted({tasks[task] for task in left})


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
