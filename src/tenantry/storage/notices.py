"""Whether the directory has moved, told by PostgreSQL: a thread listens, and asks in case a notice is lost.

Notices are lost when the connection is (a server that restarts, a proxy that hangs up) and behind a pooler that hands
a connection on after each transaction. Asking is one row by its key.
"""

from __future__ import annotations

import contextlib
import threading

from sqlalchemy import Connection, Engine, text

from tenantry.storage.schema import require_usable_schema
from tenantry.storage.server import wait_for_notice
from tenantry.storage.versions import CHANNEL, directory_version

# Without a notice a change acts after that: under the second that is promised.
ASK_SECONDS = 0.5
# Between two tries to reach a server that is away.
RETRY_SECONDS = 1.0


class DirectoryNotices:
    """`take` never waits: the thread alone speaks with the server."""

    def __init__(self, engine: Engine) -> None:
        """Raises: StoreOutdated; the store's own errors."""
        self._engine = engine
        self._lock = threading.Lock()
        self._moved = False
        self._fault: Exception | None = None
        self._ending = threading.Event()
        connection = self._listen()
        self._version = directory_version(connection)
        self._thread = threading.Thread(target=self._follow, args=(connection,), name="directory", daemon=True)
        self._thread.start()

    def take(self) -> bool:
        """Whether it has moved since this was asked last. Raises: what kept the thread from knowing, once."""
        with self._lock:
            moved, fault, self._moved, self._fault = self._moved, self._fault, False, None
        if fault is not None:
            raise fault
        return moved

    def forget(self) -> None:
        """What was reported could not be read: it is reported again."""
        self._moved = True

    def close(self) -> None:
        """It may take as long as the thread waits for a notice."""
        self._ending.set()
        self._thread.join(ASK_SECONDS + RETRY_SECONDS)

    def _listen(self) -> Connection:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            require_usable_schema(connection)  # it may have been away while a later version came
            connection.execute(text(f"LISTEN {CHANNEL}"))
        except BaseException:
            connection.close()
            raise
        return connection

    def _follow(self, connection: Connection | None) -> None:
        while not self._ending.is_set():
            try:
                connection = connection or self._listen()
                self._look(connection)
                wait_for_notice(connection, ASK_SECONDS)
            except Exception as error:  # noqa: BLE001 -- whatever it is, `take` raises it and the next round tries again
                with self._lock:
                    self._fault = error
                connection = _drop(connection)
                self._ending.wait(RETRY_SECONDS)
        _drop(connection)

    def _look(self, connection: Connection) -> None:
        version = directory_version(connection)
        if version != self._version:
            self._version = version
            with self._lock:
                self._moved = True


def _drop(connection: Connection | None) -> None:
    """Close it for good: no other work is given a connection that listens."""
    if connection is not None:
        with contextlib.suppress(Exception):
            connection.invalidate()
            connection.close()
