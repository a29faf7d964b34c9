"""Instructions of the gateway's process for a request: a figure that does not depend on what else the machine does.

`python -m bench.instructions [--gates] [--python PYTHON] [CASE...]`. User space only. Counted by the processor where it
lets us (`perf stat`), else by valgrind's callgrind. Each case is the difference between a long window and a short one
on one running gateway, so what start-up, warm-up and the windows' own edges cost cancels out. `--gates` fails when a
bound of `gates.toml` is passed. Clients and upstream are processes of their own, outside.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.client import Client, request_bytes
from bench.processes import Proxy, start_upstream, stop
from bench.site import Stored, make_store, start_gateway

GATES = Path(__file__).parent / "gates.toml"
# The long window and the short one, in requests. Ten runs of the small request are then within 2 %.
MANY, FEW = 360, 40
# So many clients ask at once, each when it has been answered: enough that turns of the loop are shared as under load.
CLIENTS = 8
# Streams last two seconds (bench.upstream), whatever they cost; so they are open together.
STREAMS_MANY, STREAMS_FEW = 40, 8
TENANTS = 10_000
SMALL_BYTES, LARGE_BYTES = 900, 200_000
WARM_UP = 64
# After the last answer the gateway still books, writes and syncs (20 ms); valgrind makes that some fifty times longer.
SETTLE_SECONDS = 0.3
IDLE_SECONDS = 3.0

VALGRIND = (
    "valgrind",
    "--tool=callgrind",
    "--instr-atstart=no",  # start-up runs six times faster when it is not counted
    "--smc-check=none",  # nothing here rewrites its own code
    "--vgdb-poll=50000",
)


class Valgrind:
    """Counts under callgrind. The gateway runs within."""

    name = "callgrind"

    def __init__(self, folder: Path) -> None:
        self._out = folder / "callgrind.out"
        self._dumps = 0
        self.before = (*VALGRIND, f"--callgrind-out-file={self._out}")

    def attach(self, gateway: Proxy) -> None:
        self._pid = gateway.process.pid

    def begin(self) -> None:
        self._tell("instrumentation", "on")
        self._tell("zero")

    def end(self) -> int:
        self._dumps += 1
        self._tell("dump")
        text = Path(f"{self._out}.{self._dumps}").read_text()
        return int(text.rpartition("totals: ")[2])

    def pause(self) -> None:
        """Run faster, uncounted."""
        self._tell("instrumentation", "off")

    def _tell(self, *words: str) -> None:
        subprocess.run(["vgdb", f"--pid={self._pid}", *words], check=True, capture_output=True)


class Perf:
    """Counts with the processor's own counter."""

    name = "perf"
    before = ()

    def __init__(self, folder: Path) -> None:
        self._out = folder / "perf.csv"

    def attach(self, gateway: Proxy) -> None:
        self._pid = gateway.process.pid

    def begin(self) -> None:
        command = ["perf", "stat", "-x,", "-e", "instructions:u", "-p", str(self._pid), "-o", str(self._out)]
        self._perf = subprocess.Popen(command)
        time.sleep(0.2)

    def end(self) -> int:
        self._perf.send_signal(signal.SIGINT)
        self._perf.wait(10)
        return next(int(line.split(",")[0]) for line in self._out.read_text().splitlines() if "instructions" in line)

    def pause(self) -> None:
        pass


def has_counters() -> bool:
    """Whether `perf` can count here: virtual machines and containers often have no counters."""
    if shutil.which("perf") is None:
        return False
    found = subprocess.run(["perf", "stat", "-x,", "-e", "instructions:u", "true"], capture_output=True, text=True)
    return found.returncode == 0 and found.stderr[:1].isdigit()


