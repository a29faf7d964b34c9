"""Calls of the stock SDK, without its retries, while gateways are replaced and killed under `tenantry serve`.

    python -m bench.restarts [--calls 1000] [--restarts 20] [--kills 20]

A call fails that raises. Of those during kills, the ones that were in flight at a kill are counted apart: nobody could
have answered them. Half of the calls are streams. Exit code 1 when a call failed that should not have.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anthropic

from bench.processes import free_port
from tenantry.control.init import init_site
from tenantry.control.restarting import ask_restart
from tenantry.control.site import ensure_sandbox_credential, open_site
from tenantry.kernel import state_of
from tenantry.settings import Settings, load_settings

WORKERS = 8
# Some 60 ms a stream: so that each restart and each kill meets some in the middle.
SCENARIO = {"x-sandbox-scenario": "chunks=6;chunk-ms=10"}
START_SECONDS_MAX = 60.0


@dataclass
class Call:
    """Times are seconds of the machine's clock. `error` is "" when it went well."""

    began_at: float
    ended_at: float
    error: str


@dataclass
class Callers:
    """Threads that call until they are stopped."""

    url: str
    key: str
    calls: list[Call] = field(default_factory=list[Call])
    stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> list[threading.Thread]:
        threads = [threading.Thread(target=self._work, args=(number,)) for number in range(WORKERS)]
        for thread in threads:
            thread.start()
        return threads

    def _work(self, number: int) -> None:
        client = anthropic.Anthropic(base_url=self.url, api_key=self.key, max_retries=0, timeout=120)
        for turn in itertools.count(number):
            if self.stop.is_set():
                return
            began_at, error = time.monotonic(), ""
            try:
                _call(client, is_stream=turn % 2 == 0)
            except Exception as failed:  # noqa: BLE001 -- the SDK lets those of its transport through, too
                error = f"{type(failed).__name__}: {failed}"
            self.calls.append(Call(began_at, time.monotonic(), error))


def _call(client: anthropic.Anthropic, *, is_stream: bool) -> None:
    if is_stream:
        with client.messages.stream(
            model="claude-haiku-5-5",
            max_tokens=64,
            messages=[{"role": "user", "content": "hi"}],
            extra_headers=SCENARIO,
        ) as stream:
            stream.get_final_message()
    else:
        client.messages.create(
            model="claude-haiku-5-5",
            max_tokens=64,
            messages=[{"role": "user", "content": "hi"}],
            extra_headers=SCENARIO,
        )


def _make_site(folder: Path) -> tuple[Settings, dict[str, str], str]:
    ports = {f"TENANTRY_{name}_PORT": str(free_port()) for name in ("GATEWAY", "CONTROL", "SANDBOX")}
    environ = {"TENANTRY_DATA_DIR": str(folder / "data"), **ports}
    settings = load_settings(None, environ)
    init_site(settings)
    site = open_site(settings)
    ensure_sandbox_credential(site, f"http://127.0.0.1:{settings.sandbox_port}", "sandbox-credential")
    site.directory.set_tier("ample", {"sessions_max": 1000, "requests_per_minute": None})
    site.directory.create_tenant("acme", "acme", "ample")
    site.directory.bind_credential("acme", "sandbox")
    site.directory.set_budgets("acme", {"month": 10**15})
    key = site.directory.issue_key("acme", "bench").text
    site.engine.dispose()
    return settings, environ, key


def _gateway_pid(settings: Settings) -> int:
    newest = max(path.parent.name for path in settings.journal_dir.glob("*/lock"))
    return int(newest.rpartition("-")[2])


def _kill_gateway(settings: Settings) -> None:
    """Returns when the kernel has taken it down, and closed its sockets with it."""
    pid = _gateway_pid(settings)
    os.kill(pid, signal.SIGKILL)
    while state_of(pid) not in ("", "Z"):
        time.sleep(0.001)


def _during(callers: Callers, times: int, calls: int, act: Callable[[], None]) -> list[tuple[float, float]]:
    """Act so many times, evenly over so many calls; from when until when each time."""
    moments: list[tuple[float, float]] = []
    first = len(callers.calls)
    for turn in range(times):
        while len(callers.calls) < first + turn * calls // times:
            time.sleep(0.005)
        began_at = time.monotonic()
        act()
        moments.append((began_at, time.monotonic()))
    while len(callers.calls) < first + calls:
        time.sleep(0.005)
    return moments


def _tell(what: str, calls: list[Call], moments: list[tuple[float, float]], *, are_kills: bool) -> int:
    failed = [call for call in calls if call.error]
    met = [call for call in failed if any(call.began_at <= last and first <= call.ended_at for first, last in moments)]
    excused = met if are_kills else []
    seconds = sorted(call.ended_at - call.began_at for call in calls)
    print(f"{what}: {len(moments)} in {len(calls)} calls: {len(failed) - len(excused)} failed", end="")
    print(f", {len(excused)} in flight at a kill" if are_kills else "", end="")
    print(f"; median {seconds[len(seconds) // 2] * 1000:.0f} ms, longest {seconds[-1] * 1000:.0f} ms")
    for call in failed:
        if call not in excused:
            print(f"  {call.error}")
    return len(failed) - len(excused)


def measure(folder: Path, calls: int, restarts: int, kills: int) -> int:
    """Calls that failed and should not have."""
    settings, environ, key = _make_site(folder)
    with (folder / "serve.log").open("wb") as log:
        serve = subprocess.Popen(
            [sys.executable, "-m", "tenantry", "serve"], env=os.environ | environ, stdout=log, stderr=log, cwd=folder
        )
    try:
        until = time.monotonic() + START_SECONDS_MAX
        while "serving on" not in (folder / "serve.log").read_text():
            assert serve.poll() is None and time.monotonic() < until, (folder / "serve.log").read_text()  # noqa: PT018
            time.sleep(0.05)
        callers = Callers(settings.public_url, key)
        threads = callers.start()
        moments = _during(callers, restarts, calls, lambda: ask_restart(settings.data_dir))
        found, between = list(callers.calls), len(callers.calls)
        wrong = _tell("restarts", found, moments, are_kills=False)
        moments = _during(callers, kills, calls, lambda: _kill_gateway(settings))
        callers.stop.set()
        for thread in threads:
            thread.join()
        return wrong + _tell("kill -9", callers.calls[between:], moments, are_kills=True)
    finally:
        serve.terminate()
        serve.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in (("calls", 1000), ("restarts", 20), ("kills", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return 1 if measure(Path(folder), asked.calls, asked.restarts, asked.kills) else 0


if __name__ == "__main__":
    sys.exit(main())
