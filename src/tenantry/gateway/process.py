"""The gateway process: builds its parts, follows the directory, serves until told to stop."""

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
from pathlib import Path
from typing import cast

from sqlalchemy import Engine

from tenantry.domain.attempts import Tally
from tenantry.domain.directory import Change, KeyStatus, Snapshot, TenantStatus
from tenantry.domain.errors import ApiError, KeyNotActive, NotReady, TenantDisabled
from tenantry.domain.prices import PriceTable, load_default_prices
from tenantry.domain.repeats import Repeats
from tenantry.gateway.authentication import Principal
from tenantry.gateway.bodies import Beside, Bodies
from tenantry.gateway.client import ClientConnection
from tenantry.gateway.deadlines import TICK_SECONDS, Deadlines
from tenantry.gateway.health import Health
from tenantry.gateway.lanes import Lanes
from tenantry.gateway.parts import Clock, Latest, Parts
from tenantry.gateway.policy import Policies
from tenantry.gateway.population import Population, Served
from tenantry.gateway.recorder import Recorder
from tenantry.gateway.tallies import Tallies
from tenantry.gateway.telling import Telling
from tenantry.gateway.till import Till
from tenantry.gateway.upstream import Pools
from tenantry.gateway.wall import WallClock, monotonic_us, wall_us
from tenantry.ledger.adjustments import adjustments_since
from tenantry.ledger.journal import JournalUnavailable, JournalWriter
from tenantry.ledger.live import LIVE_FILE, Live, LiveHealth, LiveUse, write_live
from tenantry.ledger.opening import Opening, open_counters
from tenantry.settings import GatewaySettings
from tenantry.storage.database import StoreReplaced, open_store
from tenantry.storage.snapshot import DirectoryWatch, SnapshotLoader
from tenantry.storage.vault import Vault, load_master_key
from tenantry.wire.inspect import MessageFields

log = logging.getLogger("tenantry.gateway")

# A change must act in under a second (DESIGN 3), and better in a fifth of one; a poll costs some microseconds.
DIRECTORY_POLL_SECONDS = 0.05
# What a power cut may cost in unsynced ends; begins are on the file before anything is sent.
JOURNAL_SYNC_SECONDS = 0.02
# People look at what goes on now; a second is now.
TALLY_SECONDS = 1.0
LIVE_SECONDS = 1.0
CLOCK_SECONDS = 0.5
CLOCK_RETRY_SECONDS = 30.0
# Everything live at start is frozen and the collector is off under traffic: a full collection stops the world.
COLLECT_SECONDS = 30.0
# The journal's and the store's own messages come at once; what follows them, after so many seconds.
RETRY_SECONDS = 1.0
BACKLOG = 4096
# Of what is told of a fault in the live record.
FAULT_CHARS_MAX = 300


def build_parts(
    settings: GatewaySettings,
    snapshot: Snapshot,
    pepper: bytes,
    prices: PriceTable,
    journal: JournalWriter,
    opening: Opening,
    clock: Clock,
    beside: Beside,
) -> Parts:
    """The parts of one gateway process, or of a test's."""
    return Parts(
        settings=settings,
        pepper=pepper,
        version_default=settings.anthropic_version.encode(),
        prices=prices,
        clock=clock,
        latest=Latest(snapshot),
        population=Population(),
        deadlines=Deadlines(clock.now),
        lanes=Lanes(clock.now, clock.call_later),
        till=Till(prices, settings.zone, opening),
        health=Health(clock.now),
        recorder=Recorder(journal, clock.call_soon, clock.now),
        tallies=Tallies(),
        policies=Policies(prices.models()),
        pools=Pools(),
        telling=Telling(settings.zone, settings.contact),
        bodies=Bodies(beside),
    )


