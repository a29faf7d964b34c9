"""Opening the store and bringing its schema up to date."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection as SqliteConnection

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url

# Longer than any transaction here; the drain's are the longest, at some milliseconds.
BUSY_MS_MAX = 10_000


class StoreOutdated(Exception):
    """The database's schema is not the one this version needs. Run `tenantry init` to bring it up to date."""


def open_store(url: str) -> Engine:
    """An engine with the settings that the promises need: SQLite in WAL mode, every commit on the disk."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        _keep_private(url)
        event.listen(engine, "connect", _set_pragmas)
    return engine


def _keep_private(url: str) -> None:
    """The file is made here so that nobody else can read it for even a moment."""
    database = make_url(url).database
    if database and database != ":memory:":
        path = Path(database)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _set_pragmas(connection: SqliteConnection, _record: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS_MAX}")


@contextmanager
def one_view(engine: Engine) -> Generator[Connection]:
    """A connection whose reads all see the store as it was at the first of them."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            # The driver begins a transaction of its own only before a write.
            connection.exec_driver_sql("BEGIN")
            yield connection
    else:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            yield connection


@contextmanager
def reading(engine: Engine) -> Generator[Connection]:
    """A connection whose reads all see the store as it was at the first of them, whatever others write meanwhile."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")  # the driver begins by itself only before a write
        else:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


def migrate(engine: Engine) -> None:
    """Apply every migration that is missing. Running it again changes nothing."""
    with engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def schema_is_current(engine: Engine) -> bool:
    with engine.connect() as connection:
        applied = MigrationContext.configure(connection).get_current_revision()
    return applied == ScriptDirectory.from_config(_config()).get_current_head()


def require_current_schema(engine: Engine) -> None:
    """Raises: StoreOutdated."""
    if not schema_is_current(engine):
        raise StoreOutdated((StoreOutdated.__doc__ or "").strip())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
