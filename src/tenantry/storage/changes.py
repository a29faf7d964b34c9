"""Whether anything was committed to the store since somebody last asked: what looks again and again asks this first."""

from __future__ import annotations

import sqlite3

from sqlalchemy import Connection, Engine

from tenantry.storage.database import StoreFile, path_of_store


class StoreChanges:
    """Asked by one caller. On SQLite it is a pragma on a connection of its own, some microseconds: `data_version` moves
    when another connection commits (sqlite.org/pragma.html#pragma_data_version). PostgreSQL has nothing like it: there
    something may always have changed.
    """

    def __init__(self, engine: Engine) -> None:
        self._connection: Connection | None = None
        self._sqlite: sqlite3.Connection | None = None
        path = path_of_store(engine.url)
        self._file = StoreFile(path) if path is not None else None
        self._data_version: int | None = None
        if engine.dialect.name == "sqlite":
            self._connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            driver = self._connection.connection.driver_connection
            self._sqlite = driver if isinstance(driver, sqlite3.Connection) else None

    def may_have(self) -> bool:
        """The first time, too. Raises: StoreReplaced; the store's own errors."""
        if self._sqlite is None:
            return True
        if self._file is not None:
            self._file.require()
        data_version = self._sqlite.execute("PRAGMA data_version").fetchone()[0]
        if data_version == self._data_version:
            return False
        self._data_version = data_version
        return True

    def forget(self) -> None:
        """What had changed could not be read: it is reported again."""
        self._data_version = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