class GatewayProcess:
    """The housekeeping of a gateway: what is done beside requests, and how it stops."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.collects = True  # tests that count garbage turn it off
        self.directory_fault = ""  # why the directory cannot be followed
        self._last_collect = parts.clock.now()

    def apply(self, change: Change) -> None:
        """Go on under another directory: new limits act at once, and who may not go on is cut off."""
        parts, snapshot = self.parts, change.snapshot
        parts.latest.snapshot = snapshot
        parts.lanes.apply(snapshot)
        parts.till.apply(change, parts.clock.wall_us())
        # Who waits goes first, so that nobody is given a turn only to be cut off.
        for served in sorted(parts.population.served, key=_is_waiting, reverse=True):
            refusal = _no_longer_allowed(snapshot, served.principal)
            if refusal is not None and served in parts.population.served:
                served.cut(refusal.reason, refusal)

    def tick(self) -> None:
        """End what is overdue, count what streams have produced. Called every `TICK_SECONDS`."""
        parts = self.parts
        parts.deadlines.sweep()
        for served in list(parts.population.streams):
            served.look()
        now = parts.clock.now()
        parts.pools.sweep(now)
        parts.lanes.sweep()
        if self.collects and not parts.population.served and now - self._last_collect > COLLECT_SECONDS:
            self._last_collect = now
            gc.collect()

    def tell_tallies(self) -> None:
        """Journal what has been counted since the last time; a journal that could not be written is tried anyway."""
        tally = self.parts.tallies.take()
        if tally is None and not self.parts.recorder.works:
            tally = Tally([], [])
        if tally is not None:
            self.parts.recorder.tally(tally)

    def live(self) -> Live:
        """What goes on now, for people: use of lanes and money by tenant, and health."""
        parts, at_us = self.parts, self.parts.clock.wall_us()
        tenants = {tenant_id: LiveUse(**use) for tenant_id, use in parts.lanes.standing().items()}
        for tenant_id, money in parts.till.standing(at_us).items():
            use = tenants.setdefault(tenant_id, LiveUse())
            use.held_nanos, use.spent_nanos = money["held_nanos"], money["spent_nanos"]
            use.excess_nanos = money["excess_nanos"]
        health = LiveHealth(
            **parts.health.facts(), journal_works=parts.recorder.works, directory_fault=self.directory_fault
        )
        return Live(at_us / 1_000_000, tenants, health)

    async def drain(self, seconds: float) -> None:
        """Refuse new work, let what runs end within `seconds`, then end it with an `error` event."""
        parts, population = self.parts, self.parts.population
        population.is_stopping = True
        for connection in list(population.connections):
            connection.stop_when_idle()
        for served in list(population.served):
            if served in population.served:  # what one gives back may have ended another
                served.stop()
        until = parts.clock.now() + seconds
        await population.empty(seconds)
        for served in list(population.served):
            served.cut("gateway_stopping", NotReady("The gateway is restarting. Try again."))
        await asyncio.sleep(0.05)  # one turn of the loop for the last bytes to leave
        # Sockets do not say when the kernel has taken their last byte.
        while any(one.has_unsent for one in population.connections) and parts.clock.now() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        for connection in list(population.connections):
            connection.abort()
        parts.pools.close()


def _is_waiting(served: Served) -> bool:
    return served.is_waiting


def _no_longer_allowed(snapshot: Snapshot, principal: Principal) -> ApiError | None:
    key = snapshot.keys.get(principal.key.digest)
    if key is None or key.status is not KeyStatus.ACTIVE:
        return KeyNotActive()
    tenant = snapshot.tenants.get(key.tenant_id)
    if tenant is None or tenant.status is not TenantStatus.ACTIVE:
        return TenantDisabled()
    return None


async def serve_gateway(settings: GatewaySettings, ready: Callable[[int], None] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; then drain. Returns the exit code.

    `ready` is called with the port once connections are accepted.
    """
    loop = asyncio.get_running_loop()
    _raise_descriptor_limit()
    _keep_freed_memory()
    vault = Vault(load_master_key(settings.master_key_file))
    engine = open_store(settings.store_url, must_exist=True)
    watch = DirectoryWatch(engine)
    loader = SnapshotLoader(engine, vault)
    snapshot = loader.load()
    prices = load_default_prices()
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

    chores = [
        asyncio.create_task(_every(TICK_SECONDS, gateway.tick), name="deadlines"),
        asyncio.create_task(_every(TALLY_SECONDS, gateway.tell_tallies), name="tallies"),
        asyncio.create_task(_follow_directory(watch, loader, gateway, engine, opening.entry_id), name="the directory"),
        asyncio.create_task(
            _follow_clock(
                wall, gateway, lambda at_us: open_counters(engine, journal_dir, prices, settings.zone, at_us)
            ),
            name="the clock",
        ),
        asyncio.create_task(_sync_journal(parts.recorder, journal, clock.now), name="the journal"),
        asyncio.create_task(_tell_live(gateway, journal.folder / LIVE_FILE), name="the facts for people"),
    ]
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


