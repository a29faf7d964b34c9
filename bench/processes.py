"""Processes that the bench starts, on free ports of loopback."""

from __future__ import annotations

import os
import re
import resource
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
# A gateway under valgrind takes some ten seconds to listen, with 10,000 tenants up to a minute.
LISTEN_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 40.0


@dataclass
class Proxy:
    """Something that listens: a proxy, or the upstream itself."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    key: str = "x"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, and no two alike."""
    with ExitStack() as stack:
        return [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until something listens there.

    Raises:
        SystemExit: nothing does, or the process has ended.
    """
    end = time.monotonic() + LISTEN_SECONDS_MAX
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    process.kill()
    raise SystemExit(f"nothing listens on {port}: {process.args}")


def start(name: str, port: int, *command: str, key: str = "x", core: int | None = None, **environ: str) -> Proxy:
    """Start a command that listens on this port, on one core where that is asked; back when it listens."""
    pinned = (*pin(core), *command)
    process = subprocess.Popen(pinned, env=os.environ | environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    await_port(port, process)
    return Proxy(name, port, process, key)


def start_upstream(*options: str, core: int | None = None) -> Proxy:
    """The bench's upstream. `options` are its own, such as a certificate."""
    port = free_port()
    return start("direct", port, sys.executable, "-m", "bench.upstream", str(port), *options, core=core)


def pin(core: int | None) -> tuple[str, ...]:
    """The words before a command that keep it on one core."""
    return () if core is None else ("taskset", "-c", str(core))


def stop(proxy: Proxy) -> None:
    """Ask it to end, and wait."""
    proxy.process.terminate()
    proxy.process.wait(STOP_SECONDS_MAX)


def kill(proxy: Proxy) -> None:
    """End it at once."""
    proxy.process.kill()
    proxy.process.wait()


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """User and system time that a process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def cpu_nanos(pid: int) -> int:
    """Time on a processor of all threads that a process has now."""
    return sum(int(one.read_text().split()[0]) for one in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def tree_seconds(pid: int) -> float:
    """User and system time of a process, of its children now, and of those that have ended."""
    own = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(map(int, own[11:15])) / TICKS + sum(cpu_nanos(int(one)) for one in children) / 1e9


def is_running(pid: int) -> bool:
    """Whether some thread of it runs, or waits for a processor."""
    stats = (one.read_text() for one in Path(f"/proc/{pid}/task").glob("*/stat"))
    return any(stat.rpartition(")")[2].split()[0] == "R" for stat in stats)


def raise_descriptor_limit() -> None:
    """Ten thousand tenants are ten thousand connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def resident_kib(process: subprocess.Popen[bytes]) -> int:
    """Memory of a process, what it shares counted in proportion."""
    text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss: *(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]
