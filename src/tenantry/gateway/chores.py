"""What a gateway does beside requests, by the clock: deadlines, tallies, the directory, the clock, the journal's sync.

Each is a task that never ends; one that dies ends the process. None costs more with more tenants or connections: what
is done for many of them at once is done in steps, between which the event loop does other things.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tenantry.domain.opening import Opening
from tenantry.domain.repeats import Repeats
from tenantry.domain.wall import WallClock
from tenantry.gateway.process import GatewayProcess
from tenantry.gateway.recorder import Recorder
from tenantry.ledger.adjustments import adjustments_since
from tenantry.ledger.journal import JournalUnavailable, JournalWriter
from tenantry.ledger.live import LiveFile, LiveHealth
from tenantry.storage.database import StoreReplaced
from tenantry.storage.prices import PriceBook
from tenantry.storage.schema import StoreLater
from tenantry.storage.snapshot import DirectoryWatch, SnapshotLoader

log = logging.getLogger("tenantry.gateway")

# A change must act in under a second (DESIGN 3), and better in a fifth of one; a poll costs some microseconds.
DIRECTORY_POLL_SECONDS = 0.1
# Where nobody has asked for anything for a while. A change acts all the same in a quarter of a second.
QUIET_POLL_SECONDS = 0.25
# Deadlines of nobody: without a connection there are only idle ones to upstreams to close, which have seconds.
QUIET_TICK_SECONDS = 1.0
# What a power cut may cost in unsynced ends; begins are on the file before anything is sent.
JOURNAL_SYNC_SECONDS = 0.02
# People look at what goes on now; a second is now.
TALLY_SECONDS = 1.0
LIVE_SECONDS = 1.0
# Between the steps in which it is gathered: who asks meanwhile meets one step, not all of them. Ten thousand tenants
# that are all in use take a second.
LIVE_PAUSE_SECONDS = 0.001
# Where nothing has changed, a sign of life comes so often: three in the time after which a gateway counts as frozen.
QUIET_SECONDS = 3.0
CLOCK_SECONDS = 0.5
CLOCK_RETRY_SECONDS = 30.0
# The journal's and the store's own messages come at once; what follows them, after so many seconds.
RETRY_SECONDS = 1.0
# Of what is told of a fault in the live record.
FAULT_CHARS_MAX = 300
_UNREAD = "the directory could not be read; the last known one stays in force"


async def every_in_steps(seconds: float, chore: Callable[[], Iterable[None]]) -> None:
    while True:
        await _until_next(seconds)
        await _in_steps(chore())


async def tick(seconds: float, gateway: GatewayProcess) -> None:
    """Deadlines and streams; less often where there is no connection. How late it comes is the loop's lag."""
    population, tallies, now = gateway.parts.population, gateway.parts.tallies, gateway.parts.clock.now
    while True:
        every = seconds if population.connections or population.served else QUIET_TICK_SECONDS
        due = now() // every * every + every
        await _until_next(every)
        tallies.loop_lag_us = max(tallies.loop_lag_us, int((now() - due) * 1_000_000))
        await _in_steps(gateway.ticking())


async def _until_next(seconds: float) -> None:
    """Sleep until the clock shows the next multiple of `seconds`: all that is done now and then is done at once.

    To wake a process that has nothing to do costs more than what it then does (measured, 2026-11-29).
    """
    await asyncio.sleep(seconds - asyncio.get_running_loop().time() % seconds)


async def _in_steps(steps: Iterable[object]) -> None:
    for _ in steps:
        await asyncio.sleep(0)


