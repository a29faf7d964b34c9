"""A gateway that starts and has told nobody yet: if its `serve` is gone by then, the next one finds it here.

It has the site's listening socket from its first moment on, and can be asked for it only when it serves. Until then it
holds a lock that `serve` took and gave to it with the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import time
from pathlib import Path
from typing import Final

from tenantry.gateway.listening import AddressTaken, listening_socket
from tenantry.kernel import users_of

log = logging.getLogger("tenantry.serve")

# Below the data directory.
LOCK_FILE: Final = "gateway.starting"
# The number of the descriptor that holds the lock.
STARTING: Final = "TENANTRY_STARTING"
# A gateway whose `serve` was killed while it started serves about a second later. One that does not has served nobody.
ADOPT_SECONDS_MAX: Final = 10.0
# From a kill to the end of a process.
END_SECONDS_MAX: Final = 10.0
LOOK_SECONDS: Final = 0.05


def hold_starting(data_dir: Path) -> int | None:
    """A descriptor to be given to a gateway; None on a disk that takes no file more: it has to start there too."""
    try:
        descriptor = os.open(data_dir / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return None
    return descriptor


def tell_started() -> None:
    """Called by a gateway that can be asked from now on."""
    number = os.environ.pop(STARTING, None)
    if number is not None:
        with contextlib.suppress(OSError):
            os.close(int(number))


async def socket_for_serve(
    host: str, port: int, data_dir: Path, journal_dir: Path, stop: asyncio.Event, seconds: float = ADOPT_SECONDS_MAX
) -> socket.socket:
    """The socket for `serve`: of a gateway that still starts, when it serves; one that does not in `seconds` is ended.

    Raises:
        CannotListen: another program has the address, or it is not to be had.
    """
    until = 0.0
    ended: list[int] = []
    while True:
        # In this order: one that serves by now can be asked.
        is_starting = is_one_starting(data_dir)
        try:
            return listening_socket(host, port, journal_dir, os.environ)
        except AddressTaken:
            if not (is_starting or ended) or stop.is_set():
                raise
            if not until:
                log.info("a gateway starts here, whose `serve` is gone; it is taken over when it serves")
                until = time.monotonic() + seconds
            elif time.monotonic() > until:
                if ended or not (ended := end_starting(data_dir)):
                    raise
                log.error("it does not serve after %g s, and is ended: process %d", seconds, ended[0])
                until += END_SECONDS_MAX
        await asyncio.sleep(LOOK_SECONDS)


def is_one_starting(data_dir: Path) -> bool:
    """Whether a gateway of this site starts; its `serve` has to be gone, or it would be that one's."""
    try:
        descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def end_starting(data_dir: Path) -> list[int]:
    """Kill what starts: nobody is served by it yet. Which processes that were, as far as the kernel tells."""
    ended: list[int] = []
    for pid in users_of(data_dir / LOCK_FILE):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            ended.append(pid)
    return ended
