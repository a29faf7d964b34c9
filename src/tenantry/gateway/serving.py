"""A gateway from its start to its end: opens what it needs, serves until it is told to stop, drains."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import resource
import signal
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from tenantry.gateway.chores import (
    TALLY_SECONDS,
    every_in_steps,
    follow_clock,
    follow_directory,
    sync_journal,
    tell_live,
)
from tenantry.gateway.client import ClientConnection
from tenantry.gateway.deadlines import TICK_SECONDS
from tenantry.gateway.parts import Clock
from tenantry.gateway.process import GatewayProcess, build_parts
from tenantry.gateway.wall import WallClock, monotonic_us, wall_us
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.live import LIVE_FILE, LiveFile
from tenantry.ledger.opening import open_counters
from tenantry.settings import GatewaySettings
from tenantry.storage.custody import require_master_key
from tenantry.storage.database import open_store
from tenantry.storage.prices import PriceBook
from tenantry.storage.snapshot import DirectoryWatch, SnapshotLoader
from tenantry.storage.vault import Vault, load_master_key
from tenantry.wire.inspect import MessageFields

log = logging.getLogger("tenantry.gateway")

BACKLOG = 4096
# What is idle may take one part in so many of the descriptors; the rest is for clients and what runs.
IDLE_DESCRIPTORS_DIVISOR = 4


async def serve_gateway(settings: GatewaySettings, ready: Callable[[int], None] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; then drain. Returns the exit code.

    `ready` is called with the port once connections are accepted.
    """
    loop = asyncio.get_running_loop()
    settings = bound_idle(settings, _raise_descriptor_limit())
    _keep_freed_memory()
    vault = Vault(load_master_key(settings.master_key_file))
    engine = open_store(settings.store_url, must_exist=True)
    require_master_key(engine, vault)
    watch = DirectoryWatch(engine)
    loader = SnapshotLoader(engine, vault)
    snapshot = loader.load()
    book = PriceBook(engine)
    book.refresh()
    prices = book.table
    journal_dir = settings.data_dir / "journal"
    opening = open_counters(engine, journal_dir, prices, settings.zone, wall_us())
    journal = JournalWriter(journal_dir, "gateway")
    wall = WallClock(monotonic_us, wall_us)
    clock = Clock(loop.time, wall.now_us, loop.call_soon, loop.call_later)
    parts = build_parts(settings, snapshot, vault.pepper, prices, journal, opening, clock, _beside)
    gateway = GatewayProcess(parts)
    server = await loop.create_server(
        lambda: cast(asyncio.BaseProtocol, ClientConnection(parts)),  # by its methods
        settings.host,
        settings.port,
        ssl=_tls(settings.tls_cert_file, settings.tls_key_file),
        backlog=BACKLOG,
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    live = LiveFile(journal.folder / LIVE_FILE)
    reopen = partial(open_counters, engine, journal_dir, prices, settings.zone)
    work = {
        "deadlines": every_in_steps(TICK_SECONDS, gateway.ticking),
        "tallies": every_in_steps(TALLY_SECONDS, gateway.telling_tallies),
        "the directory": follow_directory(watch, loader, gateway, engine, opening.entry_id, book),
        "the clock": follow_clock(wall, gateway, reopen),
        "the journal": sync_journal(parts.recorder, journal, clock.now),
        "the facts for people": tell_live(gateway, live),
    }
    chores = [asyncio.create_task(chore, name=name) for name, chore in work.items()]
    port = server.sockets[0].getsockname()[1]
    log.info("gateway listening on %s:%d", settings.host, port)
    if ready is not None:
        ready(port)
    gc.collect()
    gc.freeze()
    gc.disable()
    died = await _first_of(stop, chores)
    log.info("stopping: up to %g s for requests in flight", settings.shutdown_seconds)
    server.close()
    await gateway.drain(settings.shutdown_seconds)
    gateway.tell_tallies()
    for chore in chores:
        chore.cancel()
    await asyncio.gather(*chores, return_exceptions=True)
    journal.close()
    live.close()
    watch.close()
    engine.dispose()
    log.info("stopped")
    return 1 if died else 0


async def _first_of(stop: asyncio.Event, chores: list[asyncio.Task[None]]) -> bool:
    """Wait until the gateway is to stop. True: because a chore has died, without which it must not go on."""
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([stopping, *chores], return_when=asyncio.FIRST_COMPLETED)
    for chore in chores:
        if chore in done:
            log.critical(
                "%s: this task of the gateway has died; the gateway stops", chore.get_name(), exc_info=chore.exception()
            )
    stopping.cancel()
    return stopping not in done


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


def _tls(cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext | None:
    if cert_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert_file, key_file)
    return context


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
