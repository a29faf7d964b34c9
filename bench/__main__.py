"""One run, one machine: CPU, latency and memory of nginx, aiohttp and the whole of Tenantry side by side.

`python -m bench [--quick] [--python PYTHON]...`: each PYTHON is one that has Tenantry installed, in another form.
Figures are medians of rounds in which all systems take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench import measures
from bench.instructions import form_of
from bench.measures import CONNECTIONS, HELD_STREAMS, STREAMS, Figures, medians
from bench.processes import cpu_seconds, raise_descriptor_limit, start_upstream, stop
from bench.systems import ITS_CORE, OTHER_CORE, System, start_aiohttp, start_nginx, start_tenantry

RATE = 50  # a second
TENANTS_RATE = 200
TENANTS = (1, 100, 10_000)
# What is built beside, by `make compiled`.
COMPILED = Path(".venv-compiled/bin/python")


@dataclass
class Bench:
    """One run: where it writes, whom all ask, how long it takes."""

    folder: Path
    upstream: System
    seconds: float
    rounds: int
    forms: dict[str, str]  # the Python of each form, by the form's name

    @property
    def up(self) -> int:
        return self.upstream.proxy.port

    def name(self, form: str) -> str:
        return f"Tenantry, {form}"

    def compare(self, systems: Sequence[System], measure: Callable[[System], Figures]) -> dict[str, Figures]:
        """Medians of each system; they take turns."""
        found: dict[str, list[Figures]] = {system.name: [] for system in systems}
        for _ in range(self.rounds):
            for system in systems:
                with system.awake():
                    found[system.name].append(measure(system))
        return {name: medians(rounds) for name, rounds in found.items()}


def report_requests(bench: Bench, rivals: list[System], alone: list[System], whole: list[System]) -> None:
    title = f"1 KB in, 1 KB out, {CONNECTIONS} connections"
    script = measures.lua(bench.folder, 900)
    found = bench.compare([*rivals, *alone, *whole], lambda system: measures.wrk(system, script, bench.seconds))
    print_cpu(title, found, {"p50_ms": "p50 ms", "p99_ms": "p99 ms"})
    script = measures.lua(bench.folder, 200_000)
    found = bench.compare([*rivals, *alone], lambda system: measures.wrk(system, script, bench.seconds))
    print_cpu(f"200 KB in, 1 KB out, {CONNECTIONS} connections", found, {"p50_ms": "p50 ms", "p99_ms": "p99 ms"})


CHUNKS = {"first_p50_ms": "first byte p50 ms", "first_p99_ms": "p99 ms", "chunk_p50_ms": "chunk p50 ms"}
CHUNKS |= {"chunk_p99_ms": "p99 ms "}


def report_streams(bench: Bench, rivals: list[System], alone: list[System], whole: list[System]) -> None:
    found = bench.compare([bench.upstream, *rivals, *alone, *whole], measures.streams)
    print_cpu(f"stream, 100 chunks at 20 ms, {STREAMS} at once", found, CHUNKS)


def report_busy_core(bench: Bench) -> None:
    """The same on a machine that has something else to do: nothing is pinned but a loop that never rests."""
    with ExitStack() as running, busy_core():
        systems = [start_nginx(bench.folder, bench.up, None), start_aiohttp(bench.up, None)]
        for form, python in bench.forms.items():
            systems.append(
                start_tenantry(bench.folder, bench.up, bench.name(form), python=python, has_control=True, core=None)
            )
        for system in systems:
            running.callback(system.stop)
        found = bench.compare(systems, lambda system: measures.streams(system, None))
    print_cpu("the same, nothing pinned, and one core busy with something else", found, CHUNKS)


@contextmanager
def busy_core() -> Iterator[None]:
    command = [*measures.pin(OTHER_CORE), sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(command) as loop:
        try:
            yield
        finally:
            loop.kill()


def report_latency(bench: Bench, rivals: list[System], whole: list[System]) -> None:
    keys = {one.name: measures.keys_file(bench.folder, [one.proxy.key]) for one in [bench.upstream, *rivals, *whole]}
    found: dict[str, dict[str, Figures]] = {}
    for kind in ("whole", "stream"):
        systems = [bench.upstream, *rivals, *whole]

        def measure(system: System, kind: str = kind) -> Figures:
            return measures.paced(system, kind, RATE, bench.seconds * 2, keys[system.name])

        found[kind] = bench.compare(systems, measure)
    print(f"{RATE} requests a second: ms added to asking the upstream itself\n")
    print("| | whole answer p50 | p99 | first byte of a stream p50 | p99 |\n|---|---|---|---|---|")
    for name in [*found["whole"]][1:]:
        cells = [
            found[kind][name][share] - found[kind][bench.upstream.name][share]
            for kind in ("whole", "stream")
            for share in ("p50_ms", "p99_ms")
        ]
        print(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)
    print()


def report_tenants(bench: Bench) -> None:
    """All tenants in use: each asks in its turn, at full speed and at a rate."""
    print(
        "tenants in use, 1 KB, control on another core\n\n"
        f"| | tenants | gateway, CPU us | control | at {TENANTS_RATE} a second: p50 ms | p99 ms |\n"
        "|---|---|---|---|---|---|"
    )
    for form, python in bench.forms.items():
        for count in TENANTS:
            name = bench.name(form)
            system = start_tenantry(
                bench.folder, bench.up, name, python=python, others=count, has_control=True, control_core=OTHER_CORE
            )
            assert system.stored is not None
            keys = measures.keys_file(bench.folder, system.stored.others)
            script = measures.lua(bench.folder, 900, keys)
            try:
                warm = count / 2000  # until each has asked
                measures.wrk(system, script, max(1.0, warm))
                busy = medians([measures.wrk(system, script, bench.seconds) for _ in range(bench.rounds)])
                rated = [
                    measures.paced(system, "whole", TENANTS_RATE, bench.seconds, keys) for _ in range(bench.rounds)
                ]
            finally:
                system.stop()
            calm = medians(rated)
            print(
                f"| {name} | {count:,} | {busy['proxy_us']:.0f} | {busy['control_us']:.0f} | {calm['p50_ms']:.2f} "
                f"| {calm['p99_ms']:.2f} |",
                flush=True,
            )
    print()


def report_memory(bench: Bench) -> None:
    print(f"memory, {HELD_STREAMS} streams open\n\n| | KiB a stream |\n|---|---|")
    makers: list[Callable[[], System]] = [lambda: start_nginx(bench.folder, bench.up), lambda: start_aiohttp(bench.up)]
    for form, python in bench.forms.items():
        makers.append(
            lambda form=form, python=python: start_tenantry(bench.folder, bench.up, bench.name(form), python=python)
        )
    for make in makers:
        system = make()
        try:
            measures.streams(system)  # what is there once, whatever comes, is not a stream's
            print(f"| {system.name} | {measures.memory(system)['kib']:.1f} |", flush=True)
        finally:
            system.stop()
    print()


def report_start(bench: Bench) -> None:
    print("from start to serving, CPU s\n\n| | gateway | control |\n|---|---|---|")
    for form, python in bench.forms.items():
        rounds: list[tuple[float, float]] = []
        for _ in range(bench.rounds):
            system = start_tenantry(bench.folder, bench.up, python=python, has_control=True, control_core=OTHER_CORE)
            assert system.control is not None
            rounds.append((cpu_seconds(system.proxy.process), cpu_seconds(system.control.process)))
            system.stop()
        gateway, control = (median(one[part] for one in rounds) for part in (0, 1))
        print(f"| {bench.name(form)} | {gateway:.2f} | {control:.2f} |", flush=True)
    print()


def report_fairness(bench: Bench) -> None:
    """One tenant at a hundred times its share of an upstream of 600 requests a minute, and nine normal ones."""
    capacity = {"requests_per_minute": 600, "request_burst": 10}
    system = start_tenantry(bench.folder, bench.up, others=10, capacity=capacity)
    assert system.stored is not None
    command = [sys.executable, "-m", "bench.fairness", str(system.proxy.port), "20", *system.stored.others]
    try:
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    finally:
        system.stop()
    print(
        "one tenant at 100x its share of 600 requests a minute, nine normal\n\n"
        "| nine: served | Jain | wait p50 ms | wait p99 ms | noisy: asked | served |\n|---|---|---|---|---|---|\n"
        f"| {found['served_percent']:.1f} % | {found['jain']:.3f} | {found['p50_ms']:.0f} | {found['p99_ms']:.0f} "
        f"| {found['noisy_asked']} | {found['noisy_served']} |"
    )


def print_cpu(title: str, found: dict[str, Figures], columns: dict[str, str]) -> None:
    """A table of CPU, of all of it beside nginx's, and of more columns."""
    heads = ["", "proxy, CPU us", "control", "both", "x nginx", *columns.values()]
    print(f"{title}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, figures in found.items():
        cells = ["", "", "", ""]
        if name != "direct":
            control = f"{figures['control_us']:.0f}" if figures["control_us"] else ""
            ratio = figures["cpu_us"] / found["nginx"]["cpu_us"]
            cells = [f"{figures['proxy_us']:.0f}", control, f"{figures['cpu_us']:.0f}", f"{ratio:.1f}"]
        print(f"| {name} | {' | '.join(cells)} | {' | '.join(f'{figures[column]:.2f}' for column in columns)} |")
    print(flush=True)


def run(bench: Bench, quick: bool) -> None:
    with ExitStack() as running:
        rivals = [start_nginx(bench.folder, bench.up), start_aiohttp(bench.up)]
        alone: list[System] = []
        whole: list[System] = []
        for form, python in bench.forms.items():
            name = bench.name(form)
            alone.append(start_tenantry(bench.folder, bench.up, f"{name}: gateway alone", python=python))
            for words, core in (("control on another core", OTHER_CORE), ("control on the same core", ITS_CORE)):
                whole.append(
                    start_tenantry(
                        bench.folder, bench.up, f"{name}, {words}", python=python, has_control=True, control_core=core
                    )
                )
        for system in (*rivals, *alone, *whole):
            running.callback(system.stop)
            with system.awake():  # and stopped, until it has its turn
                pass
        report_requests(bench, rivals, alone, whole)
        report_streams(bench, rivals, alone, whole)
        report_latency(bench, rivals, [system for system in whole if "another" in system.name])
    report_tenants(bench)
    report_memory(bench)
    report_start(bench)
    if not quick:
        report_busy_core(bench)
        report_fairness(bench)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--quick", action="store_true", help="about two minutes: one round, short cases")
    parser.add_argument("--python", action="append", default=[], help="a Python whose Tenantry is measured too")
    given = parser.parse_args()
    for tool in ("nginx", "wrk", "taskset"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed: apt-get install nginx-light wrk util-linux")
    raise_descriptor_limit()
    pythons = [sys.executable, *given.python, *([str(COMPILED)] if COMPILED.exists() and not given.python else [])]
    forms = {form_of(python): python for python in pythons}
    seconds, rounds = (1.0, 1) if given.quick else (float(os.environ.get("BENCH_SECONDS", "3")), 3)
    told = f"{os.cpu_count()} cores, medians of {rounds}, {seconds:g} s a case"
    print(f"# {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {told}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as name:
        upstream = start_upstream(core=OTHER_CORE)
        try:
            run(Bench(Path(name), System("direct", upstream, rests=False), seconds, rounds, forms), given.quick)
        finally:
            stop(upstream)


if __name__ == "__main__":
    main()
