"""What the hop between two gateways costs, in CPU time: of a request at the gateway that grants, and at another one.

`python -m bench.hop [--python PYTHON] [--requests N]`. Both ways are asked in turns in one run, so that their ratio
says more than their times on a busy machine. The cost is user and system time of the two gateways, by the kernel.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
from pathlib import Path

from bench.client import request_bytes
from bench.processes import Proxy, cpu_nanos, start_upstream, stop
from bench.site import make_store, start_gateway

CLIENTS = 8
# Turns of each way.
ROUNDS = 10
WARM_UP = 25 * CLIENTS
# A stream has a thousand events, at their own pace.
STREAMS = ROUNDS * CLIENTS
SMALL_BYTES = 900
_READ_BYTES = 1 << 20


class Asking:
    """Clients of one gateway, which all ask, and then all read."""

    def __init__(self, gateway: Proxy, *, stream: bool) -> None:
        self._asked = request_bytes(gateway.key, SMALL_BYTES, stream=stream)
        self._stream = stream
        self._clients = [socket.create_connection(("127.0.0.1", gateway.port), 60) for _ in range(CLIENTS)]

    def ask(self, count: int) -> None:
        for _ in range(count // CLIENTS):
            for one in self._clients:
                one.sendall(self._asked)
            for one in self._clients:
                self._read(one)

    def _read(self, one: socket.socket) -> None:
        """Raises: SystemExit: it is another answer than was asked for."""
        got = b""
        while not self._is_whole(got):
            more = one.recv(_READ_BYTES)
            if not more:
                raise SystemExit(f"the gateway closed behind {got[-200:]!r}")
            got += more
        if not got.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"the gateway answered {got[:400]!r}")

    def _is_whole(self, got: bytes) -> bool:
        head, end, body = got.partition(b"\r\n\r\n")
        if self._stream:
            return got.endswith(b"\r\n0\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return bool(end) and len(body) >= int(length or 0)


def measure(gateways: list[Proxy], count: int, *, stream: bool) -> dict[str, list[float]]:
    """Microseconds of each gateway's CPU for a request, by where it was asked; the first gateway grants."""
    asking = {"direct": Asking(gateways[0], stream=stream), "hop": Asking(gateways[1], stream=stream)}
    spent = {way: [0] * len(gateways) for way in asking}
    for one in asking.values():
        one.ask(CLIENTS if stream else WARM_UP)
    for _ in range(ROUNDS):
        for way, one in asking.items():
            before = [cpu_nanos(gateway.process.pid) for gateway in gateways]
            one.ask(count // ROUNDS)
            for number, gateway in enumerate(gateways):
                spent[way][number] += cpu_nanos(gateway.process.pid) - before[number]
    return {way: [nanos / count / 1000 for nanos in both] for way, both in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has Tenantry")
    parser.add_argument("--requests", type=int, default=4000, help="that are not streamed, each way")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        upstream = start_upstream()
        stored = make_store(Path(folder), upstream.port)
        gateways = [start_gateway(stored, python=given.python, TENANTRY_CLUSTER="true") for _ in range(2)]
        try:
            for name, stream, count in (("message", False, given.requests), ("stream", True, STREAMS)):
                Asking(gateways[0], stream=False).ask(CLIENTS)  # who is asked first grants
                told = measure(gateways, count, stream=stream)
                direct, (owner, passing) = told["direct"][0], told["hop"]
                times = (owner + passing) / direct
                print(f"{name}: direct {direct:.0f} us; hop {owner:.0f} us where it is granted, and", end=" ")
                print(f"{passing:.0f} us where it came; together {times:.2f} times")
        finally:
            for one in (*gateways, upstream):
                stop(one)


if __name__ == "__main__":
    main()
