"""PostgreSQL: its engine, its locks, its notices, and rows by COPY (docs/decisions/0020-postgresql.md).

Nothing of its driver is loaded where the store is SQLite.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    cast,
    create_engine,
    extract,
    func,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from tenantry.storage.answers import watch_answers
from tenantry.storage.schema import known_revisions

# The first version whose `pg_dump`, notices and locks are tested here; 14 and older end in 2026.
SERVER_VERSION_MIN = 150_000
CONNECT_SECONDS_MAX = 10
# By which the server lists the connections of a site, as it lists others'; behind it stands the schema that they know.
APPLICATION = "tenantry"
# As long as SQLite's writers wait for each other (storage/database.py).
LOCK_MS_MAX = 10_000
# A machine that is cut off in the middle of a transaction keeps its locks until the server ends that; without this the
# kernel does, after two hours (tcp(7)). Between two statements of one that decides are some lines of Python.
SILENCE_MS_MAX = 5_000
# A server that is gone without a word: asked after half a minute, given up after another.
_KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
# Booking's transactions take a tenth of a second, others less. Below `LOCK_MS_MAX`, so that who waits gets its turn.
FROZEN_SECONDS = 5
# The processes of one machine are few, and none has more threads that ask at once.
POOL_CONNECTIONS = 5


class DriverMissing(Exception):
    """PostgreSQL needs the extra `postgres`: `pip install 'tenantry[postgres]'` (requirements/postgres.txt)."""


class Lock(IntEnum):
    """What one at a time may do in a database, as the keys of advisory locks. A number is never used again."""

    BOOKING = 0x7E4A_0001  # rows of the ledger, and the sums made of them
    MIGRATION = 0x7E4A_0002
    CLAIMS = 0x7E4A_0021  # of cells, by gateways


def server_us() -> ColumnElement[int]:
    """The server's clock, microseconds: not the time at which the transaction began."""
    return cast(extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)


def store_us(connection: Connection) -> int:
    """The clock of a store, microseconds: its server's; on SQLite, which one machine shares, that machine's time."""
    if connection.dialect.name == "sqlite":
        return time.time_ns() // 1000
    return connection.execute(select(server_us())).scalar_one()


def open_server(url: URL, password: str | None) -> Engine:
    """An engine whose every connection has UTC as its time zone, and waits for no lock without an end.

    A connection that has died is found before it is used, a server that is frozen while it is (answers.py).

    Raises:
        DriverMissing: psycopg is not installed.
    """
    options = f"-c timezone=UTC -c lock_timeout={LOCK_MS_MAX} -c client_encoding=UTF8"
    own = {"connect_timeout": str(CONNECT_SECONDS_MAX), "options": options}
    args = {name: value for name, value in (own | _KEEPALIVE).items() if name not in url.query}
    args["application_name"] = f"{url.query.get('application_name', APPLICATION)} {known_revisions()[0]}"
    if password is not None:
        url = url.set(password=password)
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"), connect_args=args, pool_pre_ping=True, pool_size=POOL_CONNECTIONS
        )
    except ModuleNotFoundError as error:
        raise DriverMissing(f"{(DriverMissing.__doc__ or '').strip()} ({error})") from None
    watch_answers(engine)
    return engine


def is_server(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def take_turn(connection: Connection, lock: Lock) -> None:
    """Wait until nobody else holds this lock; it is held until the transaction ends. SQLite has one writer anyhow.

    Raises:
        OperationalError: somebody held it for longer than `LOCK_MS_MAX`.
    """
    if is_server(connection):
        connection.execute(select(func.pg_advisory_xact_lock(int(lock))))


def bound_silence(connection: Connection) -> None:
    """The server ends this transaction when who began it has said nothing for `SILENCE_MS_MAX`; its locks are free."""
    if is_server(connection):
        connection.execute(select(func.set_config("idle_in_transaction_session_timeout", str(SILENCE_MS_MAX), True)))


# Sessions of ours that hold a lock which another waits for, while their own server process has waited for a word of
# their client's: between two statements, or in the middle of a COPY.
_FROZEN = text(
    "SELECT pid, pg_terminate_backend(pid) FROM (SELECT DISTINCT holder.pid FROM pg_stat_activity AS waiting "
    "CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocking (pid) "
    "JOIN pg_stat_activity AS holder ON holder.pid = blocking.pid "
    "WHERE waiting.datname = current_database() AND waiting.wait_event_type = 'Lock' "
    "AND holder.usename = current_user AND holder.application_name = current_setting('application_name') "
    "AND holder.wait_event = 'ClientRead' "
    "AND holder.state_change < clock_timestamp() - make_interval(secs => :seconds)) AS frozen"
)


def end_frozen(connection: Connection, seconds: float = FROZEN_SECONDS) -> list[int]:
    """End the sessions of processes of ours that were stopped in the middle of a transaction, where others wait for
    them; their numbers. What they had not committed is undone, and they begin again when they go on.

    Neither `idle_in_transaction_session_timeout` nor `statement_timeout` ends one that is stopped in a COPY.
    """
    return [row.pid for row in connection.execute(_FROZEN, {"seconds": seconds})]


def notify(connection: Connection, channel: str) -> None:
    """Who listens on this channel is told when the transaction is committed."""
    if is_server(connection):
        connection.execute(select(func.pg_notify(channel, "")))


def copy_rows(connection: Connection, table: str, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Rows whose values are those of the columns `names`, by COPY: a fourth of what an INSERT for many takes.

    Raises:
        DBAPIError: as an INSERT would, of the same class.
    """
    sql = importlib.import_module("psycopg.sql")
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    with _translated(connection, f"COPY {table}") as driver, driver.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def wait_for_notice(connection: Connection, seconds: float) -> None:
    """Until a channel that is listened to tells something, `seconds` at most. Raises: DBAPIError."""
    with _translated(connection, "LISTEN") as driver:
        for _ in driver.notifies(timeout=seconds, stop_after=1):
            pass


@contextmanager
def _translated(connection: Connection, statement: str) -> Generator[Any]:
    """The driver's own connection; what it raises is raised as by SQLAlchemy."""
    dialect = connection.dialect
    base: type[Exception] = dialect.import_dbapi().Error
    try:
        yield connection.connection.driver_connection
    except base as error:
        raise DBAPIError.instance(statement, None, error, base, dialect=dialect) from error
