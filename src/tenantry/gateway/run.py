"""The gateway process: builds its parts, follows the directory, serves until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import logging
import resource
import signal
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from tenantry.domain.prices import load_default_prices
from tenantry.gateway.core import SWEEP_SECONDS, Gateway
from tenantry.gateway.server import ClientConnection
from tenantry.ledger.journal import STANDING_FILE, JournalUnavailable, JournalWriter
from tenantry.ledger.opening import open_counters
from tenantry.settings import GatewaySettings
from tenantry.storage.database import open_store
from tenantry.storage.snapshot import DirectoryWatch, SnapshotLoader
from tenantry.storage.vault import Vault, load_master_key

log = logging.getLogger("tenantry.gateway")

# A change must act in under a second (DESIGN 3); a poll costs some microseconds.
DIRECTORY_POLL_SECONDS = 0.05
# What a power cut may cost in unsynced ends; begins are on the file before anything is sent.
JOURNAL_SYNC_SECONDS = 0.02
# People look at what goes on now; a second is now.
TALLY_SECONDS = 1.0
STANDING_SECONDS = 1.0
BACKLOG = 4096


async def serve_gateway(settings: GatewaySettings, ready: Callable[[int], None] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; then drain. Returns the exit code.

    `ready` is called with the port once connections are accepted.
    """
    loop = asyncio.get_running_loop()
    _raise_descriptor_limit()
    _keep_freed_memory()
    vault = Vault(load_master_key(settings.master_key_file))
    engine = open_store(settings.store_url)
    watch = DirectoryWatch(engine)
    loader = SnapshotLoader(engine, vault)
    snapshot = loader.load()
    prices = load_default_prices()
    journal_dir = settings.data_dir / "journal"
    opening = open_counters(engine, journal_dir, prices, settings.zone, time.time_ns() // 1000)
    journal = JournalWriter(journal_dir, "gateway")
    gateway = Gateway(settings, snapshot, vault.pepper, prices, journal, opening, loop.time)
    server = await loop.create_server(
        lambda: ClientConnection(gateway),
        settings.host,
        settings.port,
        ssl=_tls(settings.tls_cert_file, settings.tls_key_file),
        backlog=BACKLOG,
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    chores = [
        asyncio.create_task(_every(SWEEP_SECONDS, gateway.sweep)),
        asyncio.create_task(_every(TALLY_SECONDS, gateway.tell_tallies)),
        asyncio.create_task(_follow_directory(watch, loader, gateway)),
        asyncio.create_task(_sync_journal(gateway, journal)),
        asyncio.create_task(_tell_standing(gateway, journal.folder / STANDING_FILE)),
    ]
    port = server.sockets[0].getsockname()[1]
    log.info("gateway listening on %s:%d", settings.host, port)
    if ready is not None:
        ready(port)
    gc.collect()
    gc.freeze()
    gc.disable()
    await stop.wait()
    log.info("stopping: up to %g s for requests in flight", settings.shutdown_seconds)
    server.close()
    await gateway.drain(settings.shutdown_seconds)
    gateway.tell_tallies()
    for chore in chores:
        chore.cancel()
    await asyncio.gather(*chores, return_exceptions=True)
    journal.close()
    watch.close()
    engine.dispose()
    log.info("stopped")
    return 0


async def _every(seconds: float, chore: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            chore()
        except Exception:
            log.exception("a periodic chore failed and goes on")


async def _follow_directory(watch: DirectoryWatch, loader: SnapshotLoader, gateway: Gateway) -> None:
    """Fails closed for what is new, open for what was known: a store that cannot be read leaves the last snapshot."""
    while True:
        await asyncio.sleep(DIRECTORY_POLL_SECONDS)
        try:
            if watch.changed():
                gateway.apply((await asyncio.to_thread(loader.follow)).snapshot)
        except Exception:
            log.exception("the directory could not be read; the last known one stays in force")
            watch.forget()
            await asyncio.sleep(1.0)


async def _sync_journal(gateway: Gateway, journal: JournalWriter) -> None:
    while True:
        await asyncio.sleep(JOURNAL_SYNC_SECONDS)
        recorder = gateway.recorder
        if not recorder.works:
            recorder.flush()
        if recorder.is_dirty:
            recorder.is_dirty = False
            try:
                await asyncio.to_thread(journal.sync)
            except JournalUnavailable as error:
                log.error("the journal could not be synced: %s", error)


async def _tell_standing(gateway: Gateway, path: Path) -> None:
    """Rewrite the file from which commands read what goes on now; it never holds up a request."""
    while True:
        await asyncio.sleep(STANDING_SECONDS)
        text = json.dumps({"at": time.time(), **gateway.standing()})
        with contextlib.suppress(OSError):  # without the disk there is no news, and the journal has said so already
            await asyncio.to_thread(_replace, path, text)


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(text, "utf-8")
    draft.replace(path)


def _tls(cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext | None:
    if cert_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert_file, key_file)
    return context


def _raise_descriptor_limit() -> None:
    """Each stream takes two descriptors; the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _keep_freed_memory() -> None:
    """Large prompts reuse the process's memory; glibc would ask the kernel for fresh pages for each and zero them.

    Measured: a fifth of the time of a 200 KB prompt. Costs up to 64 MiB of idle memory. Only on glibc.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        for parameter in (m_trim_threshold, m_mmap_threshold):
            libc.mallopt(parameter, 64 * 1024 * 1024)
