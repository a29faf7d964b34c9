"""How long nobody answers for a tenant whose gateway is killed: from kill -9 to the first answer at another one.

    python -m bench.takeover [--kills 30] [--lease 30] [--machines 2] [--together 10]

One gateway stays; others, each of which grants for a tenant of its own, are killed one after the other while a client
asks for that tenant at the one that stays, again and again. `--machines 2`: they have data directories of their own
and PostgreSQL between them, so that nobody can see that they are dead, and their leases have to run out. With one, on
SQLite, the lock on a journal says it. So many live `--together`; the moment of a kill within a lease is any.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import create_engine, make_url, text
from tests.postgresql import start as start_server

from bench.client import request_bytes
from bench.processes import Proxy, free_ports, kill, start_upstream, stop
from bench.site import Stored, make_store, start_gateway

PROMPT_BYTES = 900
ASK_SECONDS = 0.01
ANSWER_SECONDS_MAX = 120.0
_READ_BYTES = 65536


@dataclass
class Figures:
    """Seconds of each takeover."""

    found: list[float] = field(default_factory=list[float])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, seconds: float) -> None:
        with self.lock:
            self.found.append(seconds)

    def share_ms(self, share: float) -> float:
        ordered = sorted(self.found)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


def is_answered(port: int, key: str) -> bool:
    """One request, on a connection of its own."""
    try:
        with socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS_MAX) as one:
            one.sendall(request_bytes(key, PROMPT_BYTES, stream=False))
            return one.recv(_READ_BYTES).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def await_answer(port: int, key: str) -> float:
    """Seconds until it is answered. Raises: SystemExit: it is not, ever."""
    began = time.perf_counter()
    while not is_answered(port, key):
        if time.perf_counter() - began > ANSWER_SECONDS_MAX:
            raise SystemExit("nobody has taken over")
        time.sleep(ASK_SECONDS)
    return time.perf_counter() - began


def take_over(victim: Proxy, stays: Proxy, key: str, figures: Figures, delay: float) -> None:
    time.sleep(delay)
    kill(victim)
    figures.add(await_answer(stays.port, key))


def machine(stored: Stored, folder: Path, number: int) -> dict[str, str]:
    """A data directory with the site's master key and nothing else of it, and an address for other gateways."""
    data = folder / f"machine-{number}"
    data.mkdir(mode=0o700)
    shutil.copy2(Path(stored.environ["TENANTRY_DATA_DIR"]) / "master.key", data / "master.key")
    return {"TENANTRY_DATA_DIR": str(data), "TENANTRY_PEER_HOST": f"127.0.1.{number % 250 + 1}"}


def kill_some(stored: Stored, folder: Path, stays: Proxy, keys: list[str], figures: Figures, given: Given) -> None:
    """Start as many gateways as there are keys, have each grant for one, and kill them at any moment of a lease."""
    done = len(figures.found)

    victims: list[Proxy] = []
    ports = free_ports(len(keys))

    def begin(number: int, port: int) -> None:
        own = machine(stored, folder, done + number + 1) if given.machines > 1 else {}
        victims.append(start_gateway(stored, port=port, python=given.python, **given.environ, **own))
        await_answer(port, keys[number])

    try:
        with ThreadPoolExecutor(len(keys)) as pool:
            list(pool.map(begin, range(len(keys)), ports))
        victims.sort(key=lambda one: ports.index(one.port))
        kill_all(victims, stays, keys, figures, given)
    finally:
        for one in victims:
            kill(one)


def kill_all(victims: list[Proxy], stays: Proxy, keys: list[str], figures: Figures, given: Given) -> None:
    """Each at any moment of its lease; back when all have been replaced."""
    working = [
        threading.Thread(
            target=take_over,
            args=(victim, stays, key, figures, random.uniform(0, min(3.0, given.lease))),
        )
        for victim, key in zip(victims, keys, strict=True)
    ]
    for one in working:
        one.start()
    for one in working:
        one.join()


@dataclass(frozen=True)
class Given:
    """What was asked for."""

    kills: int
    lease: float
    machines: int
    together: int
    python: str
    environ: dict[str, str]


def measure(given: Given, store_url: str | None) -> Figures:
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as name:
        folder, upstream = Path(name), start_upstream()
        stored = make_store(folder, upstream.port, others=given.kills, store_url=store_url)
        own = machine(stored, folder, 0) if given.machines > 1 else {}
        stays = start_gateway(stored, python=given.python, **given.environ, **own)
        try:
            for first in range(0, given.kills, given.together):
                keys = stored.others[first : first + given.together]
                kill_some(stored, folder, stays, keys, figures, given)
                print(*(f"{one:.3f}" for one in figures.found[first:]), file=sys.stderr, flush=True)
        finally:
            stop(stays)
            stop(upstream)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--lease", type=float, default=30.0, help="seconds")
    parser.add_argument("--machines", type=int, choices=(1, 2), default=1)
    parser.add_argument("--together", type=int, default=10)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has Tenantry")
    words = parser.parse_args()
    environ = {"TENANTRY_CLUSTER": "true", "TENANTRY_LEASE_SECONDS": f"{words.lease:g}"}
    given = Given(words.kills, words.lease, words.machines, words.together, words.python, environ)
    if given.machines == 1:
        figures = measure(given, None)
    else:
        server = start_server()
        try:
            url = make_url(server.url)
            with create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT").connect() as one:
                one.execute(text(f"CREATE DATABASE takeover_{os.getpid()}"))
            figures = measure(given, url.set(database=f"takeover_{os.getpid()}").render_as_string())
        finally:
            server.stop()
    p50, p99 = figures.share_ms(0.5), figures.share_ms(0.99)
    print(
        f"{len(figures.found)} kills, {given.machines} machine(s), a lease of {given.lease:g} s: "
        f"p50 {p50:,.0f} ms, p99 {p99:,.0f} ms, least {min(figures.found) * 1000:,.0f} ms"
    )


if __name__ == "__main__":
    main()
