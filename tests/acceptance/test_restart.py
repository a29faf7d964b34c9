"""A restart drops no call, counts on exactly, and a gateway outlives who started it."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.ledger.live import read_live, sum_live
from tenantry.starting import socket_for_serve
from tests.authority import Authority
from tests.callers import Callers
from tests.stack import PATIENCE_SECONDS, Stack, listens, read_all, request, tenantry, wait_for

# More by hand: python -m bench.restarts
RESTARTS = 3
CALLS = 120


class Serving:
    """`tenantry serve` on a site."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.log = stack.folder / "serve.log"
        self.process = stack.serve(self.log)

    def told(self, what: str) -> int:
        return self.log.read_text().count(what)

    def wait(self, what: str, count: int = 1) -> None:
        wait_for(lambda: self.told(what) >= count, what=what)

    def gateway(self) -> int:
        """The process that serves."""
        return gateways(self.stack)[-1]

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(PATIENCE_SECONDS)


def gateways(stack: Stack) -> list[int]:
    """The living gateways of a site, the one that began last at the end."""
    runs = sorted(path.parent.name for path in stack.settings.journal_dir.glob("*/lock"))
    pids = [int(run.rpartition("-")[2]) for run in runs]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and "Z" not in status(pid)]


def status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    stack = Stack(tmp_path, TENANTRY_DRAIN_SECONDS="3")
    serving = Serving(stack)
    try:
        serving.wait("serving on")
        yield serving
    finally:
        serving.stop()
        for pid in gateways(stack):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        stack.stop()


