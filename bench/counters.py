"""Instructions of one process in user space: counted by the processor where it lets us, else by valgrind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

from bench.processes import Proxy

VALGRIND = (
    # Addresses are the same in each run: what is ordered or hashed by them is then too.
    *("setarch", "--addr-no-randomize"),
    "valgrind",
    "--tool=callgrind",
    "--instr-atstart=no",  # start-up runs six times faster when it is not counted
    "--smc-check=none",  # nothing here rewrites its own code
    "--vgdb-poll=50000",
)
PERF_START_SECONDS = 0.2


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
        time.sleep(PERF_START_SECONDS)

    def end(self) -> int:
        self._perf.send_signal(signal.SIGINT)
        self._perf.wait(10)
        return next(int(line.split(",")[0]) for line in self._out.read_text().splitlines() if "instructions" in line)

    def pause(self) -> None:
        pass


def new_counter(folder: Path) -> Valgrind | Perf:
    return Perf(folder) if has_counters() else Valgrind(folder)


def has_counters() -> bool:
    """Whether `perf` can count here: virtual machines and containers often have no counters."""
    if shutil.which("perf") is None:
        return False
    found = subprocess.run(["perf", "stat", "-x,", "-e", "instructions:u", "true"], capture_output=True, text=True)
    return found.returncode == 0 and found.stderr[:1].isdigit()
