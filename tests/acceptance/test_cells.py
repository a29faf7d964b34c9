"""Two gateways on one store: who dies is replaced, who was stopped grants nothing, and no budget is passed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tenantry.storage.cell_tables import cells
from tests.spawner import Process, spawn
from tests.stack import Stack, free_ports, parse, read_all, request, wait_for

MESSAGE = {"model": "claude-sonnet-5-5", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}
LEASE_SECONDS = "3"
# Small enough that a budget of some calls is taken in many steps.
ENVELOPE_USD = "0.01"
# As much is taken at once, and is worth some calls.
ALL_AT_ONCE_NANOS = 10_000_000


class Pair:
    """A site with two gateways, `a` and `b`, each on a port of its own."""

    def __init__(self, folder: Path, **extra: str) -> None:
        cluster = {"TENANTRY_LEASE_SECONDS": LEASE_SECONDS, "TENANTRY_ENVELOPE_USD": ENVELOPE_USD}
        self.stack = Stack(folder, **{"TENANTRY_CLUSTER": "true"} | cluster | extra)
        self.ports = dict(zip("ab", (self.stack.port, *free_ports(1)), strict=True))
        self.processes: dict[str, Process] = {}
        self.stack.start("sandbox", "control")
        for name in self.ports:
            self.start(name)

    def start(self, name: str) -> None:
        with (self.stack.folder / f"gateway-{name}.log").open("ab") as log:
            self.processes[name] = spawn(
                "gateway",
                env=os.environ | self.environ(name),
                cwd=self.stack.folder,
                stdout=log,
                stderr=log,
                cold=self.stack.cold,
            )
        wait_for(lambda: self.told(name).count("gateway listening") >= 1, what=f"gateway {name} listening")

    def environ(self, name: str) -> dict[str, str]:
        return self.stack.environ | {"TENANTRY_GATEWAY_PORT": str(self.ports[name])}

    def told(self, name: str) -> str:
        return (self.stack.folder / f"gateway-{name}.log").read_text()

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait()

    def call(self, name: str, key: str, scenario: str = "", **fields: Any) -> tuple[int, dict[str, str], bytes]:
        body = json.dumps(MESSAGE | fields).encode()
        headers = {"x-api-key": key, "x-sandbox-scenario": scenario, "connection": "close"}
        with self.connect(name) as client:
            client.sendall(request("POST", "/v1/messages", headers, body))
            return parse(read_all(client))

    def connect(self, name: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports[name]), timeout=120)

    def serves(self, name: str, key: str) -> bool:
        with contextlib.suppress(OSError):
            return self.call(name, key)[0] == 200
        return False

    def tenant(self, slug: str, **limits: Any) -> str:
        """A tenant with a capacity of its own, which is not claimed yet."""
        key = self.stack.tenant(slug, secret=f"sandbox-{slug}", **limits)
        for name in self.processes:
            wait_for(lambda name=name: self._knows(name, key), what=f"gateway {name} knowing the key")
        return key

    def _knows(self, name: str, key: str) -> bool:
        """A request that both refuse on its body tells, and claims nothing."""
        with self.connect(name) as client:
            headers = {"x-api-key": key, "connection": "close"}
            client.sendall(request("POST", "/v1/messages", headers, b"{"))
            return parse(read_all(client))[0] == 400

    def has_budget(self, name: str, key: str) -> bool:
        """Whether a gateway knows of a budget of the caller's."""
        return any("ratelimit-unified" in field for field in self.call(name, key)[1])

    def owner(self, slug: str) -> str:
        """The journal's name of the gateway that owns the tenant's cell."""
        credential = self.stack.site.directory.get_tenant(slug).credential
        names = {one.name: one.credential_id for one in self.stack.site.directory.list_credentials()}
        with self.stack.site.engine.connect() as connection:
            query = select(cells.c.gateway_id).where(cells.c.name == names[str(credential)])
            return str(connection.execute(query).scalar())

    def stop(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes.values():
            process.wait()
        self.stack.stop()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    found = Pair(tmp_path)
    yield found
    found.stop()


def test_who_is_killed_in_the_middle_of_a_stream_is_replaced_and_booked(pair: Pair) -> None:
    key = pair.tenant("acme")
    assert pair.call("a", key)[0] == 200
    first = pair.owner("acme")
    assert pair.call("b", key)[0] == 200
    assert pair.owner("acme") == first
    with pair.connect("a") as client:
        headers = {"x-api-key": key, "x-sandbox-scenario": "chunks=400;chunk-ms=50;answer-bytes=80000"}
        body = json.dumps(MESSAGE | {"stream": True, "max_tokens": 32_000}).encode()
        client.sendall(request("POST", "/v1/messages", headers, body))
        wait_for(lambda: b"message_start" in client.recv(65536), what="the stream")
        pair.kill("a")
    wait_for(lambda: pair.serves("b", key), what="the other gateway serving")
    assert pair.owner("acme") != first
    rows = pair.stack.final_rows("acme", 4)
    assert [row["outcome"] for row in rows].count("orphaned") == 1
    assert len(rows) == len(pair.stack.billed())


def test_who_was_stopped_beyond_its_lease_grants_nothing_on_it(pair: Pair) -> None:
    key = pair.tenant("acme")
    assert pair.call("a", key)[0] == 200
    stopped = pair.processes["a"]
    stopped.send_signal(signal.SIGSTOP)
    # It finds this when it goes on, before it has heard anything of the store.
    with pair.connect("a") as client:
        body = json.dumps(MESSAGE).encode()
        client.sendall(request("POST", "/v1/messages", {"x-api-key": key, "connection": "close"}, body))
        wait_for(lambda: pair.serves("b", key), what="the other gateway serving, when the lease has run out")
        billed = len(pair.stack.billed())
        stopped.send_signal(signal.SIGCONT)
        assert parse(read_all(client))[0] == 503
    assert len(pair.stack.billed()) == billed
    wait_for(lambda: "has run out" in pair.told("a"), what="its finding that out")
    taken = pair.owner("acme")
    wait_for(lambda: pair.serves("a", key), what="its passing on, once it has joined again")
    assert pair.owner("acme") == taken


def test_what_a_machine_may_have_spent_is_held_until_its_journal_is_booked(pair: Pair) -> None:
    key = pair.tenant("acme")
    pair.stack.site.directory.set_budgets("acme", {"month": ALL_AT_ONCE_NANOS}, "hard")
    wait_for(lambda: pair.has_budget("a", key), what="the budget")
    first = pair.owner("acme")
    pair.stack.kill("control")  # what is not booked yet stays so
    assert pair.call("a", key)[0] == 200
    pair.kill("a")
    folder, elsewhere = pair.stack.settings.journal_dir / first, pair.stack.folder / "another-machine"
    folder.rename(elsewhere)
    held, words = wait_for(lambda: _decided(pair, key), what="the other gateway deciding")
    elsewhere.rename(folder)
    pair.stack.start("control")
    wait_for(lambda: pair.serves("b", key), what="what was held coming back")
    rows = pair.stack.final_rows("acme")
    assert sum(row["cost_nanos"] for row in rows) <= ALL_AT_ONCE_NANOS
    assert (held, json.loads(words)["error"]["type"]) == (429, "rate_limit_error")


def _decided(pair: Pair, key: str) -> tuple[int, bytes] | None:
    status, _fields, body = pair.call("b", key)
    return None if status == 503 else (status, body)


def test_a_budget_worth_fifty_calls_is_not_passed_where_gateways_are_killed(pair: Pair) -> None:
    key = pair.tenant("acme", sessions_max=1000, queue_depth_max=1000)
    assert pair.call("a", key)[0] == 200
    cap = pair.stack.final_rows("acme")[0]["cost_nanos"] * 50
    pair.stack.site.directory.set_budgets("acme", {"month": cap}, "hard")
    wait_for(lambda: pair.has_budget("a", key), what="the budget")
    deadline, lock, served = time.monotonic() + 120, threading.Lock(), [0]

    def work(number: int) -> None:
        at = number
        while time.monotonic() < deadline:
            try:
                status, _fields, body = pair.call("ab"[at % 2], key, stream=number % 2 == 0)
            except OSError:  # it was killed
                at += 1
                time.sleep(0.05)
                continue
            if status == 402:
                return
            if status == 200:
                with lock:
                    served[0] += 1
            else:
                assert status in (429, 503), body
                at += 1
                time.sleep(0.1)

    with ThreadPoolExecutor(64) as pool:
        working = [pool.submit(work, number) for number in range(64)]
        for name, least in (("a", 8), ("b", 16)):
            # What a kill leaves in flight is booked at its hold, which may be all of the rest.
            wait_for(lambda least=least: served[0] >= least or all(one.done() for one in working), what="some calls")
            pair.kill(name)
            pair.start(name)
        for one in working:
            one.result()
    rows = pair.stack.final_rows("acme")
    assert sum(row["cost_nanos"] or row["held_nanos"] or 0 for row in rows) <= cap
    # What was killed between its line in the journal and its first byte has a row, and was not billed.
    assert len(rows) >= len(pair.stack.billed())


def test_a_cell_moves_under_a_client_in_a_loop_and_a_long_stream(pair: Pair) -> None:
    key = pair.tenant("acme", sessions_max=3)
    assert pair.call("a", key)[0] == 200
    first = pair.owner("acme")
    second = next(one.gateway_id for one in pair.stack.site.directory.list_gateways() if one.gateway_id != first)
    stop, seen = threading.Event(), list[int]()

    def loop() -> None:
        while not stop.is_set():
            seen.extend(pair.call(name, key, stream=name == "b")[0] for name in "ab")

    with ThreadPoolExecutor(1) as pool, pair.connect("a") as client:
        headers = {"x-api-key": key, "x-sandbox-scenario": "chunks=60;chunk-ms=50;answer-bytes=6000"}
        body = json.dumps(MESSAGE | {"stream": True, "max_tokens": 32_000}).encode()
        client.sendall(request("POST", "/v1/messages", headers | {"connection": "close"}, body))
        streamed = client.recv(65536)
        looping = pool.submit(loop)
        for to in (second, first, second):
            count = len(seen)
            pair.stack.site.directory.move_cell("acme", to)
            wait_for(lambda to=to: pair.owner("acme") == to, what="the other one owning it")
            wait_for(lambda count=count: len(seen) > count + 4 or looping.done(), what="calls after it")
        stop.set()
        looping.result()
        streamed += read_all(client)
    assert {*seen} == {200}
    assert b"message_stop" in streamed
    rows = pair.stack.final_rows("acme", len(seen) + 2)
    assert len(rows) == len(pair.stack.billed())
    assert {row["outcome"] for row in rows} == {"settled"}


def test_a_gateway_that_ends_in_order_gives_its_cells_away_and_refuses_nobody(pair: Pair) -> None:
    key = pair.tenant("acme")
    assert pair.call("a", key)[0] == 200
    first = pair.owner("acme")
    stop, seen = threading.Event(), list[int]()

    def loop() -> None:
        while not stop.is_set():
            seen.append(pair.call("b", key)[0])

    with ThreadPoolExecutor(1) as pool, pair.connect("a") as client:
        headers = {"x-api-key": key, "x-sandbox-scenario": "chunks=40;chunk-ms=50;answer-bytes=4000"}
        body = json.dumps(MESSAGE | {"stream": True, "max_tokens": 32_000}).encode()
        client.sendall(request("POST", "/v1/messages", headers, body))
        streamed = client.recv(65536)
        looping = pool.submit(loop)
        wait_for(lambda: len(seen) > 2, what="some calls")
        pair.processes["a"].terminate()
        wait_for(lambda: pair.owner("acme") != first, what="the other one owning it")
        count = len(seen)
        assert pair.processes["a"].returncode is None  # it is in the middle of the stream
        wait_for(lambda: len(seen) > count + 4 or looping.done(), what="calls after it")
        streamed += read_all(client)
        pair.processes.pop("a").wait()
        stop.set()
        looping.result()
    assert {*seen} == {200}
    assert b"message_stop" in streamed
    rows = pair.stack.final_rows("acme", len(seen) + 2)
    assert len(rows) == len(pair.stack.billed())


def test_a_budget_worth_fifty_calls_is_met_to_the_call_while_its_cell_moves(pair: Pair) -> None:
    key = pair.tenant("acme", sessions_max=1000, queue_depth_max=1000)
    assert pair.call("a", key)[0] == 200
    cap = pair.stack.final_rows("acme")[0]["cost_nanos"] * 50
    pair.stack.site.directory.set_budgets("acme", {"month": cap}, "hard")
    wait_for(lambda: pair.has_budget("a", key), what="the budget")
    told, before = list[int](), len(pair.stack.billed())

    def work(number: int) -> None:
        while not told.count(402):
            status, _fields, _body = pair.call("ab"[number % 2], key, stream=number % 4 == 0)
            told.append(status)
            if status == 429:  # what is left is held by requests in flight
                time.sleep(0.05)

    with ThreadPoolExecutor(64) as pool:
        working = [pool.submit(work, number) for number in range(64)]
        moves = 0
        while not all(one.done() for one in working):
            owner = pair.owner("acme")
            heir = next(one.gateway_id for one in pair.stack.site.directory.list_gateways() if one.gateway_id != owner)
            pair.stack.site.directory.move_cell("acme", heir)
            wait_for(lambda owner=owner: pair.owner("acme") != owner, what="the cell moving")
            moves += 1
        for one in working:
            one.result()
    assert moves > 0
    assert {*told} <= {200, 402, 429}
    rows = pair.stack.final_rows("acme", before + told.count(200))
    assert sum(row["cost_nanos"] for row in rows) <= cap
    assert len(rows) == len(pair.stack.billed()) == before + told.count(200)
