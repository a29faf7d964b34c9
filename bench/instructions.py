"""Instructions of the gateway's process for a request: a figure that does not depend on what else the machine does.

`python -m bench.instructions [--gates] [--requests 160] [--python PYTHON] [CASE...]`. User space only
(`bench.counters`). Each case is the difference between a long window and a short one on one running gateway, so what
start-up, warm-up and their own edges cost cancels out. What comes to the gateway comes in step (`bench.lockstep`),
and each window ends with a second of what is done by the clock (`bench.held`): a figure differs by less than one in a
hundred between runs. `--gates` fails when a bound of `gates.toml` is passed, twice.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.client import request_bytes
from bench.counters import Perf, Valgrind, new_counter
from bench.held import HOLD, SECOND
from bench.lockstep import Lockstep, Upstream
from bench.processes import Proxy, cpu_nanos, is_running, kill, raise_descriptor_limit
from bench.site import Stored, make_store, start_gateway

GATES = Path(__file__).parent / "gates.toml"
# So many clients ask at once, each when it has been answered: enough that turns of the loop are shared as under load.
CLIENTS = 8
# The long window and the short one, in requests.
MANY, FEW = 20 * CLIENTS, 4 * CLIENTS
# In rounds of one stream for each client.
STREAMS_MANY, STREAMS_FEW = 3, 1
TENANTS = 10_000
SMALL_BYTES, LARGE_BYTES = 900, 200_000
WARM_UP = 8 * CLIENTS
# Ten thousand tenants are served once before it is counted; so many at once.
WARM_UP_CLIENTS = 64
# A gateway that has used no processor for so long has done what it had to do.
QUIET_SECONDS = 0.1
# Chores sleep for a second at most: after that they are held.
HOLD_SECONDS = 1.3
# What the requests before have left to be done by the clock is done within so many seconds of it.
SETTLE_SECONDS = 4
# A quiet gateway tells so every three seconds.
IDLE_SECONDS = 3


@dataclass
class Bench:
    """One gateway that is counted. `many`: requests of the long window."""

    counter: Valgrind | Perf
    gateway: Proxy
    stored: Stored
    many: int

    def hold(self) -> None:
        """From now on the clock stands."""
        os.kill(self.gateway.process.pid, HOLD)
        time.sleep(HOLD_SECONDS)
        self.let_pass(SETTLE_SECONDS)

    def requests(self, upstream: Upstream, keys: Sequence[str], prompt_bytes: int) -> float:
        """Instructions a request; each of several clients keeps its connection and takes the next key."""
        bodies = [request_bytes(key, prompt_bytes) for key in keys]
        if len(bodies) == 1:
            bodies *= WARM_UP + FEW + self.many
        step = self._in_step(upstream)
        step.ask(bodies[:WARM_UP])
        self.let_pass(1)
        few = self._count(lambda: step.ask(bodies[WARM_UP:][:FEW]))
        many = self._count(lambda: step.ask(bodies[WARM_UP + FEW :][: self.many]))
        step.close()
        return (many - few) / (self.many - FEW)

    def streams(self, upstream: Upstream, key: str) -> float:
        """Instructions a stream of 100 chunks."""
        step = self._in_step(upstream)
        bodies = [request_bytes(key, SMALL_BYTES, stream=True)] * CLIENTS

        def rounds(number: int) -> None:
            for _ in range(number):
                step.stream(bodies)

        rounds(1)
        few, many = self._count(lambda: rounds(STREAMS_FEW)), self._count(lambda: rounds(STREAMS_MANY))
        step.close()
        return (many - few) / (STREAMS_MANY - STREAMS_FEW) / CLIENTS

    def idle(self) -> float:
        """Instructions a second of a gateway that nobody asks anything."""
        return self._count(lambda: self.let_pass(IDLE_SECONDS - 1)) / IDLE_SECONDS

    def serve_once(self, upstream: Upstream, keys: Sequence[str]) -> None:
        """A request of each key, uncounted."""
        step = Lockstep(self.gateway, upstream, WARM_UP_CLIENTS)
        step.ask([request_bytes(key, SMALL_BYTES) for key in keys])
        step.close()

    def let_pass(self, seconds: int) -> None:
        """Let the clock go on, once all else is done, and what is done by it."""
        self.quiet()
        for _ in range(seconds):
            os.kill(self.gateway.process.pid, SECOND)
            self.quiet()

    def quiet(self) -> None:
        """Wait until the gateway does nothing any more."""
        pid, before = self.gateway.process.pid, -1
        while before != (before := cpu_nanos(pid)) or is_running(pid):
            time.sleep(QUIET_SECONDS)

    def _in_step(self, upstream: Upstream) -> Lockstep:
        return Lockstep(self.gateway, upstream, CLIENTS)

    def _count(self, asked: Callable[[], None]) -> int:
        """Instructions of this, and of a second of what is done by the clock."""
        self.quiet()
        self.counter.begin()
        asked()
        self.let_pass(1)
        return self.counter.end()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    command += f" -addext subjectAltName=DNS:localhost -keyout {key} -out {cert}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return cert, key


def count_few_tenants(folder: Path, python: str, cases: set[str], most: int) -> dict[str, float]:
    """The cases on a store with a handful of tenants."""
    certificate = make_certificate(folder)
    plain, secure = Upstream(), Upstream(certificate)
    stored = make_store(folder, plain.port, fresh=WARM_UP + FEW + most, limited=True, tls=(secure.port, certificate[0]))
    bench = _open(folder, python, stored, most)
    runs = {
        "small": lambda: bench.requests(plain, [stored.key], SMALL_BYTES),
        "stream": lambda: bench.streams(plain, stored.key),
        "large": lambda: bench.requests(plain, [stored.key], LARGE_BYTES),
        "first_time": lambda: bench.requests(plain, stored.fresh, SMALL_BYTES),
        "limited": lambda: bench.requests(plain, [stored.limited], SMALL_BYTES),
        "tls": lambda: bench.requests(secure, [stored.tls], SMALL_BYTES),
        "idle_second": bench.idle,
    }
    found: dict[str, float] = {}
    try:
        bench.serve_once(plain, [stored.key])
        bench.hold()
        for case in (case for case in runs if case in cases):
            found[case] = runs[case]()
    finally:
        kill(bench.gateway)  # whose chores are held, and its end with them
        plain.close()
        secure.close()
    return found


def count_many_tenants(folder: Path, python: str, cases: set[str], most: int) -> dict[str, float]:
    """The cases on a store with 10,000 tenants, each of which has been served."""
    plain = Upstream()
    stored = make_store(folder, plain.port, others=TENANTS)
    bench = _open(folder, python, stored, most)
    found: dict[str, float] = {}
    try:
        bench.serve_once(plain, stored.others)
        bench.hold()
        # The last ones have connections upstream still.
        last = stored.others[-WARM_UP - FEW - most :]
        runs = {"in_turn": lambda: bench.requests(plain, last, SMALL_BYTES), "idle_second_of_many": bench.idle}
        for case in (case for case in runs if case in cases):
            found[case] = runs[case]()
    finally:
        kill(bench.gateway)
        plain.close()
    return found


def _open(folder: Path, python: str, stored: Stored, most: int) -> Bench:
    inner = Path(tempfile.mkdtemp(dir=folder))
    counter = new_counter(inner)
    # Hashes are the same in each run; so is what is ordered by them.
    gateway = start_gateway(stored, *counter.before, python=python, module="bench.held", PYTHONHASHSEED="0")
    counter.attach(gateway)
    return Bench(counter, gateway, stored, most)


TITLES = {
    "small": "small request, 1 KB in and out",
    "stream": "stream of 100 chunks",
    "large": "200 KB prompt",
    "first_time": "key seen for the first time",
    "limited": "limits of all kinds on",
    "tls": "TLS to upstream",
    "in_turn": "10,000 tenants in turn",
    "idle_second": "a second without a request",
    "idle_second_of_many": "a second without a request, 10,000 tenants in use",
}
OF_MANY = {"in_turn", "idle_second_of_many"}


def form_of(python: str) -> str:
    """Whether the gateway that this Python runs is compiled."""
    code = "import tenantry.domain.prices as one; print('interpreted' if one.__file__.endswith('.py') else 'compiled')"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def has_byte_work(python: str) -> bool:
    """Whether the byte work that the gateway of this Python runs is C."""
    code = "from tenantry.wire.bytework import IS_COMPILED; print(IS_COMPILED)"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "True"


def count(folder: Path, python: str, cases: set[str], most: int) -> dict[str, float]:
    """What each of these cases takes. The two stores are counted at the same time, for machines with two cores."""
    parts = [(count_few_tenants, cases - OF_MANY), (count_many_tenants, cases & OF_MANY)]
    with ProcessPoolExecutor(2) as beside:
        asked = [beside.submit(part, folder, python, of_it, most) for part, of_it in parts if of_it]
        found = {case: figure for one in asked for case, figure in one.result().items()}
    return {case: found[case] for case in TITLES if case in found}


def _counted(python: str, cases: set[str], most: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        return count(Path(name), python, cases, most)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions")
    parser.add_argument("cases", nargs="*", help=", ".join(TITLES))
    parser.add_argument("--gates", action="store_true", help="fail when a bound of gates.toml is passed")
    parser.add_argument("--requests", type=int, default=MANY, help="how long a window is")
    parser.add_argument("--python", default=sys.executable, help="the Python whose Tenantry is counted")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    cases = set(given.cases or TITLES)
    if cases - set(TITLES):
        parser.error(f"there is no case {', '.join(cases - set(TITLES))}; there are: {', '.join(TITLES)}")
    raise_descriptor_limit()
    form = form_of(given.python)
    if form == "interpreted" and not has_byte_work(given.python):
        form = "interpreted, nothing in C"
    bounds: dict[str, int] = tomllib.loads(GATES.read_text())[form]
    found = _counted(given.python, cases, given.requests)
    above = {case for case in found if given.gates and found[case] > bounds[case]}
    if above:  # what a busy machine adds (a turn more of the clock, a collection) is not there twice
        print(f"counted once more: {', '.join(TITLES[case] for case in sorted(above))}\n")
        found |= {
            case: min(found[case], figure) for case, figure in _counted(given.python, above, given.requests).items()
        }
    if given.json:
        print(json.dumps(found))
        return
    print(f"instructions in user space, {form}\n\n| | counted | bound | |\n|---|---|---|---|")
    passed = [case for case in found if found[case] > bounds[case]]
    for case, figure in found.items():
        print(f"| {TITLES[case]} | {figure:,.0f} | {bounds[case]:,} | {'PASSED' if case in passed else ''} |")
    if given.gates and passed:
        raise SystemExit(f"a bound of {GATES.name} is passed: {', '.join(TITLES[case] for case in passed)}")


if __name__ == "__main__":
    main()
