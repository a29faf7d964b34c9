"""Which gateways live, in the store: leases, by the store's own clock, and what each has to do (decision 0021).

On PostgreSQL that clock is its server's; on SQLite, whose file all gateways of one machine share, it is that machine's
CLOCK_BOOTTIME, which counts suspends and which nobody sets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, case, func, insert, literal, select, update

from tenantry.domain.values import value
from tenantry.storage.cell_tables import cells, gateways
from tenantry.storage.database import Store
from tenantry.storage.server import Lock, bound_silence, server_us, take_turn

_BOOT_FILE: Final = Path("/proc/sys/kernel/random/boot_id")
_NO_BOOT: Final = ""


def machine_us() -> int:
    """The clock that counts suspends, microseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


@value
class Lease:
    """Whose it is, and for how long it is renewed."""

    gateway_id: str
    lease_us: int


@value
class Renewed:
    """The lease goes on. `is_asked_to_move`: some of its cells are to be another's."""

    is_asked_to_move: bool


@value
class Loaded:
    """A gateway that lives, where it is reached, and what it has to do."""

    gateway_id: str
    address: str
    load: int


class LeaseStore:
    """Leases in one store. `clock_us` is that of SQLite's machine, and `boot` names what it began with."""

    def __init__(self, engine: Store, clock_us: Callable[[], int] = machine_us, boot: str | None = None) -> None:
        self.engine = engine
        self._clock_us = clock_us
        self._is_sqlite = engine.dialect.name == "sqlite"
        self.boot = (boot if boot is not None else boot_id()) if self._is_sqlite else _NO_BOOT

    # The clock

    def now(self) -> ColumnElement[int]:
        if self._is_sqlite:
            return literal(self._clock_us())
        return server_us()

    def is_live(self) -> ColumnElement[bool]:
        return and_(gateways.c.lease_until_us > self.now(), gateways.c.boot == self.boot)

    @contextmanager
    def deciding(self, *, claims: bool = False) -> Generator[Connection]:
        """A transaction in which what was read to decide is still so when it is written."""
        if self._is_sqlite:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
                connection.commit()
            return
        with self.engine.begin() as connection:
            bound_silence(connection)
            if claims:
                take_turn(connection, Lock.CLAIMS)
            yield connection

    @contextmanager
    def at_once(self) -> Generator[Connection]:
        """For one statement, which takes effect when it is done: nobody waits for who is cut off before its commit."""
        if self._is_sqlite:
            with self.engine.begin() as connection:
                yield connection
            return
        with self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    # Leases

    def join(self, lease: Lease, address: str, machine: str, at_us: int) -> None:
        """A gateway process begins to live. `at_us` is unix time."""
        with self.at_once() as connection:
            connection.execute(
                insert(gateways).values(
                    gateway_id=lease.gateway_id,
                    address=address,
                    machine=machine,
                    boot=self.boot,
                    since_us=at_us,
                    lease_until_us=self.now() + lease.lease_us,
                    load=0,
                )
            )

    def renew(self, lease: Lease, load: int = 0) -> Renewed | None:
        """None: it has run out, and what was owned may be another's by now. `load`: as `domain/balance.py` counts."""
        wanted = select(func.count()).where(cells.c.gateway_id == lease.gateway_id, cells.c.wanted_by.is_not(None))
        with self.at_once() as connection:
            done = connection.execute(
                update(gateways)
                .where(gateways.c.gateway_id == lease.gateway_id, self.is_live())
                .values(
                    lease_until_us=self.now() + lease.lease_us,
                    load=case((gateways.c.load.is_(None), None), else_=load),  # it ends, and takes nothing
                )
                .returning(wanted.scalar_subquery())
            )
            row = done.first()
            return Renewed(bool(row[0])) if row is not None else None

    def end(self, gateway_ids: Collection[str]) -> None:
        """These live no longer: they have said so, or their process is known to be dead."""
        if gateway_ids:
            with self.at_once() as connection:
                connection.execute(
                    update(gateways)
                    .where(gateways.c.gateway_id.in_(gateway_ids), self.is_live())
                    .values(lease_until_us=self.now())
                )

    def live(self) -> list[str]:
        """The gateways whose leases have not run out."""
        with self.engine.connect() as connection:
            return list(connection.execute(select(gateways.c.gateway_id).where(self.is_live())).scalars())

    def take_no_more(self, gateway_id: str) -> None:
        """A gateway ends, or can send nothing: nobody gives it anything."""
        with self.engine.begin() as connection:
            connection.execute(update(gateways).where(gateways.c.gateway_id == gateway_id).values(load=None))

    def take_again(self, gateway_id: str) -> None:
        """It has nothing to do, and may be given something."""
        with self.engine.begin() as connection:
            connection.execute(update(gateways).where(gateways.c.gateway_id == gateway_id).values(load=0))

    def loads(self) -> list[Loaded]:
        """The gateways that live and say how much they have to do, by their names."""
        query = select(gateways.c.gateway_id, gateways.c.address, gateways.c.load).where(
            self.is_live(), gateways.c.load.is_not(None)
        )
        with self.engine.connect() as connection:
            return [
                Loaded(row.gateway_id, row.address, int(row.load))
                for row in connection.execute(query.order_by(gateways.c.gateway_id))
            ]


def joined_of(connection: Connection, gateway_ids: Collection[str]) -> set[str]:
    """Those of these that are among several, or were: who serves by itself tells the store nothing."""
    query = select(gateways.c.gateway_id).where(gateways.c.gateway_id.in_(gateway_ids))
    return set(connection.execute(query).scalars())


def boot_id() -> str:
    """Which start of this machine it is; "" where that is not told."""
    try:
        return _BOOT_FILE.read_text().strip()
    except OSError:  # not Linux: leases of before the last boot run out by themselves
        return _NO_BOOT
