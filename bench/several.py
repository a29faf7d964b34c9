"""One, two and three gateways on one machine beside as many workers of nginx: requests a second, and CPU time.

`python -m bench.several [--python PYTHON] [--seconds 5] [--rounds 3] [--most 3]`. All take turns in one run, on the
same cores, which what asks and what answers share; read the ratios. "Hashed": each tenant's requests come to the
gateway that grants for it, as behind a balancer that goes by the tenant. "Sprayed": all share one port, and a request
comes to any of them, so that of two one half is passed on, and of three two thirds.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import measures
from bench.processes import Proxy, await_port, cpu_nanos, free_port, start_upstream, stop
from bench.site import Stored, make_store, start_gateway
from bench.systems import start_nginx
from tenantry.gateway.listening import BACKLOG, LISTENER, SEAT, SEATS

# Divided evenly among one, two and three gateways.
TENANTS = 6
CONNECTIONS = 48
PROMPT_BYTES = 900
WARM_UP_SECONDS = 2.0


@dataclass
class Fleet:
    """Processes that share the work. `asked`: a port, and the script of what is asked there; each has as many
    connections."""

    name: str
    proxies: list[Proxy]
    asked: list[tuple[int, Path]]

    def pids(self) -> list[int]:
        """With nginx's workers, which are children of its process."""
        own = [one.process.pid for one in self.proxies]
        children = subprocess.run(["pgrep", "-P", ",".join(map(str, own))], capture_output=True, text=True).stdout
        return [*own, *map(int, children.split())]

    def ask(self, seconds: float) -> int:
        """So many requests were answered in so many seconds. Raises: SystemExit: some were not."""
        words = [*("wrk", "-t1", f"-c{CONNECTIONS // len(self.asked)}", f"-d{seconds:g}s")]
        running = [
            subprocess.Popen(
                [*words, "-s", str(script), f"http://127.0.0.1:{port}/v1/messages"],
                env=os.environ | {"KEY": "x"},
                stdout=subprocess.PIPE,
                text=True,
            )
            for port, script in self.asked
        ]
        outs = [one.communicate()[0] for one in running]
        if any("Non-2xx" in out or "Socket errors" in out for out in outs):
            raise SystemExit(f"{self.name}: {outs}")
        return sum(int(re.search(r"(\d+) requests in", out)[1]) for out in outs)  # type: ignore[index]

    def measure(self, seconds: float) -> tuple[float, float]:
        """Requests a second, and microseconds of CPU for each."""
        pids = self.pids()
        before, began = sum(map(cpu_nanos, pids)), time.perf_counter()
        count = self.ask(seconds)
        elapsed = time.perf_counter() - began
        return count / elapsed, (sum(map(cpu_nanos, pids)) - before) / count / 1000


def script(folder: Path, keys: Sequence[str], name: str) -> Path:
    path = folder / f"{name}.keys"
    path.write_text("\n".join(keys) + "\n")
    return measures.lua(folder, PROMPT_BYTES, path)


def hashed(folder: Path, stored: Stored, count: int, python: str) -> Fleet:
    gateways = [start_gateway(stored, python=python, TENANTRY_CLUSTER="true") for _ in range(count)]
    asked = [
        (one.port, script(folder, stored.others[number::count], f"hashed-{count}-{number}"))
        for number, one in enumerate(gateways)
    ]
    return Fleet(f"Tenantry, hashed, {count}", gateways, asked)


def sprayed(folder: Path, stored: Stored, count: int, python: str) -> Fleet:
    with socket.create_server(("127.0.0.1", free_port()), backlog=BACKLOG) as listener:
        port, number = listener.getsockname()[1], listener.fileno()
        common = os.environ | stored.environ | {"TENANTRY_GATEWAY_PORT": str(port), "TENANTRY_CLUSTER": "true"}
        gateways: list[Proxy] = []
        for seat in range(count):
            own = {LISTENER: str(number), SEAT: str(seat), SEATS: str(count)}
            command = [python, "-m", "tenantry", "gateway"]
            nothing = subprocess.DEVNULL
            process = subprocess.Popen(command, env=common | own, pass_fds=[number], stdout=nothing, stderr=nothing)
            gateways.append(Proxy("Tenantry", port, process))
        await_port(port, gateways[0].process)
    return Fleet(f"Tenantry, sprayed, {count}", gateways, [(port, script(folder, stored.others, f"sprayed-{count}"))])


def nginx(folder: Path, upstream: int, count: int, keys: Sequence[str]) -> Fleet:
    proxy = start_nginx(folder, upstream, None, workers=count).proxy
    return Fleet(f"nginx, {count}", [proxy], [(proxy.port, script(folder, keys, f"nginx-{count}"))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has Tenantry")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as name, ExitStack() as running:
        folder, upstream = Path(name), start_upstream()
        running.callback(stop, upstream)
        fleets: list[Fleet] = []
        for count in range(1, given.most + 1):
            of_count = [nginx(folder, upstream.port, count, ["x"])]
            for make in (hashed, sprayed) if count > 1 else (hashed,):
                stored = make_store(folder, upstream.port, others=TENANTS)
                of_count.append(make(folder, stored, count, given.python))
            fleets += of_count
            for one in of_count:
                for proxy in one.proxies:
                    running.callback(stop, proxy)
        for fleet in fleets:
            fleet.ask(WARM_UP_SECONDS)
        rounds = [[fleet.measure(given.seconds) for fleet in fleets] for _ in range(given.rounds)]
    report(fleets, rounds)


def report(fleets: Sequence[Fleet], rounds: Sequence[Sequence[tuple[float, float]]]) -> None:
    found = {
        fleet.name: [median(one[at][part] for one in rounds) for part in (0, 1)] for at, fleet in enumerate(fleets)
    }
    one_nginx, one_gateway = found["nginx, 1"][0], found["Tenantry, hashed, 1"][0]
    print(f"{CONNECTIONS} connections, {TENANTS} tenants in turn, medians of {len(rounds)}\n")
    print("| | requests a second | CPU us a request | x one of its kind | x nginx, 1 |\n|---|---|---|---|---|")
    for name, (rate, cpu) in found.items():
        own = one_nginx if name.startswith("nginx") else one_gateway
        print(f"| {name} | {rate:,.0f} | {cpu:.0f} | {rate / own:.2f} | {rate / one_nginx:.2f} |")


if __name__ == "__main__":
    main()
