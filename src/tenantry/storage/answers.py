"""No end of patience with a server that is frozen: libpq waits for an answer without a limit.

A report may take minutes, so an answer has no limit here either. Whoever has waited for a while asks for a second
connection: a server that is busy gives one, a server that is stopped, swapped out or hung does not.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Generator
from typing import Any, Final

from sqlalchemy import Engine, event

# Longer than booking and the reads of pages take; asking is cheap, so it may be short.
SILENT_SECONDS_MAX: Final = 10.0
# libpq's unit; the handshake of a server that is only busy takes milliseconds.
PROBE_SECONDS_MAX: Final = 5


def watch_answers(engine: Engine) -> None:
    """Connections of this engine raise the driver's OperationalError where the server is frozen, and are closed."""
    driver = importlib.import_module("psycopg")
    watched = _watching(driver)

    def connect(_dialect: object, _record: object, args: list[Any], parameters: dict[str, Any]) -> Any:
        return watched.connect(*args, **parameters)

    event.listen(engine, "do_connect", connect)


def _watching(driver: Any) -> Any:
    """psycopg's connection, whose every wait for the server goes through one method."""

    plain: Any = driver.Connection

    class Watched(plain):
        def wait(self, gen: Generator[Any, Any, Any], *args: Any, **named: Any) -> Any:
            return plain.wait(self, _watched(gen, self, driver), *args, **named)

    return Watched


def _watched(work: Generator[Any, Any, Any], connection: Any, driver: Any) -> Generator[Any, Any, Any]:
    """The same work. It is told of nothing now and then while nothing comes (psycopg.waiting)."""
    heard_at = time.monotonic()
    try:
        wanted = next(work)
        while True:
            ready = yield wanted
            if ready:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at >= SILENT_SECONDS_MAX:
                _require_alive(connection, driver)
                heard_at = time.monotonic()
            wanted = work.send(ready)
    except StopIteration as end:
        return end.value


def _require_alive(connection: Any, driver: Any) -> None:
    """Raises: the driver's OperationalError: nobody answers, and this connection is closed."""
    known = connection.info.get_parameters() | {"connect_timeout": PROBE_SECONDS_MAX}
    if connection.info.password:
        known["password"] = connection.info.password
    try:
        driver.Connection.connect(**known).close()
    except driver.OperationalError as error:
        if getattr(error, "sqlstate", None) is not None:
            return  # it answers: it has no connection to spare
        connection.close()
        raise driver.OperationalError(f"the server is there and gives no answer ({error})") from error