@dataclass
class Bench:
    """One gateway that is counted."""

    counter: Valgrind | Perf
    gateway: Proxy
    stored: Stored

    def requests(self, keys: Sequence[str], prompt_bytes: int) -> float:
        """Instructions a request; each of several clients keeps its connection and takes the next key."""
        bodies = [request_bytes(key, prompt_bytes) for key in dict.fromkeys(keys)]
        clients = [Client(self.gateway.port) for _ in range(CLIENTS)]
        if len(bodies) < WARM_UP:
            _ask(clients, bodies * (WARM_UP // len(bodies)))
            few = many = bodies
        else:  # each key is asked for once
            few, many = bodies[:FEW], bodies[FEW : FEW + MANY]
        counts = [
            self._count(clients, (few * FEW)[:FEW]),
            self._count(clients, (many * MANY)[:MANY]),
        ]
        for client in clients:
            client.close()
        return (counts[1] - counts[0]) / (MANY - FEW)

    def streams(self, key: str) -> float:
        """Instructions a stream of 100 chunks, each on a connection of its own."""
        body = request_bytes(key, SMALL_BYTES, stream=True)
        counts: list[int] = []
        for number in (STREAMS_MANY, STREAMS_FEW, STREAMS_MANY):  # the first one makes connections, and is not counted
            clients = [Client(self.gateway.port) for _ in range(number)]
            counts.append(self._count(clients, [body] * number))
            for client in clients:
                client.close()
        return (counts[2] - counts[1]) / (STREAMS_MANY - STREAMS_FEW)

    def idle(self) -> float:
        """Instructions a second of a gateway that nobody asks anything."""
        started = time.monotonic()
        self.counter.begin()
        time.sleep(IDLE_SECONDS)
        return self.counter.end() / (time.monotonic() - started)

    def _count(self, clients: list[Client], bodies: list[bytes]) -> int:
        self.counter.begin()
        _ask(clients, bodies)
        time.sleep(SETTLE_SECONDS)
        return self.counter.end()


def _ask(clients: list[Client], bodies: list[bytes]) -> None:
    """Ask for each body in turn, as many at once as there are clients."""
    for first in range(0, len(bodies), len(clients)):
        asked = list(zip(clients, bodies[first : first + len(clients)], strict=False))
        for client, body in asked:
            client.ask(body)
        for client, _ in asked:
            client.await_answer()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    command += f" -addext subjectAltName=DNS:localhost -keyout {key} -out {cert}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return cert, key


def count_few_tenants(folder: Path, python: str, cases: set[str]) -> dict[str, float]:
    """The cases on a store with a handful of tenants."""
    plain = start_upstream()
    certificate = make_certificate(folder)
    secure = start_upstream(*map(str, certificate))
    stored = make_store(folder, plain.port, fresh=FEW + MANY, limited=True, tls=(secure.port, certificate[0]))
    found: dict[str, float] = {}
    bench = _open(folder, python, stored)
    try:
        runs = {
            "small": lambda: bench.requests([stored.key], SMALL_BYTES),
            "stream": lambda: bench.streams(stored.key),
            "large": lambda: bench.requests([stored.key], LARGE_BYTES),
            "first_time": lambda: bench.requests(stored.fresh, SMALL_BYTES),
            "limited": lambda: bench.requests([stored.limited], SMALL_BYTES),
            "tls": lambda: bench.requests([stored.tls], SMALL_BYTES),
            "idle_second": bench.idle,
        }
        for case in runs:
            if case in cases:
                found[case] = runs[case]()
    finally:
        for proxy in (bench.gateway, plain, secure):
            stop(proxy)
    return found


def count_many_tenants(folder: Path, python: str, cases: set[str]) -> dict[str, float]:
    """The cases on a store with 10,000 tenants, each of which has been served."""
    plain = start_upstream()
    stored = make_store(folder, plain.port, others=TENANTS)
    found: dict[str, float] = {}
    bench = _open(folder, python, stored)
    try:
        clients = [Client(bench.gateway.port) for _ in range(CLIENTS)]
        _ask(clients, [request_bytes(key, SMALL_BYTES) for key in stored.others])
        # The last ones have connections upstream still.
        last = stored.others[-FEW - MANY :]
        if "in_turn" in cases:
            found["in_turn"] = bench.requests(last, SMALL_BYTES)
        if "idle_second_of_many" in cases:
            found["idle_second_of_many"] = bench.idle()
        for client in clients:
            client.close()
    finally:
        for proxy in (bench.gateway, plain):
            stop(proxy)
    return found


def _open(folder: Path, python: str, stored: Stored) -> Bench:
    inner = Path(tempfile.mkdtemp(dir=folder))
    counter = Perf(inner) if has_counters() else Valgrind(inner)
    gateway = start_gateway(stored, *counter.before, python=python)
    counter.attach(gateway)
    return Bench(counter, gateway, stored)


TITLES = {
    "small": "small request, 1 KB in and out",
    "stream": "stream of 100 chunks",
    "large": "200 KB prompt",
    "first_time": "key seen for the first time",
    "limited": "limits of all kinds on",
    "tls": "TLS to upstream",
    "idle_second": "a second without a request",
    "in_turn": "10,000 tenants in turn",
    "idle_second_of_many": "a second without a request, 10,000 tenants in use",
}
OF_MANY = {"in_turn", "idle_second_of_many"}


def form_of(python: str) -> str:
    """Whether the gateway that this Python runs is compiled."""
    code = "import tenantry.domain.prices as one; print('interpreted' if one.__file__.endswith('.py') else 'compiled')"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions")
    parser.add_argument("cases", nargs="*", help=", ".join(TITLES))
    parser.add_argument("--gates", action="store_true", help="fail when a bound of gates.toml is passed")
    parser.add_argument("--python", default=sys.executable, help="the Python whose Tenantry is counted")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    cases = set(given.cases or TITLES)
    if cases - set(TITLES):
        parser.error(f"there is no case {', '.join(cases - set(TITLES))}; there are: {', '.join(TITLES)}")
    form = form_of(given.python)
    bounds: dict[str, int] = tomllib.loads(GATES.read_text())[form]
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        if cases - OF_MANY:
            found |= count_few_tenants(Path(name), given.python, cases)
        if cases & OF_MANY:
            found |= count_many_tenants(Path(name), given.python, cases)
    if given.json:
        print(json.dumps(found))
        return
    print(f"instructions in user space, {form}\n\n| | counted | bound | |\n|---|---|---|---|")
    passed = [case for case in found if found[case] > bounds[case]]
    for case, count in found.items():
        print(f"| {TITLES[case]} | {count:,.0f} | {bounds[case]:,} | {'PASSED' if case in passed else ''} |")
    if given.gates and passed:
        raise SystemExit(f"a bound of {GATES.name} is passed: {', '.join(TITLES[case] for case in passed)}")


if __name__ == "__main__":
    main()