async def _every(seconds: float, chore: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        chore()


async def _follow_directory(
    watch: DirectoryWatch, loader: SnapshotLoader, gateway: GatewayProcess, engine: Engine, entry_id: int
) -> None:
    """Fails closed for what is new, open for what was known: a store that cannot be read leaves the last snapshot."""
    faults, now = Repeats(), gateway.parts.clock.now
    while True:
        await asyncio.sleep(DIRECTORY_POLL_SECONDS)
        try:
            if watch.changed():
                gateway.apply(await asyncio.to_thread(loader.follow))
                entry_id, corrections = await asyncio.to_thread(adjustments_since, engine, entry_id)
                for tenant_id, key_id, at_us, nanos in corrections:
                    gateway.parts.till.adjust(tenant_id, key_id, at_us, nanos)
            if faults.count and (count := faults.went_well(now())):
                log.warning("the directory can be read again; it could not %d times", count)
            gateway.directory_fault = ""
        except Exception as error:
            gateway.directory_fault = f"{type(error).__name__}: {error}"[:FAULT_CHARS_MAX]
            if not faults.came(gateway.directory_fault, now()):
                pass
            elif isinstance(error, StoreReplaced):
                log.critical("%s The last known directory stays in force; `tenantry doctor` says more.", error)
            else:
                log.exception("the directory could not be read; the last known one stays in force")
            watch.forget()
            await asyncio.sleep(RETRY_SECONDS)


async def _follow_clock(wall: WallClock, gateway: GatewayProcess, reopen: Callable[[int], Opening]) -> None:
    """A clock that was set is followed once it has stayed so; budgets know before what was spent at its time."""
    while True:
        await asyncio.sleep(CLOCK_SECONDS)
        moved_us = wall.look()
        if moved_us is None:
            continue
        log.warning("the machine's clock was set by %+.1f s", moved_us / 1_000_000)
        try:
            gateway.parts.till.reopen(await asyncio.to_thread(reopen, wall.now_us() + moved_us))
        except Exception:  # open: requests go on under the time before, and what was spent is counted in it
            log.exception("the ledger could not be read; the gateway stays at its own time for now")
            await asyncio.sleep(CLOCK_RETRY_SECONDS)
            continue
        wall.move(moved_us)


async def _sync_journal(recorder: Recorder, journal: JournalWriter, now: Callable[[], float]) -> None:
    faults = Repeats()
    while True:
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
                if faults.came(str(error), now()):
                    log.error("the journal could not be synced: %s", error)


async def _tell_live(gateway: GatewayProcess, path: Path) -> None:
    """Rewrite the file from which commands read what goes on now; it never holds up a request."""
    while True:
        await asyncio.sleep(LIVE_SECONDS)
        record = gateway.live()
        with contextlib.suppress(OSError):  # without the disk there is no news, and the journal has said so already
            await asyncio.to_thread(write_live, path, record)


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
