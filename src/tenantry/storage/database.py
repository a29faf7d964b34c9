"""Opening the store, with the settings that the promises need."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import URL, Connection, Dialect, Engine, Result, Select, create_engine, event, make_url

from tenantry.storage.server import open_server

# Longer than any transaction here; the drain's are the longest, at a tenth of a second.
BUSY_MS_MAX = 10_000
# SQLite's own are 2 MB and 4 MB: a transaction of some thousand rows then writes pages of its indexes several times,
# and copies the log after each commit. A quarter less CPU (measured, 2026-11-25).
WRITER_CACHE_KIB = 32 * 1024
WRITER_LOG_PAGES = 8 * 1024


class Store(Protocol):
    """Where statements find their transaction: an engine, or a transaction that is under way."""

    @property
    def dialect(self) -> Dialect: ...
    def begin(self) -> AbstractContextManager[Connection]: ...
    def connect(self) -> AbstractContextManager[Connection]: ...


class StoreMissing(Exception):
    """There is no database. `tenantry init` begins a new site; one that was lost comes back with `tenantry restore`."""


class StoreReplaced(OSError):
    """The database file was deleted or replaced while it was in use: nothing is read from it or written to it any more.

    A gateway ends, so that nobody is served by what was revoked elsewhere; control keeps the journals, and books them
    into the file that is there after a restart.
    """

    def __init__(self) -> None:
        super().__init__((StoreReplaced.__doc__ or "").partition("\n")[0])


class StoreFile:
    """The file that an SQLite store was opened on. Another file under its name is another store.

    An open connection goes on with a file that has lost its name, so that what it writes is lost with it.
    """

    def __init__(self, path: Path) -> None:
        """Raises: OSError."""
        self._path = os.fspath(path)
        self._known = _identity(self._path)
        self._is_replaced = False  # for good: the number of a file that is gone may be given again

    def require(self) -> None:
        """Raises: StoreReplaced."""
        if not self._is_replaced:
            try:
                self._is_replaced = _identity(self._path) != self._known
            except OSError:
                self._is_replaced = True
        if self._is_replaced:
            raise StoreReplaced


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def path_of_store(url: str | URL) -> Path | None:
    """The file of an SQLite store; None for another store."""
    parsed = make_url(url)
    database = parsed.database if parsed.get_backend_name() == "sqlite" else None
    return Path(database) if database and database != ":memory:" else None


def open_store(url: str, *, password: str | None = None, must_exist: bool = False) -> Engine:
    """An engine with the settings that the promises need: SQLite in WAL mode, every commit on the disk.

    Whoever takes a connection of it is refused with `StoreReplaced` once its file is another. Only PostgreSQL has a
    `password`, and is asked whether it exists by who uses it.

    Raises:
        StoreMissing: it `must_exist` and does not.
        DriverMissing: it is PostgreSQL's, and its driver is not installed.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return open_server(parsed, password)
    engine, path = create_engine(parsed), path_of_store(parsed)
    if path is not None:
        if must_exist and not path.exists():
            raise StoreMissing((StoreMissing.__doc__ or "").strip())
        _keep_private(path)
        file = StoreFile(path)
        # Before a connection is made too: that would make an empty file where there is none.
        for moment in ("do_connect", "checkout"):
            event.listen(engine, moment, _requiring(file))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_pragmas)
    return engine


def _requiring(file: StoreFile) -> Callable[..., None]:
    def listener(*_: object) -> None:
        file.require()

    return listener


def _keep_private(path: Path) -> None:
    """The file is made here so that nobody else can read it for even a moment."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS_MAX}")


def write_much(connection: Connection) -> None:
    """Let a connection keep more pages in memory and in the log, for transactions of thousands of rows."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
        connection.exec_driver_sql(f"PRAGMA wal_autocheckpoint = {WRITER_LOG_PAGES}")


@contextmanager
def reading(engine: Engine) -> Generator[Connection]:
    """A connection whose reads all see the store as it was at the first of them, whatever others write meanwhile."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")  # the driver begins by itself only before a write
        else:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


def values_of(result: Result[*tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Each row by the names of its columns, fetched as it is asked for."""
    names = tuple(result.keys())
    return (dict(zip(names, row, strict=True)) for row in result)


@contextmanager
def streamed(
    connection: Connection, query: Select[*tuple[Any, ...]], rows_at_once: int
) -> Generator[Iterator[dict[str, Any]]]:
    """The rows of a query that may be larger than memory; whoever leaves early leaves no cursor open."""
    with connection.execute(query, execution_options={"yield_per": rows_at_once}) as result:
        yield values_of(result)


def copy_sqlite(engine: Engine, path: Path) -> None:
    """The whole database as it is at this moment, into the file `path`; readers and writers go on meanwhile."""
    path.touch(mode=0o600)
    with engine.connect() as connection, closing(sqlite3.connect(path)) as target:
        source = connection.connection.driver_connection
        if not isinstance(source, sqlite3.Connection):
            raise TypeError("only SQLite is copied this way")
        source.backup(target)
        # One file, whole in itself: the copy is not in WAL mode.
        target.execute("PRAGMA journal_mode = DELETE")


def is_sound(path: Path) -> bool:
    """Whether an SQLite file is whole: every page, every index."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    except sqlite3.DatabaseError:
        return False
