"""How `tenantry restart` reaches `tenantry serve`: a socket in the data directory, which only the owner may use."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from tenantry.storage.short_names import short_name

LOCK_FILE: Final = "serve.lock"
DOOR_FILE: Final = "serve.sock"
_RESTART: Final = b"restart\n"
_DONE: Final = b"done\n"
_ANSWER_BYTES_MAX: Final = 4096
_BACKLOG: Final = 8


class ServeRuns(Exception):
    """`tenantry serve` runs already on this data directory. `tenantry restart` starts its processes anew."""


class ServeMissing(Exception):
    """No `tenantry serve` runs on this data directory."""


class RestartFailed(Exception):
    """The restart came to nothing; the gateway that served goes on."""


class RestartDoor:
    """Held by the one `serve` of a data directory, for as long as it runs.

    Raises, on entering:
        ServeRuns: another one holds it.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._lock = -1
        self._door: socket.socket | None = None
        self._answering: asyncio.Task[None] | None = None

    def __enter__(self) -> RestartDoor:
        self._lock = os.open(self._data_dir / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ServeRuns((ServeRuns.__doc__ or "").strip()) from None
        return self

    def open(self, restart: Callable[[], Awaitable[str]]) -> None:
        """Answer from here on. `restart` returns what went wrong, or nothing."""
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._door = door
        path = self._data_dir / DOOR_FILE
        path.unlink(missing_ok=True)
        with short_name(path) as name:
            door.bind(name)
        path.chmod(0o600)
        door.listen(_BACKLOG)
        door.setblocking(False)
        self._answering = asyncio.create_task(self._answer_all(door, restart))

    async def _answer_all(self, door: socket.socket, restart: Callable[[], Awaitable[str]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked, _ = await loop.sock_accept(door)
            with asked, contextlib.suppress(OSError):
                asked.setblocking(False)
                if await loop.sock_recv(asked, len(_RESTART)) == _RESTART:
                    problem = await restart()
                    await loop.sock_sendall(asked, f"{problem}\n".encode() if problem else _DONE)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._door is not None and self._answering is not None:
            self._answering.cancel()
            self._door.close()
            (self._data_dir / DOOR_FILE).unlink(missing_ok=True)
        os.close(self._lock)


def ask_restart(data_dir: Path) -> None:
    """Have the gateway of a site replaced; returns when the new one serves.

    Raises:
        ServeMissing: nobody is there to do it.
        RestartFailed: the new one did not come to serve.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            with short_name(data_dir / DOOR_FILE) as name:
                asking.connect(name)
            asking.sendall(_RESTART)
            answer = asking.recv(_ANSWER_BYTES_MAX)
        except PermissionError:
            raise ServeMissing(f"{data_dir} is another user's: run this as the user that Tenantry runs as") from None
        except OSError:
            raise ServeMissing(f"no `tenantry serve` runs on the data directory {data_dir}") from None
    if answer != _DONE:
        raise RestartFailed(answer.decode("utf-8", "replace").strip() or "`tenantry serve` has ended")
