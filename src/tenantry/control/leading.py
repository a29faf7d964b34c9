"""Leaders: of several control processes one books the journals of a machine, and one does the work of the site.

A leader says again and again that it goes on. Who is killed is followed by another at once (on its machine) or within
some seconds; so is who is stopped, cut off or hung, and it leads no longer when it wakes, by its own clock. What
leaders do is done once because of what stands in the store, and not because there is one of them (decision 0024).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tenantry.control.background import first_line, pause, until_next
from tenantry.control.presence import locked
from tenantry.control.site import Site
from tenantry.domain.repeats import Repeats
from tenantry.domain.values import value
from tenantry.storage.columns import new_id
from tenantry.storage.controls import ControlRecord, ControlStore
from tenantry.storage.database import path_of_store
from tenantry.storage.leases import machine_us
from tenantry.storage.server import end_frozen

log = logging.getLogger("tenantry.control")

RENEW_SECONDS: Final = 1.0
# By its own clock, which counts suspends, from before it said so. Less than others wait.
LEADING_US_MAX: Final = 3_000_000
# A leader that has said nothing for as long, by the clock of who looks, is followed by another.
SILENT_US_MAX: Final = 5_000_000
BOOKING_FILE: Final = "booking.leader"
SITE_FILE: Final = "site.leader"
_BYTES_MAX: Final = 4096


class Leader(Protocol):
    """What a control process has of one leadership."""

    def leads(self) -> bool:
        """As cheap as reading a clock."""
        ...

    def step(self) -> None:
        """Say that it goes on, or begin where nobody leads. Raises: OSError; the store's own errors."""
        ...

    def resign(self) -> None:
        """Let another begin at once. Raises as `step`."""
        ...


@value
class Holder:
    """Who leads, as its file tells it."""

    control_id: str
    pid: int
    address: str = ""


