"""What each long-running process has: a log, an event loop, signals, and a supervisor that watches it."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn

import uvloop

from tenantry.domain.printable import printable
from tenantry.domain.pulse import BEAT_SECONDS
from tenantry.json_lines import JsonLines
from tenantry.settings import Settings

# Python's own: what a process collects, which a command that is started does not (`start.py`).
COLLECT_OBJECTS = (700, 10, 10)
# Set for a process that `serve` has started.
SUPERVISED = "TENANTRY_SUPERVISED"
# The number of the descriptor into which a child beats.
HEARTBEAT = "TENANTRY_HEARTBEAT"
# What a gateway says beside its beats: it serves; another one has taken its place.
READY, REPLACED = b"R", b"G"
# A child tells with this signal where each of its threads is, even when none of them goes on.
TELL_STACKS = signal.SIGUSR1


class PortUnusable(Exception):
    """A process cannot listen where it is to."""


def require_port(name: str, host: str, port: int) -> None:
    """Tell before a process starts, in words, that it could not listen: another one does, or the system forbids it."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        reason = f"{name} cannot listen on {host}:{port}: {error.strerror}"
        raise PortUnusable(f"{reason}; stop what listens there, or set another address or port") from None


def log_to_standard_error(level: str, log_format: str = "text") -> None:
    """At `debug` what we say alone: libraries would bury it under their own requests and statements.

    `log_format`: text, a line for people; json, an object in each line.
    """
    handler = logging.StreamHandler(sys.stderr)
    plain = _Plain("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if log_format == "json" else plain)
    logging.basicConfig(level="INFO" if level == "DEBUG" else level, handlers=[handler])
    logging.getLogger("tenantry").setLevel(level)
    # Its migrations are announced by `init`; opening the store is not news.
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _leave_no_core() -> None:
    """A process that crashes leaves no picture of its memory, where decrypted keys are.

    A limit of 0 holds for files; a program that the kernel pipes a core into (core(5)) gets one without memory in it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # not on Linux
        Path("/proc/self/coredump_filter").write_text("0")


def run(settings: Settings, process: Coroutine[Any, Any, int], *, outlives: bool = False) -> int:
    """Run a process to its end; its exit code. `outlives`: it goes on when its supervisor is gone."""
    gc.set_threshold(*COLLECT_OBJECTS)
    _leave_no_core()
    log_to_standard_error(settings.log_level, settings.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.get_loop().call_soon(_follow_parent, runner.get_loop(), outlives)
        return runner.run(process)


class _Plain(logging.Formatter):
    """What clients and upstreams said does nothing to the terminal that shows the log."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), "\n\t")


def _follow_parent(loop: asyncio.AbstractEventLoop, outlives: bool) -> None:
    """A supervised process holds a pipe to its supervisor as stdin; when that ends, so does the process.

    One that outlives its supervisor serves on until somebody stops it or takes its place.
    """
    if os.environ.get(SUPERVISED) != "1":
        return

    def on_input() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            if outlives:
                logging.getLogger("tenantry").warning(
                    "`tenantry serve` is gone; this process serves on until the next `tenantry serve` takes its place"
                )
            else:
                os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(0, on_input)
    faulthandler.register(TELL_STACKS)
    descriptor = int(os.environ[HEARTBEAT])
    os.set_blocking(descriptor, False)
    # Not at once: what a process does before it serves may take its time.
    _beat_later(loop, descriptor)


def tell_supervisor(word: bytes) -> None:
    """Tell whoever has started this process, if that was `serve`: `READY` or `REPLACED`."""
    if os.environ.get(SUPERVISED) == "1":
        with contextlib.suppress(OSError):
            os.write(int(os.environ[HEARTBEAT]), word)


def _beat(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    """Only a loop that goes on calls this."""
    with contextlib.suppress(OSError):  # the supervisor does not look at this moment, or is gone
        os.write(descriptor, b".")
    _beat_later(loop, descriptor)


def _beat_later(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    """At whole seconds, when other work of an idle process is due too."""
    wait = BEAT_SECONDS - loop.time() % BEAT_SECONDS
    loop.call_later(wait if wait > BEAT_SECONDS / 2 else wait + BEAT_SECONDS, _beat, loop, descriptor)


def leave(code: int) -> NoReturn:
    """End the process while threads of it go on: Python would wait for each of them first."""
    logging.shutdown()
    os._exit(code)


def stop_on_signals() -> asyncio.Event:
    """Set by SIGTERM or SIGINT. The second one ends the process at once."""
    stop = asyncio.Event()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    return stop