def test_no_call_fails_while_the_gateway_is_replaced_again_and_again(served: Serving) -> None:
    stack = served.stack
    key = stack.tenant("acme")
    stack.site.directory.set_budgets("acme", {"month": 10**12})
    wait_for(lambda: stack.message(key)[0] == 200, what="an answer")
    callers, pids = Callers(stack.port, key), {served.gateway()}
    try:
        for number in range(RESTARTS):
            done = callers.done
            if number:
                said = tenantry(stack, "restart")
                assert said.returncode == 0, said.stderr + served.log.read_text()
            else:
                served.process.send_signal(signal.SIGHUP)
                served.wait("the new gateway serves")
            pids.add(served.gateway())
            wait_for(lambda before=done: callers.done > before + CALLS // RESTARTS, what="calls after a restart")
    finally:
        callers.stop()
    assert callers.failed == []
    assert len(pids) == RESTARTS + 1
    wait_for(lambda: len(gateways(stack)) == 1, what="the old gateways' end")
    wait_for(lambda: len(stack.rows("acme")) == len(stack.billed()), what="the rows")
    assert {row["outcome"] for row in stack.rows("acme")} == {"settled"}


def open_stream(stack: Stack, key: str, scenario: str, **fields: object) -> socket.socket:
    client = stack.connect()
    body = {"model": "claude-sonnet-5-5", "max_tokens": 64, "stream": True, **fields}
    body["messages"] = [{"role": "user", "content": "hi"}]
    headers = {"x-api-key": key, "x-sandbox-scenario": scenario}
    client.sendall(request("POST", "/v1/messages", headers, json.dumps(body).encode()))
    return client


def read_answer(client: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of one chunked answer on a connection that is kept."""
    data = b""
    while not data.endswith(b"0\r\n\r\n"):
        part = client.recv(65536)
        assert part, data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


def test_streams_and_connections_go_on_and_their_sessions_and_money_are_counted_by_the_new_gateway(
    served: Serving,
) -> None:
    stack = served.stack
    key = stack.tenant("acme", sessions_max=2, queue_wait_ms_max=0)
    stack.site.directory.set_budgets("acme", {"month": 10**12})
    wait_for(lambda: stack.message(key)[0] == 200, what="an answer")
    clients = [open_stream(stack, key, "chunks=300;chunk-ms=50") for _ in range(2)]
    idle = stack.connect()
    call = request("GET", "/v1/models", {"x-api-key": key})
    idle.sendall(call)
    assert b"200 OK" in idle.recv(65536)
    half = stack.connect()
    half.sendall(call[:30])
    body = stack.connect()
    text = b'{"model":"claude-sonnet-5-5","max_tokens":8,"messages":[{"role":"user","content":"hi"}]}'
    whole = request("POST", "/v1/messages", {"x-api-key": key}, text)
    body.sendall(whole[:-20])
    wait_for(lambda: len(stack.billed()) == 3, what="the streams upstream")
    old = served.gateway()
    assert tenantry(stack, "restart").returncode == 0
    assert served.gateway() != old
    # Both sessions are the old one's; the new one counts them, and it alone tells of them.
    in_use = lambda: sum_live(read_live(stack.settings.journal_dir)).tenants  # noqa: E731
    tenant_id = stack.site.directory.get_tenant("acme").tenant_id
    wait_for(lambda: (use := in_use().get(tenant_id)) is not None and use.sessions == 2, what="two sessions")
    status, fields, _ = stack.message(key)
    assert (status, "retry-after" in fields) == (429, True)
    # What owes no answer is the new one's, whatever had come of the next request.
    idle.sendall(call)
    half.sendall(call[30:])
    assert b"200 OK" in idle.recv(65536)
    assert b"200 OK" in half.recv(65536)
    body.sendall(whole[-20:])
    assert b"HTTP/1.1 429" in body.recv(65536)
    for client in clients:
        head, said = read_answer(client)
        assert b"200 OK" in head
        assert b"message_stop" in said
        assert b"connection: close" not in head.lower()
    # Their connections are the new one's too, and their sessions are free.
    clients[0].sendall(call)
    assert b"200 OK" in clients[0].recv(65536)
    wait_for(lambda: gateways(stack) == [served.gateway()], what="the old gateway's end")
    wait_for(lambda: stack.message(key)[0] == 200, what="a free session")
    for client in (*clients, idle, half, body):
        client.close()
    wait_for(lambda: len(stack.rows("acme")) == len(stack.billed()), what="the rows")
    assert {row["outcome"] for row in stack.rows("acme")} == {"settled"}


def test_a_request_that_waits_for_its_turn_waits_on_at_the_new_gateway(served: Serving) -> None:
    stack = served.stack
    key = stack.tenant("acme", sessions_max=1, queue_wait_ms_max=20_000, queue_depth_max=5)
    wait_for(lambda: stack.message(key)[0] == 200, what="an answer")
    first = open_stream(stack, key, "chunks=60;chunk-ms=50")
    wait_for(lambda: len(stack.billed()) == 2, what="the stream upstream")
    waiting = open_stream(stack, key, "chunks=2")
    tenant_id = stack.site.directory.get_tenant("acme").tenant_id
    told = lambda: sum_live(read_live(stack.settings.journal_dir)).tenants.get(tenant_id)  # noqa: E731
    wait_for(lambda: len(stack.billed()) == 3 or ((use := told()) and use.waiting == 1), what="one that waits")
    assert tenantry(stack, "restart").returncode == 0
    assert b"message_stop" in read_answer(first)[1]
    assert b"message_stop" in read_answer(waiting)[1]
    first.close()
    waiting.close()
    assert len(stack.billed()) == 3


def test_rates_go_on_where_they_were(served: Serving) -> None:
    stack = served.stack
    key = stack.tenant("acme", requests_per_minute=1, request_burst=6, queue_wait_ms_max=0)
    wait_for(lambda: stack.get(key, "/v1/models")[0] == 200, what="an answer")
    assert [stack.message(key)[0] for _ in range(4)] == [200] * 4
    assert tenantry(stack, "restart").returncode == 0
    answers = [stack.message(key)[0] for _ in range(6)]
    # 2 are left, and one comes back every minute.
    assert answers[:2] == [200, 200]
    assert answers.count(200) <= 4
    assert 429 in answers


def test_no_call_fails_that_was_not_in_flight_when_the_gateway_is_killed(served: Serving) -> None:
    stack = served.stack
    key = stack.tenant("acme")
    wait_for(lambda: stack.message(key)[0] == 200, what="an answer")
    for _ in range(3):
        old = served.gateway()
        os.kill(old, signal.SIGKILL)
        # They connect while nobody is there, and are answered by the next.
        assert [stack.message(key)[0] for _ in range(5)] == [200] * 5
        assert served.gateway() != old


def test_a_gateway_outlives_its_supervisor_and_the_next_one_takes_over_without_a_dropped_call(served: Serving) -> None:
    stack = served.stack
    key = stack.tenant("acme")
    wait_for(lambda: stack.message(key)[0] == 200, what="an answer")
    stream = open_stream(stack, key, "chunks=100;chunk-ms=50")
    wait_for(lambda: len(stack.billed()) == 2, what="the stream upstream")
    old = served.gateway()
    served.process.kill()
    served.process.wait()
    time.sleep(0.5)
    assert stack.get(key, "/v1/models")[0] in (200, 502, 529)  # it answers; the sandbox is gone with `serve`
    assert gateways(stack) == [old]
    again = Serving(stack)
    try:
        again.wait("serving on", 2)
        assert served.gateway() != old
        wait_for(lambda: stack.message(key)[0] == 200, what="an answer")
    finally:
        stream.close()
        assert again.stop() == 0
    wait_for(lambda: not gateways(stack), what="the end of both")


# Python runs it before a gateway's first line; it is held for as long as the file is there.
HELD_AT_START = """
import os, sys, time
if "gateway" in sys.orig_argv:
    while os.path.exists(os.environ["HELD"]):
        time.sleep(0.02)
"""


class HeldSite:
    """A site whose gateways are held at their start while `hold` is there; its first `serve` was killed meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.stack = Stack(folder)
        self.hold = folder / "held"
        self.hold.touch()
        (folder / "sitecustomize.py").write_text(HELD_AT_START)
        self.stack.environ |= {"PYTHONPATH": str(folder), "HELD": str(self.hold)}
        self.first = Serving(self.stack)
        children = Path(f"/proc/{self.first.process.pid}/task/{self.first.process.pid}/children")
        (self.gateway,) = wait_for(lambda: find_gateway(children), what="the gateway")
        self.first.process.kill()
        self.first.process.wait()

    def stop(self) -> None:
        self.hold.unlink(missing_ok=True)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.gateway, signal.SIGKILL)
        self.stack.stop()


def find_gateway(children: Path) -> list[int]:
    """The gateway among a `serve`'s children, once it is Python with its own words."""
    return [int(pid) for pid in children.read_text().split() if is_gateway(int(pid))]


def is_gateway(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"\0-m\0tenantry\0gateway\0")
    except OSError:
        return False


@pytest.fixture
def held(tmp_path: Path) -> Iterator[HeldSite]:
    site = HeldSite(tmp_path)
    yield site
    site.stop()


def test_a_gateway_whose_serve_is_killed_while_it_starts_is_taken_over_by_the_next(held: HeldSite) -> None:
    again = Serving(held.stack)
    try:
        again.wait("it is taken over when it serves")
        held.hold.unlink()
        again.wait("serving on")
        key = held.stack.tenant("acme")
        wait_for(lambda: held.stack.message(key)[0] == 200, what="an answer")
        assert "another gateway has taken over" in again.log.read_text()
        wait_for(lambda: status(held.gateway) == "Z", what="the end of the first gateway")
    finally:
        assert again.stop() == 0
    assert again.told("in use") == 0


def test_a_gateway_that_never_serves_and_whose_serve_is_gone_is_ended_by_the_next(held: HeldSite) -> None:
    settings, stop = held.stack.settings, asyncio.Event()
    place = settings.gateway_host, settings.gateway_port, settings.data_dir, settings.journal_dir
    with asyncio.run(socket_for_serve(*place, stop, seconds=0.2)) as listener:
        assert listener.getsockname() == place[:2]
    wait_for(lambda: not is_gateway(held.gateway), what="the end of the gateway")


def test_a_foreign_program_on_the_port_is_told_without_a_wait(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    with socket.create_server(("127.0.0.1", stack.port)):
        serving = Serving(stack)
        assert serving.process.wait(60) == 1
    assert serving.told("Address already in use; stop what listens there") == 1
    assert serving.told("taken over") == 0
    stack.stop()


def test_a_second_serve_of_a_site_is_refused(served: Serving) -> None:
    second = Serving(served.stack)
    assert second.process.wait(PATIENCE_SECONDS) == 1
    assert "`tenantry serve` runs already on this data directory" in served.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_comes_when_serve_stops_does_not_wait_for_others_streams_and_a_second_signal_ends_it_at_once(
    tmp_path: Path, number: int
) -> None:
    stack = Stack(tmp_path, TENANTRY_DRAIN_SECONDS="600")
    serving = Serving(stack)
    try:
        serving.wait("serving on")
        key = stack.tenant("acme")
        wait_for(lambda: stack.message(key)[0] == 200, what="an answer")
        stream = open_stream(stack, key, "chunks=10000;chunk-ms=50")
        wait_for(lambda: len(stack.billed()) == 2, what="the stream upstream")
        serving.process.send_signal(number)
        serving.wait("stopping: up to")
        wait_for(lambda: not listens(stack.port), what="connections being refused")
        assert serving.process.poll() is None
        serving.process.send_signal(number)
        assert serving.process.wait(PATIENCE_SECONDS) == 0  # and not when it has waited for the stream
        with stream:
            assert b"event: error" in read_all(stream)
        assert not gateways(stack)
    finally:
        serving.process.kill()
        stack.stop()


def test_the_gateway_serves_however_long_control_does_not_start(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    # As `tenantry restore` holds it: control does not start meanwhile.
    lock = os.open(stack.settings.data_dir / "control.lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    serving = Serving(stack)
    try:
        serving.wait("serving on")
        serving.wait("The gateway serves")
        key = stack.tenant("acme")
        wait_for(lambda: stack.message(key)[0] == 200, what="an answer")
        os.close(lock)
        wait_for(lambda: len(stack.rows("acme")) == 1, what="the row")
    finally:
        serving.stop()
        stack.stop()


def test_behind_tls_connections_go_on_until_their_next_answer(tmp_path: Path) -> None:
    """TLS cannot be handed over: the old gateway carries the bytes, and the new one answers and closes."""
    authority = Authority(tmp_path)
    cert_file, key_file = authority.issue("main", "localhost")
    stack = Stack(tmp_path, TENANTRY_TLS_CERT_FILE=str(cert_file), TENANTRY_TLS_KEY_FILE=str(key_file))
    context = authority.client()
    serving = Serving(stack)
    try:
        serving.wait("serving on")
        key = stack.tenant("acme")
        call = request("GET", "/v1/models", {"x-api-key": key})
        connect = lambda: context.wrap_socket(stack.connect(), server_hostname="localhost")  # noqa: E731
        with connect() as probe:
            wait_for(lambda: probe.sendall(call) or b"200 OK" in probe.recv(65536), what="an answer")
        idle, streaming = connect(), connect()
        idle.sendall(call)
        assert b"200 OK" in idle.recv(65536)
        body = {"model": "claude-sonnet-5-5", "max_tokens": 64, "stream": True}
        body["messages"] = [{"role": "user", "content": "hi"}]
        headers = {"x-api-key": key, "x-sandbox-scenario": "chunks=150;chunk-ms=50"}
        streaming.sendall(request("POST", "/v1/messages", headers, json.dumps(body).encode()))
        wait_for(lambda: len(stack.billed()) == 1, what="the stream upstream")
        old = serving.gateway()
        assert tenantry(stack, "restart").returncode == 0
        assert serving.gateway() != old
        idle.sendall(call)
        answer = read_all(idle)
        assert b"200 OK" in answer
        assert b"connection: close" in answer
        assert b"message_stop" in read_answer(streaming)[1]
        streaming.sendall(call)
        assert b"200 OK" in read_all(streaming)
        wait_for(lambda: gateways(stack) == [serving.gateway()], what="the old gateway's end")
        idle.close()
        streaming.close()
    finally:
        serving.stop()
        stack.stop()


def test_a_budget_is_not_passed_by_streams_that_go_on_over_restarts(served: Serving) -> None:
    """Those of the old gateway and of the new one draw on the same money."""
    stack = served.stack
    key = stack.tenant("acme")
    budget = 60_000_000  # some ten streams
    stack.site.directory.set_budgets("acme", {"month": budget})
    wait_for(lambda: stack.message(key)[0] == 200, what="an answer")
    stop, refused = threading.Event(), threading.Event()

    def work() -> None:
        while not stop.is_set():
            with open_stream(stack, key, "chunks=60;chunk-ms=20", max_tokens=2000) as client:
                head = client.recv(65536)
                if b" 429 " in head:
                    refused.set()
                    time.sleep(0.1)
                    continue
                while b"0\r\n\r\n" not in head[-5:] and (part := client.recv(65536)):
                    head = part

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            assert tenantry(stack, "restart").returncode == 0
        assert refused.wait(60)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    wait_for(lambda: len(stack.rows("acme")) == len(stack.billed()), what="the rows")
    spent = sum(row["cost_nanos"] for row in stack.rows("acme"))
    assert 0 < spent <= budget
    assert len(stack.rows("acme")) > 1


def test_a_gateway_serves_on_the_socket_that_systemd_holds(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    with socket.create_server(("127.0.0.1", stack.port)) as held:
        words = 'exec 3<&"$1"; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" -m tenantry gateway'
        command = ["bash", "-c", words, sys.executable, str(held.fileno())]
        environ, cwd = os.environ | stack.environ, stack.folder
        first = subprocess.Popen(command, env=environ, cwd=cwd, pass_fds=[held.fileno()])
        second = None
        try:
            key = stack.tenant("acme")
            assert stack.get(key, "/v1/nothing")[0] == 404
            # A second one takes its place, and the first ends by itself.
            second = subprocess.Popen(command, env=environ, cwd=cwd, pass_fds=[held.fileno()])
            assert first.wait(PATIENCE_SECONDS) == 0
            assert stack.get(key, "/v1/nothing")[0] == 404
        finally:
            for process in (first, second):
                if process is not None and process.poll() is None:
                    process.terminate()
                    process.wait(PATIENCE_SECONDS)
            stack.stop()
