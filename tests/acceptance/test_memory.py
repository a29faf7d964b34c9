"""Large bodies that are sent and not finished, or wait for their turn: bounded in memory, and nobody else's trouble."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stack import Stack, request, wait_for
from tests.storm.accounting import cpu_seconds

CONNECTIONS = 40
BODY_BYTES = 31 * 1000 * 1000
# What a tenant may have of bodies that come or wait, as much again for what is in work, and some slack. Forty bodies
# took 1.2 GB.
GROWN_BYTES_MAX = 320 * 1024 * 1024
# What the gateway does for others, as CPU time, before it has answered a neighbour: whatever else the machine does.
BESIDE_CPU_SECONDS_MAX = 5.0
START = b'{"model":"claude-sonnet-5-5","max_tokens":8,"messages":[{"role":"user","content":"hi"}]}'


def resident_bytes(stack: Stack) -> int:
    pages = Path(f"/proc/{stack.processes['gateway'].pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def send_and_stop(client: socket.socket, key: str) -> None:
    """All of a body but for its end."""
    client.sendall(request("POST", "/v1/messages", {"x-api-key": key, "content-length": str(BODY_BYTES + 1000)}))
    client.sendall(b" " * BODY_BYTES)


def send_chunks_and_stop(client: socket.socket, key: str) -> None:
    """The same without a length."""
    client.sendall(request("POST", "/v1/messages", {"x-api-key": key, "transfer-encoding": "chunked"}))
    for _ in range(BODY_BYTES // 1_000_000):
        client.sendall(b"f4240\r\n" + b" " * 1_000_000 + b"\r\n")


def send_and_wait(client: socket.socket, key: str) -> None:
    """A whole body, which waits for its turn: the upstream does not answer the first of them."""
    headers = {"x-api-key": key, "content-length": str(BODY_BYTES), "x-sandbox-scenario": "head-ms=20000"}
    client.sendall(request("POST", "/v1/messages", headers))
    client.sendall(START + b" " * (BODY_BYTES - len(START)))


@pytest.mark.parametrize("send", [send_and_stop, send_chunks_and_stop, send_and_wait])
def test_forty_large_bodies_of_a_tenant_with_one_session_are_bounded_and_others_are_served(
    own_stack: Stack, send: Callable[[socket.socket, str], None]
) -> None:
    stack = own_stack.start()
    key, other = stack.tenant("greedy", sessions_max=1, queue_wait_ms_max=20_000), stack.tenant("healthy")
    assert stack.message(other)[0] == 200
    before, most, pid = resident_bytes(stack), 0, stack.processes["gateway"].pid
    clients = [stack.connect() for _ in range(CONNECTIONS)]

    def attack(client: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it was refused and closed
            send(client, key)

    attackers = [threading.Thread(target=attack, args=(client,), daemon=True) for client in clients]
    for attacker in attackers:
        attacker.start()
    dearest, until = 0.0, time.monotonic() + 4
    while time.monotonic() < until or any(attacker.is_alive() for attacker in attackers):
        began = cpu_seconds(pid)
        assert stack.message(other)[0] == 200
        dearest = max(dearest, cpu_seconds(pid) - began)
        most = max(most, resident_bytes(stack))
        time.sleep(0.02)
    for client in clients:
        client.close()
    assert most - before < GROWN_BYTES_MAX, f"{(most - before) >> 20} MiB"
    assert dearest < BESIDE_CPU_SECONDS_MAX, dearest
    wait_for(lambda: resident_bytes(stack) - before < GROWN_BYTES_MAX // 2, what="the memory coming back")
