"""Whether somebody who looks at pages delays streams: `python -m bench.watched [ROWS]` (default 2,000,000).

Streams run through a gateway whose control process has a ledger of so many rows (1.1 GB of disk a million): alone,
while some people load its pages one after the other as fast as they come, and, to tell what a busy processor alone
does, beside a loop that does nothing but count. Each in turn, several times; medians are told. What the pages' queries
do to a stream is the difference between the last two.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

from bench.figures import make_tenants
from bench.ledger import fill
from bench.processes import Proxy, cpu_nanos, kill, start_upstream
from bench.site import Stored, make_store, start_control, start_gateway
from tenantry.control.site import open_site
from tenantry.domain.roles import Role
from tenantry.settings import load_settings
from tenantry.storage.directory.sign_ins import FULL

STREAMS = 50
ROUNDS = 5
WATCHERS = 2
PAGES = (
    "/parts/today",
    "/tenants",
    "/tenants/tenant-7?month=2026-11",
    "/requests?from=2026-11&to=2026-11",
    "/requests?outcome=orphaned",
)
# The processor is kept busy, and nothing else is.
LOOP = "while True: pass"


@dataclass
class Seen:
    """Of one run of streams: their delays, what the gateway spent on one, how many `pages` were answered beside."""

    chunk_p50_ms: float
    chunk_p99_ms: float
    first_p99_ms: float
    cpu_us: float
    pages: int


class Watchers:
    """People who load one page after the other. `answered` counts."""

    def __init__(self, port: int, secret: str) -> None:
        self._port = port
        self._secret = secret
        self._ends = threading.Event()
        self.answered = 0
        self.fault = ""

    def load(self, pages: tuple[str, ...] = PAGES, *, once: bool = False) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._ends.is_set():
            for page in pages:
                connection.request("GET", page, headers={"cookie": f"tenantry={self._secret}", "accept": "text/html"})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.fault = f"{page}: {answer.status}"
                    return
                self.answered += 1
            if once:
                return

    @contextmanager
    def beside(self) -> Generator[None]:
        self._ends.clear()
        threads = [threading.Thread(target=self.load) for _ in range(WATCHERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ends.set()
            for thread in threads:
                thread.join()


@contextmanager
def alone() -> Generator[None]:
    yield


@contextmanager
def busy() -> Generator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", LOOP])]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as name:
        upstream = start_upstream()
        stored = make_store(Path(name), upstream.port)
        secret = _filled(stored, count)
        gateway = start_gateway(stored)
        control = start_control(stored, gateway)
        try:
            _tell(count, _measured(gateway, Watchers(control.port, secret)))
        finally:
            for one in (control, gateway, upstream):
                kill(one)  # nothing of it is kept


def _filled(stored: Stored, count: int) -> str:
    """The secret of a session of an owner."""
    settings = load_settings(None, stored.environ)
    site = open_site(settings)
    fill(site.engine, Path(settings.store_url.removeprefix("sqlite:///")), count)
    make_tenants(site)
    person = site.directory.follow_link(site.directory.invite_person("ana", Role.OWNER), "none")
    secret = site.directory.begin_session(person, "password", FULL, "127.0.0.1", "bench")
    site.engine.dispose()
    return secret


def _measured(gateway: Proxy, watchers: Watchers) -> dict[str, list[Seen]]:
    watchers.load(once=True)  # the days of the month are remembered from now on
    beside: dict[str, Callable[[], Any]] = {
        "alone": alone,
        f"beside {WATCHERS} people who load pages": watchers.beside,
        "beside a loop that counts": busy,
    }
    _streams(gateway, watchers)
    found: dict[str, list[Seen]] = {what: [] for what in beside}
    for _ in range(ROUNDS):
        for what, context in beside.items():
            with context():
                found[what].append(_streams(gateway, watchers))
    if watchers.fault:
        raise SystemExit(watchers.fault)
    return found


def _streams(gateway: Proxy, watchers: Watchers) -> Seen:
    before, pages = cpu_nanos(gateway.process.pid), watchers.answered
    command = [sys.executable, "-m", "bench.load", str(gateway.port), gateway.key, str(STREAMS)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    if told["complete"] != STREAMS:
        raise SystemExit(f"{told['complete']} of {STREAMS} streams came whole")
    spent_us = (cpu_nanos(gateway.process.pid) - before) / 1000 / STREAMS
    return Seen(told["chunk_p50_ms"], told["chunk_p99_ms"], told["first_p99_ms"], spent_us, watchers.answered - pages)


def _tell(count: int, found: dict[str, list[Seen]]) -> None:
    print(f"{count:,} rows; {STREAMS} streams of 100 chunks at 20 ms; medians of {ROUNDS}\n")
    print("| | chunk p50 ms | p99 ms | first byte p99 ms | gateway's CPU us a stream | pages a run |")
    print("|---|---|---|---|---|---|")
    for what, runs in found.items():
        figures = [median(getattr(one, name) for one in runs) for name in ("chunk_p50_ms", "chunk_p99_ms")]
        first, cpu_us = median(one.first_p99_ms for one in runs), median(one.cpu_us for one in runs)
        pages = median(one.pages for one in runs)
        print(f"| {what} | {figures[0]:.2f} | {figures[1]:.2f} | {first:.1f} | {cpu_us:,.0f} | {pages:.0f} |")


if __name__ == "__main__":
    main()
