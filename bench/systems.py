"""What is measured beside one another: nginx, a proxy on aiohttp, and Tenantry as a gateway alone and as a whole."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Proxy, cpu_seconds, free_port, start, stop
from bench.site import Stored, make_store, start_control, start_gateway

# The one that is measured, and what asks and answers.
ITS_CORE, OTHER_CORE = (0, 1) if (os.cpu_count() or 1) > 1 else (None, None)
# The booking takes what the journal has in rounds of a second at most.
BOOKED_SECONDS = 1.2
BOOKED_SECONDS_MAX = 30.0

NGINX = """
worker_processes {workers}; daemon off; master_process {master}; error_log stderr crit; pid {folder}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 512k; tcp_nodelay on; keepalive_requests 10000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 10000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{
    proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }}
}}
"""


@dataclass
class System:
    """What listens, and the control process beside it where there is one."""

    name: str
    proxy: Proxy
    control: Proxy | None = None
    stored: Stored | None = None
    rests: bool = True  # while others have their turn; the upstream never does

    def cpu(self) -> tuple[float, float]:
        """CPU seconds so far: of the proxy, and of control once it has booked what is there."""
        if self.control is not None:
            self._await_booked()
        return cpu_seconds(self.proxy.process), cpu_seconds(self.control.process) if self.control else 0.0

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Runs; outside of this it is stopped, so that it does not disturb what is measured."""
        self._signal(signal.SIGCONT)
        yield
        if self.rests:
            self._signal(signal.SIGSTOP)

    def stop(self) -> None:
        self._signal(signal.SIGCONT)
        stop(self.proxy)
        if self.control is not None:
            stop(self.control)

    def _signal(self, number: signal.Signals) -> None:
        for one in (self.proxy, self.control):
            if one is not None:
                one.process.send_signal(number)

    def _await_booked(self) -> None:
        assert self.stored is not None
        path = Path(self.stored.environ["TENANTRY_DATA_DIR"]) / "tenantry.db"
        end, before = time.monotonic() + BOOKED_SECONDS_MAX, -1
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
            while time.monotonic() < end:
                now = store.execute("SELECT coalesce(max(entry_id), 0) FROM ledger").fetchone()[0]
                if now == before:
                    return
                before = now
                time.sleep(BOOKED_SECONDS)


def start_nginx(folder: Path, upstream: int, core: int | None = ITS_CORE, workers: int = 1) -> System:
    port = free_port()
    inner = folder / f"nginx-{port}"
    inner.mkdir()
    conf = inner / "nginx.conf"
    master = "on" if workers > 1 else "off"
    conf.write_text(NGINX.format(folder=inner, upstream=upstream, port=port, workers=workers, master=master))
    return System("nginx", start("nginx", port, "nginx", "-p", str(inner), "-c", str(conf), core=core))


def start_aiohttp(upstream: int, core: int | None = ITS_CORE) -> System:
    port = free_port()
    command = (sys.executable, "-m", "bench.aiohttp_proxy", str(port), f"http://127.0.0.1:{upstream}")
    return System("aiohttp", start("aiohttp", port, *command, core=core))


def start_tenantry(
    folder: Path,
    upstream: int,
    name: str = "Tenantry",
    *,
    python: str = sys.executable,
    others: int = 0,
    capacity: dict[str, int] | None = None,
    core: int | None = ITS_CORE,
    control_core: int | None = None,
    has_control: bool = False,
) -> System:
    """A gateway on a store of its own, and control beside it if that is asked."""
    stored = make_store(folder, upstream, others=others, capacity=capacity)
    gateway = start_gateway(stored, core=core, python=python)
    control = start_control(stored, gateway, core=control_core, python=python) if has_control else None
    return System(name, gateway, control, stored)
