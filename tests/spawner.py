"""Starts Tenantry's processes without importing it each time: a process that has done so forks for each.

What starts is a process of its own, as `python -m tenantry` would be: its environment, folder, descriptors, signals and
exit are its own. It takes a tenth of the time. `TENANTRY_TESTS_COLD=1` starts every process the usual way.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import pkgutil
import random
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import tenantry
from tests.patience import PATIENCE_SECONDS, patience_seconds

# Linux has what this needs.
COLD = os.environ.get("TENANTRY_TESTS_COLD") == "1" or not hasattr(os, "pidfd_open")
ROOT = Path(__file__).parents[1]
_NUMBER_BYTES = 8
_REQUEST_BYTES_MAX = 1 << 20
# What is loaded beside all of ours. A command that has to load itself takes up to a second of CPU, else a sixth; what
# each loads where nothing is loaded yet, tests/unit/test_start.py says.
LIBRARIES = (
    *(
        "alembic.command",
        "apprise",
        "cryptography.hazmat.primitives.ciphers.aead",
        "jinja2",
        "markdown_it",
        "starlette.applications",
    ),
    *("pydantic", "rich.console", "rich.progress", "rich.table", "rich.traceback", "sqlalchemy.dialects.sqlite"),
    *("typer.rich_utils", "uvicorn", "yaml"),
)

Process = Any  # one of these, or of `subprocess.Popen`


class Spawned:
    """A process that runs; used as one of `subprocess.Popen`."""

    def __init__(self, words: Sequence[str], told: socket.socket) -> None:
        self.args = ["tenantry", *words]
        self._told = told
        self.pid = self._number(None)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self.returncode = self._number(timeout)
            self._told.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _number(self, timeout: float | None) -> int:
        if not select.select([self._told], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        told = self._told.recv(_NUMBER_BYTES)
        assert len(told) == _NUMBER_BYTES, f"the spawner has died: {self.args}"
        return int.from_bytes(told, "big", signed=True)


def spawn(
    *words: str,
    env: Mapping[str, str],
    cwd: Path,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    module: str = "tenantry",
    cold: bool = COLD,
) -> Process:
    """Start `tenantry`, or another module, with these words. `stdin` and the others are files, or None for nothing."""
    with contextlib.ExitStack() as opened:
        null = opened.enter_context(Path(os.devnull).open("r+b"))
        files = [one or null for one in (stdin, stdout, stderr)]
        if cold:
            command = [sys.executable, "-m", module, *words]
            return subprocess.Popen(command, env=env, cwd=cwd, stdin=files[0], stdout=files[1], stderr=files[2])
        told, teller = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with teller:
            request = json.dumps([module, words, dict(env), str(cwd)]).encode()
            with _starting:
                spawner = _spawner()
            socket.send_fds(spawner, [request], [teller.fileno(), *(one.fileno() for one in files)])
        return Spawned(words, told)


def run(
    *words: str,
    env: Mapping[str, str],
    cwd: Path,
    stdin: str = "",
    timeout: float = PATIENCE_SECONDS,
    cold: bool = COLD,
) -> subprocess.CompletedProcess[str]:
    """Run `tenantry` with these words to its end. `timeout`, in seconds, is longer on a busy machine."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        process = spawn(*words, env=env, cwd=cwd, stdin=given, stdout=out, stderr=err, cold=cold)
        try:
            code = process.wait(patience_seconds(timeout))
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        for one in (out, err):
            one.seek(0)
        return subprocess.CompletedProcess(process.args, code, out.read().decode(), err.read().decode())


@cache
def _spawner() -> socket.socket:
    """The socket of this test process's own spawner, which ends with it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for one in (ours, its):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST_BYTES_MAX)
    with its:
        command = [sys.executable, "-m", "tests.spawner", str(its.fileno())]
        # It lives as long as the tests; whoever collects it would be warned of a process that still runs.
        _started.append(subprocess.Popen(command, cwd=ROOT, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL))
    return ours


_starting = threading.Lock()
_started: list[subprocess.Popen[bytes]] = []


# In the spawner


def _serve(requests: socket.socket, chances: Sequence[random.Random]) -> tuple[str, list[str], str]:
    """Fork for each request. Returns in the fork only, with what it is to do.

    What drew its start from chance when it was imported (`chances`) draws anew: no two processes give the same names.
    """
    ready = selectors.DefaultSelector()
    ready.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.fileobj is not requests:
                ready.unregister(key.fileobj)
                os.close(key.fd)
                pid, teller = key.data
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                _tell(teller, code)
                os.close(teller)
                continue
            data, descriptors, _, _ = socket.recv_fds(requests, _REQUEST_BYTES_MAX, 4)
            if not data:
                os._exit(0)
            module, words, environ, folder = json.loads(data)
            pid = os.fork()
            if not pid:
                ready.close()  # now: collected later, it would close what has its number by then
                requests.close()
                _become(descriptors[1:], environ, folder)
                for one in chances:
                    one.seed()
                return module, words, folder
            _tell(descriptors[0], pid)
            for one in descriptors[1:]:
                os.close(one)
            ready.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, descriptors[0]))


def _tell(teller: int, number: int) -> None:
    with contextlib.suppress(OSError):  # who asked does not wait for it any more
        os.write(teller, number.to_bytes(_NUMBER_BYTES, "big", signed=True))


def _become(descriptors: Sequence[int], environ: dict[str, str], folder: str) -> None:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()


def _chances_of_ours() -> list[random.Random]:
    """Found once: a fork that looked through all modules would copy half of what is loaded."""
    ours = [module for name, module in sys.modules.items() if name.startswith("tenantry")]
    return [value for module in ours for value in vars(module).values() if isinstance(value, random.Random)]


def _modules_of_ours() -> Iterator[str]:
    """All but those that do something when they are imported."""
    for module in pkgutil.walk_packages(tenantry.__path__, "tenantry."):
        if not module.name.endswith(".__main__") and ".migrations" not in module.name:
            yield module.name


def _main() -> None:
    # A run of the tests in the background may have been started with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("tenantry.app", *LIBRARIES, *_modules_of_ours()):
        __import__(name)
    chances = _chances_of_ours()
    gc.collect()
    gc.freeze()  # what a fork's end would go through once more, and so copy
    module, sys.argv[1:], sys.path[0] = _serve(socket.socket(fileno=int(sys.argv[1])), chances)
    try:
        runpy.run_module(module, None, "__main__", alter_sys=True)
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        _exit(ended.code or 0)
    _exit(0)


def _exit(code: int) -> None:
    """What Python does at an exit, but for taking apart all that is loaded: of a fork that would be copied first.

    That takes half of what a short command does. Who could not write its last words comes to the usual end.
    """
    threads: Any = threading
    threads._shutdown()  # waits for those that are no daemons
    exits: Any = atexit
    exits._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        sys.exit(code)
    os._exit(code)


if __name__ == "__main__":
    _main()
