"""Which versions of Tenantry use a store at this moment, by the schema that each knows.

PostgreSQL lists its connections, and each says its schema in its name. On SQLite each process that serves holds a
shared lock on one byte of a file beside the database: the byte whose number is its schema's. Both are gone with the
process, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, text

from tenantry.kernel import holders_of
from tenantry.storage.database import path_of_store
from tenantry.storage.schema import known_revisions, require_usable_schema
from tenantry.storage.server import APPLICATION, is_server

_ENDING: Final = "-users"
# Its own role sees its own sessions, whatever its rights. Of connections through a socket the server knows no address.
_CONNECTIONS: Final = text(
    "SELECT DISTINCT application_name, coalesce(host(client_addr), 'its own machine') FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY 1, 2"
)
_NAMED: Final = re.compile(r".* (\d{4})", re.DOTALL)
# What stands for a version from before its connections said their schema.
_UNTOLD: Final = "0000"


class StoreUse:
    """Tells that a process which knows this version's schema uses a store, until it is closed."""

    def __init__(self, engine: Engine) -> None:
        """Waits for a migration that is under way. Raises: StoreOutdated, OSError, the store's own errors."""
        self._descriptor = -1
        path = path_of_store(engine.url)
        if path is not None:
            self._descriptor = _open(path)
            fcntl.lockf(self._descriptor, fcntl.LOCK_SH, 1, int(known_revisions()[0]))
        with engine.connect() as connection:
            require_usable_schema(connection)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _open(path: Path) -> int:
    return os.open(path.with_name(path.name + _ENDING), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


class EarlierUsers:
    """Who uses the store with a schema that is older than another; `told` names each. While this is open, none of them
    begins to on SQLite; on PostgreSQL one that begins in the same moment finds a schema that it refuses.
    """

    def __init__(self, connection: Connection, than: str) -> None:
        """Raises: OSError; the store's own errors."""
        self._descriptor = -1
        self.told: list[str] = []
        path = path_of_store(connection.engine.url)
        if is_server(connection):
            self.told = _connected(connection, than)
        elif path is not None:
            self._descriptor = _open(path)
            self.told = self._lock_out(path, int(than))

    def _lock_out(self, path: Path, than: int) -> list[str]:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, than, 0)
        except OSError:
            pids = holders_of(path.with_name(path.name + _ENDING), 0, than - 1)
            return [f"process {pid}" for pid in pids] or ["a process of another user"]
        return []

    def close(self) -> None:
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


def _connected(connection: Connection, than: str) -> list[str]:
    found: list[str] = []
    for name, address in connection.execute(_CONNECTIONS):
        named = _NAMED.fullmatch(name or "")
        schema = named[1] if named is not None else _UNTOLD if name == APPLICATION else None
        if schema is not None and schema < than:
            found.append(f"a process on {address}" + (f" (schema {schema})" if schema != _UNTOLD else ""))
    return found