async def follow_directory(
    watch: DirectoryWatch,
    loader: SnapshotLoader,
    gateway: GatewayProcess,
    engine: Engine,
    entry_id: int,
    book: PriceBook,
) -> None:
    """Fails closed for what is new, open for what was known: a store that cannot be read leaves the last snapshot.

    One that was replaced, or that a later version has made another of, would leave it for good, and no revocation would
    ever arrive: then the gateway ends.
    """
    faults, now = Repeats(), gateway.parts.clock.now
    looked_at = now()
    while True:
        if gateway.parts.population.connections:
            # Measured from look to look: a change that comes while another is read waits no longer for it.
            await asyncio.sleep(max(0.0, looked_at + DIRECTORY_POLL_SECONDS - now()))
        else:
            await _until_next(QUIET_POLL_SECONDS)
        looked_at = now()
        try:
            if watch.changed():
                await _in_steps(gateway.applying(await asyncio.to_thread(loader.follow)))
                opened = gateway.parts.till.opened_entries()
                entry_id, corrections = await asyncio.to_thread(adjustments_since, engine, entry_id, opened)
                for tenant_id, key_id, at_us, nanos in corrections:  # before all that may fail: they are not read again
                    gateway.correct(tenant_id, key_id, at_us, nanos)
                gateway.parts.till.entry_id = entry_id
                prices = await asyncio.to_thread(book.read)
                if prices is not None:
                    book.table.become(prices)
                    log.info("prices are those of version %s from now on", prices.version)
                gateway.live.tell_closed(loader.closed)
            if faults.count and (count := faults.went_well(now())):
                log.warning("the directory can be read again; it could not %d times", count)
            gateway.live.directory_fault = ""
        except (StoreReplaced, StoreLater) as error:
            log.critical("%s The gateway ends: no change would reach it any more. `tenantry doctor` says more.", error)
            raise
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]  # behind it the driver gives advice, and a link
            fault = gateway.live.directory_fault = f"{type(error).__name__}: {first}"[:FAULT_CHARS_MAX]
            if faults.came(fault, now()):
                if isinstance(error, SQLAlchemyError | OSError):  # a store that is away is told in a line
                    log.error("%s: %s", _UNREAD, first or type(error).__name__)
                else:
                    log.exception(_UNREAD)
            watch.forget()
            await asyncio.sleep(RETRY_SECONDS)


async def follow_clock(wall: WallClock, gateway: GatewayProcess, reopen: Callable[[int], Opening]) -> None:
    """A clock that was set is followed once it has stayed so; budgets know before what was spent at its time."""
    while True:
        await _until_next(CLOCK_SECONDS)
        moved_us = wall.look()
        if moved_us is None:
            continue
        log.warning("the machine's clock was set by %+.1f s", moved_us / 1_000_000)
        try:
            gateway.reopen(await asyncio.to_thread(reopen, wall.now_us() + moved_us))
        except Exception:  # open: requests go on under the time before, and what was spent is counted in it
            log.exception("the ledger could not be read; the gateway stays at its own time for now")
            await asyncio.sleep(CLOCK_RETRY_SECONDS)
            continue
        wall.move(moved_us)


async def sync_journal(recorder: Recorder, journal: JournalWriter, now: Callable[[], float]) -> None:
    """Bring what was written to the disk: soon after it was written, and what could not be written, again."""
    faults = Repeats()
    while True:
        await recorder.needs_care.wait()
        recorder.needs_care.clear()
        await asyncio.sleep(JOURNAL_SYNC_SECONDS)
        if not recorder.works:
            recorder.flush()
        if recorder.is_dirty:
            recorder.is_dirty = False
            try:
                await asyncio.to_thread(journal.sync)
                if faults.count and (count := faults.went_well(now())):
                    log.warning("the journal can be synced again; it could not %d times", count)
            except JournalUnavailable as error:
                recorder.is_dirty = True  # what was written is still to be brought to the disk
                recorder.needs_care.set()
                if faults.came(str(error), now()):
                    log.error("the journal could not be synced: %s", error)


async def tell_live(gateway: GatewayProcess, file: LiveFile) -> None:
    """Add to the file from which commands read what goes on now; it never holds up a request."""
    health: LiveHealth | None = None
    told_at, now = 0.0, gateway.parts.clock.now
    while True:
        await _until_next(LIVE_SECONDS)
        changed: dict[str, bytes] = {}
        for some in gateway.live.take():
            changed.update(some)
            await asyncio.sleep(LIVE_PAUSE_SECONDS)
        if gateway.parts.population.heir is not None:  # who has taken over tells of what goes on here, too
            changed.clear()
            file.clear()
        head = gateway.live.head()
        if not changed and head.health == health and now() - told_at < QUIET_SECONDS:
            continue
        health, told_at = head.health, now()
        gateway.parts.tallies.loop_lag_us = 0
        with contextlib.suppress(OSError):  # without the disk there is no news, and the journal has said so already
            await asyncio.to_thread(file.write, head, changed)
