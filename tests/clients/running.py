"""Runs one operation of one client, and says what came of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.clients.catalog import DRIVERS, FOLDER, Client
from tests.clients.counter import Counter, Seen

# A client that starts in seconds and waits for one `retry-after` of 3 s is done in a tenth of it; on a busy machine,
# and with all of aider's pauses, in a half.
CELL_SECONDS_MAX = 180.0

# What keeps clients from asking anybody but the gateway.
_QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "AI_SDK_LOG_WARNINGS": "false",
    "NO_COLOR": "1",
    "TERM": "dumb",
}


@dataclass(frozen=True, slots=True)
class Run:
    """What one operation did. `code` is None where it had not ended in time."""

    code: int | None
    told: str
    seen: tuple[Seen, ...]
    seconds: float

    @property
    def words(self) -> str:
        """What it told, on one line: some break lines where their window would end."""
        return " ".join(self.told.split())

    @property
    def messages(self) -> int:
        return sum(one.is_message for one in self.seen)


def path_of_programs() -> str:
    """Where a newer Node was installed, it comes first."""
    return f"{FOLDER / 'node' / 'node_modules' / '.bin'}:{os.environ['PATH']}"


def run(client: Client, operation: str, counter: Counter, path: str, key: str, home: Path) -> Run:
    """Run `operation` against what stands behind `counter`, in an empty folder of its own."""
    work = home / "work"
    shutil.rmtree(home, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "sandbox").write_text("What the sandbox's call of a tool that reads finds.\n")
    if client.kind == "npm" and client.driver.endswith(".mjs"):
        shutil.copy(DRIVERS / client.driver, client.script)
    environ = {
        "PATH": path_of_programs(),
        "HOME": str(home),
        "CLIENT": str(client.folder),
        "BASE_URL": f"http://127.0.0.1:{counter.port}{path}",
        "GATEWAY_KEY": key,
        "MODEL": client.model,
        **_QUIET,
    }
    first, started = len(counter.seen), time.monotonic()
    with (home / "told").open("w+b") as told:
        process = subprocess.Popen(
            client.command(operation),
            env=environ,
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=told,
            start_new_session=True,
        )
        code = _wait(process)
        _end_rest(home)
        told.seek(0)
        text = told.read().decode(errors="replace")
    seen = tuple(one for one in counter.seen[first:] if one.path.startswith(path))
    return Run(code, text, seen, time.monotonic() - started)


def _end_rest(home: Path) -> None:
    """End what a client has started in a session of its own, and left: it is known by its home."""
    mark = f"HOME={home}".encode()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in environ.read_bytes().split(b"\0"):
                os.kill(int(environ.parent.name), signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code; whatever it started is ended with it."""
    try:
        return process.wait(CELL_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
