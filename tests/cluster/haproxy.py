"""HAProxy in front of the gateways, by turns: two of three requests come to one that does not grant for them."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.stack import PATIENCE_SECONDS, free_ports, listens

# No time-out of its own but for connecting: what is late is for the gateways to say.
_FILE = """
global
    maxconn 8192
defaults
    mode http
    timeout connect 60s
    timeout client 1h
    timeout server 1h
    option redispatch
frontend site
    bind 127.0.0.1:{port}
    default_backend gateways
backend gateways
    balance roundrobin
{servers}
"""


def binary() -> str | None:
    """Debian's, where it is installed."""
    return shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


class HAProxy:
    """Listens on `port`."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        """Raises: RuntimeError: it is not installed, or did not start."""
        found = binary()
        if found is None:
            raise RuntimeError("HAProxy is not installed")
        (self.port,) = free_ports(1)
        servers = "\n".join(f"    server g{port} 127.0.0.1:{port} check inter 500ms fall 1 rise 1" for port in ports)
        file, self._log = folder / "haproxy.cfg", folder / "haproxy.log"
        file.write_text(_FILE.format(port=self.port, servers=servers))
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [found, "-db", "-f", str(file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not listens(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(self._log.read_text(errors="replace")[-2000:])
            time.sleep(0.02)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
