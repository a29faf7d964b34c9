"""A gateway from its start to its end: opens what it needs, serves until it is told to stop, drains."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import resource
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import Engine

from tenantry.domain.owners import Cells
from tenantry.domain.wall import WallClock
from tenantry.gateway.certificates import Certificates
from tenantry.gateway.chores import (
    TALLY_SECONDS,
    every_in_steps,
    follow_clock,
    follow_directory,
    sync_journal,
    tell_live,
    tick,
)
from tenantry.gateway.client import ClientConnection
from tenantry.gateway.deadlines import TICK_SECONDS
from tenantry.gateway.handover import await_successor, find_gateways
from tenantry.gateway.handshakes import TlsServer
from tenantry.gateway.inheriting import succeed
from tenantry.gateway.listening import BACKLOG
from tenantry.gateway.parts import Clock, Parts
from tenantry.gateway.process import GatewayProcess, build_parts
from tenantry.gateway.retiring import Retirement
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.live import LIVE_FILE, LiveFile
from tenantry.ledger.opening import costs_of, open_counters
from tenantry.settings import GatewaySettings
from tenantry.storage.custody import open_vault
from tenantry.storage.database import open_store
from tenantry.storage.in_use import StoreUse
from tenantry.storage.key_files import KeyFiles
from tenantry.storage.prices import PriceBook
from tenantry.storage.snapshot import DirectoryWatch, SnapshotLoader
from tenantry.wire.inspect import MessageFields

if TYPE_CHECKING:
    from tenantry.gateway.membership import Membership

log = logging.getLogger("tenantry.gateway")

# No answer that is not streamed takes longer (`exchange.py`), and a stream that does may be cut at last. Meanwhile the
# new gateway serves, so that nobody waits for it.
RETIRE_SECONDS_MAX = 3600.0
# The machine's clock that counts suspends and that nobody sets, read at each call. A partial: no frame of Python's.
SUSPENDED_SECONDS: Final[Callable[[], float]] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
# What is idle may take one part in so many of the descriptors; the rest is for clients and what runs.
IDLE_DESCRIPTORS_DIVISOR = 4


async def serve_gateway(
    settings: GatewaySettings,
    listener: socket.socket,
    ready: Callable[[], None] | None = None,
    replaced: Callable[[], None] | None = None,
    seat: int = 0,
    seats: int = 0,
) -> int:
    """Serve until SIGTERM or SIGINT, then drain; or until another gateway takes its place. Returns the exit code.

    `seat`: which it is of several that share the listener; `seats`: how many these are, 0 where nobody says it.

    `listener` is bound. `ready` is called once connections are accepted, `replaced` when another one has taken over.
    """
    loop = asyncio.get_running_loop()
    settings = bound_idle(settings, _raise_descriptor_limit())
    _keep_freed_memory()
    store = _Store(settings)
    engine, prices = store.engine, store.book.table
    certificates = Certificates(settings.certificates) if settings.certificates else None
    journal_dir = settings.data_dir / "journal"
    port: int = listener.getsockname()[1]
    journal = JournalWriter(journal_dir, "gateway")
    wall = WallClock(time.monotonic_ns, _told_us)
    clock = Clock(loop.time, wall.now_us, loop.call_soon, loop.call_later)
    joins = settings.cluster or seats > 1
    await _await_others(engine, journal_dir, port, seat, joins=joins)
    # All that may fail has been done: from here on until it accepts, nobody admits anything.
    inherited = succeed(find_gateways(journal_dir, port, seat, seats))
    running = [attempt_id for one in inherited for attempt_id in one.attempt_ids]
    opening = open_counters(engine, journal_dir, prices, settings.zone, _told_us(), running)
    # One of several is that, whatever the settings say by now: the others go on until `serve` is told to restart.
    cells = Cells(SUSPENDED_SECONDS) if joins else None
    parts = build_parts(settings, store.snapshot, store.pepper, prices, journal, opening, clock, _beside, cells)
    gateway = GatewayProcess(parts)
    membership = None
    if cells is not None:
        # It would cost the start of a gateway that is by itself.
        from tenantry.gateway.membership import join

        predecessors = [one.run_id for one in inherited]
        membership = await join(gateway, cells, engine, journal.run_id, seat, predecessors)
    gateway.live.tell_closed(store.loader.closed)
    for one in inherited:
        one.enter(parts, opening.ended, partial(costs_of, engine, journal_dir, prices))
    server = await _serve_plainly(parts, listener) if certificates is None else TlsServer(parts, listener, certificates)
    retirement = Retirement(parts, journal.run_id, await_successor(journal.folder, port, seat), listener, server.close)
    ending = Ending(loop)

    live = LiveFile(journal.folder / LIVE_FILE)
    reopen = partial(open_counters, engine, journal_dir, prices, settings.zone)
    work = {
        "deadlines": tick(TICK_SECONDS, gateway),
        "tallies": every_in_steps(TALLY_SECONDS, gateway.telling_tallies),
        "the directory": follow_directory(store.watch, store.loader, gateway, engine, opening.entry_id, store.book),
        "the clock": follow_clock(wall, gateway, reopen),
        "the journal": sync_journal(parts.recorder, journal, clock.now),
        "the facts for people": tell_live(gateway, live),
    }
    if membership is not None:
        work |= membership.chores()
    if certificates is not None:
        work["the certificates"] = certificates.follow()
        loop.add_signal_handler(signal.SIGHUP, certificates.ask)
    chores = [asyncio.create_task(chore, name=name) for name, chore in work.items()]
    log.info("gateway listening on %s:%d", settings.host, port)
    if ready is not None:
        ready()
    gc.collect()
    gc.freeze()
    gc.disable()
    died = await _first_of([ending.stop, retirement.begun], chores)
    if retirement.begun.is_set():
        log.info("another gateway has taken over; what is in flight here goes on to its end")
        if replaced is not None:
            replaced()
        await retirement.ended(ending.stop, RETIRE_SECONDS_MAX)
    await _drain(gateway, membership, retirement, ending, settings.shutdown_seconds)
    gateway.tell_tallies()
    for chore in chores:
        chore.cancel()
    await asyncio.gather(*chores, return_exceptions=True)
    if membership is not None:
        await membership.leave()
    retirement.close()
    for one in inherited:
        one.close()
    journal.close()
    live.close()
    store.close()
    log.info("stopped")
    return 1 if died else 0


class _Store:
    """What a gateway reads of the store, and follows. Raises: as the store, its keys and its prices do."""

    def __init__(self, settings: GatewaySettings) -> None:
        key_files = KeyFiles(settings.master_key_file)
        key_files.load()  # what is missing first is told first
        self.engine = open_store(settings.store_url, password=settings.store_password, must_exist=True)
        self._use = StoreUse(self.engine)
        vault = open_vault(self.engine, key_files)
        self.pepper = vault.pepper
        self.watch = DirectoryWatch(self.engine)
        self.loader = SnapshotLoader(self.engine, vault, settings.zone)
        self.snapshot = self.loader.load()
        self.book = PriceBook(self.engine)
        self.book.refresh()

    def close(self) -> None:
        self.watch.close()
        self._use.close()
        self.engine.dispose()


async def _await_others(engine: Engine, journal_dir: Path, port: int, seat: int, *, joins: bool) -> None:
    """Until this gateway may grant beside the others that there are. `joins`: it is one of several.

    Raises: AmongOthers: it may not, as both are set.
    """
    if seat:
        from tenantry.gateway.lone import wait_for_lone

        await wait_for_lone(engine, journal_dir, port)
    if engine.dialect.name == "sqlite":
        return  # whose file no other machine has
    from tenantry.gateway.lone import require_alone, require_nobody_alone

    if joins:
        await require_nobody_alone(engine, journal_dir)
    else:
        require_alone(engine, journal_dir)


async def _drain(
    gateway: GatewayProcess, membership: Membership | None, retirement: Retirement, ending: Ending, seconds: float
) -> None:
    """What it owns goes to others, the port closes, and what is in flight ends: within so many seconds, where told."""
    if ending.stop.is_set() and membership is not None and not retirement.begun.is_set():
        await ending.unless_hurried(membership.hand_over(seconds, retirement.close_listener))
    retirement.close_listener()
    if ending.stop.is_set():
        log.info("stopping: up to %g s for requests in flight", seconds)
    others_grant = False
    if membership is not None:
        membership.accept_no_more()
        others_grant = membership.has_handed_over
    if not await ending.unless_hurried(gateway.drain(seconds, sends_away=not others_grant)):
        await gateway.drain(0)


async def _serve_plainly(parts: Parts, listener: socket.socket) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(
        lambda: cast(asyncio.BaseProtocol, ClientConnection(parts)),  # by its methods
        sock=listener.dup(),
        backlog=BACKLOG,
    )


class Ending:
    """SIGTERM or SIGINT: `stop`. The second one: at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.stop = asyncio.Event()
        self._hurry = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        (self._hurry if self.stop.is_set() else self.stop).set()

    async def unless_hurried(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work`. False: it was given up at a second signal. What fails in it is told, and the end goes on."""
        task, hurry = asyncio.create_task(work), asyncio.create_task(self._hurry.wait())
        done, _ = await asyncio.wait([task, hurry], return_when=asyncio.FIRST_COMPLETED)
        for one in (task, hurry):
            one.cancel()
        [failed, _] = await asyncio.gather(task, hurry, return_exceptions=True)
        if isinstance(failed, Exception):
            log.error("a fault as this gateway ends", exc_info=failed)
        return task in done


async def _first_of(ends: list[asyncio.Event], chores: list[asyncio.Task[None]]) -> bool:
    """Wait until the gateway is to end. True: because a chore has died, without which it must not go on."""
    waits = [asyncio.create_task(end.wait()) for end in ends]
    done, _ = await asyncio.wait([*waits, *chores], return_when=asyncio.FIRST_COMPLETED)
    for chore in chores:
        if chore in done:
            log.critical(
                "%s: this task of the gateway has died; the gateway stops", chore.get_name(), exc_info=chore.exception()
            )
    for wait in waits:
        wait.cancel()
    return not any(wait in done for wait in waits)


# One thread: more would only compete with the event loop for the interpreter. Of its own: the journal's sync and the
# directory must not stand behind somebody's large bodies.
_reader = ThreadPoolExecutor(1, "bodies")


def _beside(read: Callable[[], MessageFields], then: Callable[[MessageFields | Exception], None]) -> None:
    """In a worker thread: between the calls that keep the interpreter's lock, the event loop goes on."""

    def on_done(done: asyncio.Future[MessageFields]) -> None:
        problem = done.exception()
        if isinstance(problem, Exception):
            then(problem)
        elif problem is None:
            then(done.result())

    asyncio.get_running_loop().run_in_executor(_reader, read).add_done_callback(on_done)


def _raise_descriptor_limit() -> int:
    """Each stream takes two descriptors; the usual soft limit is 1,024. How many there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def bound_idle(settings: GatewaySettings, descriptors: int) -> GatewaySettings:
    """The settings, with no more idle connections than so many descriptors leave room for."""
    most = descriptors // IDLE_DESCRIPTORS_DIVISOR
    if settings.idle_upstream_connections_max <= most:
        return settings
    wanted = settings.idle_upstream_connections_max
    log.warning(
        "this process may open %d files: only %d idle connections to upstreams are kept, not %d",
        descriptors,
        most,
        wanted,
    )
    return replace(settings, idle_upstream_connections_max=most)


def _keep_freed_memory() -> None:
    """Large prompts reuse the process's memory; glibc would ask the kernel for fresh pages for each and zero them.

    Measured: a fifth of the time of a 200 KB prompt. Costs up to 64 MiB of idle memory. Only on glibc.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        for parameter in (m_trim_threshold, m_mmap_threshold):
            libc.mallopt(parameter, 64 * 1024 * 1024)


def _told_us() -> int:
    """What the machine's clock tells, unix microseconds."""
    return time.time_ns() // 1000