class FileLeader:
    """Of what one machine has: whoever has locked the file (flock(2)) leads, and touches it each second.

    Who is killed lets go of the lock. Who is stopped does not: then another file takes its name.
    `may_lead` is asked each time.
    """

    def __init__(
        self,
        path: Path,
        control_id: str,
        may_lead: Callable[[], bool] = lambda: True,
        clock_us: Callable[[], int] = machine_us,
        address: str = "",
    ) -> None:
        self._path = path
        self._told = json.dumps({"control_id": control_id, "pid": os.getpid(), "address": address}).encode()
        self._may_lead = may_lead
        self._clock_us = clock_us
        self._file = -1
        self._until_us = 0
        self._seen: tuple[tuple[int, int], int] | None = None  # another's file and when it was touched; since when

    def leads(self) -> bool:
        return self._clock_us() < self._until_us

    def step(self) -> None:
        now_us = self._clock_us()
        if self._file >= 0 and (not self._may_lead() or not self._has_name()):
            self.resign()
        if self._file < 0:
            self._file = self._taken(now_us) if self._may_lead() else -1
        if self._file >= 0:
            os.utime(self._file)
            self._until_us = now_us + LEADING_US_MAX

    def resign(self) -> None:
        self._until_us = 0
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _has_name(self) -> bool:
        """Whether the file that it has locked is still the one that others see."""
        try:
            return os.fstat(self._file).st_ino == self._path.stat().st_ino
        except FileNotFoundError:
            return False

    def _taken(self, now_us: int) -> int:
        """The file, locked; -1: another leads."""
        file = _opened(self._path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = os.fstat(file)
            os.close(file)
            return self._replaced((found.st_ino, found.st_mtime_ns), now_us)
        if os.fstat(file).st_ino != self._path.stat().st_ino:  # it was replaced between the two
            os.close(file)
            return -1
        self._tell(file)
        return file

    def _replaced(self, seen: tuple[int, int], now_us: int) -> int:
        """Another file under the name, where the leader has not touched its own for long; -1: it has, or may have."""
        if self._seen is None or self._seen[0] != seen:
            self._seen = seen, now_us
        if now_us - self._seen[1] < SILENT_US_MAX:
            return -1
        with locked(self._path.with_name(f"{self._path.name}.turn"), fcntl.LOCK_EX) as got:
            if not got or self._path.stat().st_ino != seen[0]:
                return -1
            new = self._path.with_name(f"{self._path.name}.new")
            new.unlink(missing_ok=True)
            file = _opened(new)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._tell(file)
            new.replace(self._path)
        log.warning("the control process that led has said nothing for %d s; this one goes on", SILENT_US_MAX // 10**6)
        return file

    def _tell(self, file: int) -> None:
        os.ftruncate(file, 0)
        os.pwrite(file, self._told, 0)


def _opened(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


def holder_of(path: Path) -> Holder | None:
    """Who leads by this file; None: nobody, or it cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with contextlib.suppress(ValueError, KeyError):  # it is being written
            told = json.loads(os.pread(file, _BYTES_MAX, 0))
            return Holder(told["control_id"], told["pid"], told["address"])
    finally:
        os.close(file)
    return None


def runs_in(journal_dir: Path) -> list[str]:
    """Of the gateways whose journals are here."""
    return sorted(path.name for path in journal_dir.iterdir()) if journal_dir.is_dir() else []


class StoreLeader:
    """Of what the controls of several machines share: a lease in a store on PostgreSQL.

    `me` is how others find it told; `runs` are those of the journals that it finds here. What other processes hold
    while they are stopped is taken from them, too.
    """

    def __init__(
        self,
        engine: Engine,
        me: ControlRecord,
        runs: Callable[[], list[str]],
        may_lead: Callable[[], bool] = lambda: True,
        clock_us: Callable[[], int] = machine_us,
    ) -> None:
        self._engine = engine
        self._store = ControlStore(engine)
        self._me = me
        self._runs = runs
        self._may_lead = may_lead
        self._clock_us = clock_us
        self._has_joined = False
        self._until_us = 0
        self.live = 1  # controls, this one among them

    @property
    def control_id(self) -> str:
        return self._me.control_id

    def leads(self) -> bool:
        return self._clock_us() < self._until_us

    def step(self) -> None:
        before_us = self._clock_us()
        if not self._has_joined:
            self._store.join(self._me)
            self._has_joined = True
        may_lead = self._may_lead()
        at_us = time.time_ns() // 1000
        found = self._store.renew(self._me.control_id, self._runs(), is_booking=may_lead, at_us=at_us)
        if found is None:  # a day ago or more
            self._has_joined = False
        self._until_us = before_us + LEADING_US_MAX if found is not None and found.is_leading else 0
        self.live = max(1, found.live) if found is not None else 1
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for pid in end_frozen(connection):
                log.warning("a process of this site was stopped while others waited for it: session %d was ended", pid)

    def resign(self) -> None:
        self._until_us = 0
        if self._has_joined:
            self._store.leave(self._me.control_id)


async def keep_leading(stop: asyncio.Event, leader: Leader) -> None:
    """Until `stop` is set, in a thread that waits for nothing else. A fault is told, and ends no leadership by itself.

    Where it goes on until the lease has run out, another leads.
    """
    faults, loop = Repeats(), asyncio.get_running_loop()
    with ThreadPoolExecutor(1, "leading") as thread:
        while not stop.is_set():
            try:
                await loop.run_in_executor(thread, leader.step)
                if faults.count and (count := faults.went_well(loop.time())):
                    log.warning("this process can say again that it goes on; it could not %d times", count)
            except (SQLAlchemyError, OSError) as error:
                reason = first_line(error)
                if faults.came(reason, loop.time()):
                    log.error("this process cannot say that it goes on, trying again: %s", reason)
            await pause(stop, until_next(loop.time(), RENEW_SECONDS))


@value
class Leaders:
    """Of this process: of the journals of its machine, and of the site."""

    booking: FileLeader
    site: FileLeader | StoreLeader

    def keeping(self, stop: asyncio.Event) -> dict[asyncio.Task[None], str]:
        """What goes on until `stop` is set, by what it is."""
        named = {"the leadership of this machine": self.booking, "the leadership of the site": self.site}
        return {asyncio.create_task(keep_leading(stop, one)): name for name, one in named.items()}

    def begin(self) -> None:
        """What nobody else does begins at once. A fault is told by who tries again."""
        for one in (self.booking, self.site):
            with contextlib.suppress(SQLAlchemyError, OSError):
                one.step()

    def resign(self) -> None:
        """Another may begin at once; where that cannot be said, it begins some seconds later."""
        for one in (self.site, self.booking):
            with contextlib.suppress(SQLAlchemyError, OSError):
                one.resign()

    def live(self) -> int:
        """How many control processes share the store, as far as is known."""
        return self.site.live if isinstance(self.site, StoreLeader) else 1


def leaders_of(site: Site, machine: str) -> Leaders:
    """Who books no journals does not lead the site either: what it would tell rests on what is booked."""
    settings, control_id = site.settings, new_id("ctl")
    address = settings.control_url
    booking = FileLeader(settings.data_dir / BOOKING_FILE, control_id, address=address)
    store = path_of_store(settings.store_url)
    if store is not None:
        return Leaders(booking, FileLeader(store.with_name(SITE_FILE), control_id, booking.leads, address=address))
    me = ControlRecord(control_id, machine, os.getpid(), address, time.time_ns() // 1000, True, False, False)
    return Leaders(booking, StoreLeader(site.engine, me, lambda: runs_in(settings.journal_dir), booking.leads))
