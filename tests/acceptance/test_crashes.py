"""Nothing forwarded is ever unaccounted: the sandbox's own log is the judge."""

import asyncio
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tenantry.domain.prices import load_default_prices
from tenantry.domain.usage import Usage
from tenantry.ledger.events import RunReader
from tenantry.ledger.verification import verify
from tenantry.sandbox.log import read_log
from tests.stack import PATIENCE_SECONDS, Stack, dechunk, parse, read_all, request, wait_for

STREAM = json.dumps(
    {"model": "claude-sonnet-5-5", "max_tokens": 8, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
).encode()


def open_streams(stack: Stack, key: str, count: int, scenario: str) -> list[socket.socket]:
    clients = []
    for number in range(count):
        client = stack.connect()
        headers = {"x-api-key": key, "x-sandbox-scenario": scenario, "x-sandbox-tag": str(number)}
        client.sendall(request("POST", "/v1/messages", headers, STREAM))
        clients.append(client)
    return clients


def told_in_journal(stack: Stack) -> int:
    """Attempts of living gateways whose journal says how they go on."""
    readers = [RunReader(folder) for folder in stack.settings.journal_dir.iterdir()]
    for reader in readers:
        reader.read()
    return sum(one.progress is not None for reader in readers for one in reader.fold.open.values())


def close_all(clients: list[socket.socket]) -> None:
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Processes that start as they do outside of tests."""
    running = Stack(tmp_path_factory.mktemp("cold"))
    running.cold = True
    running.start()
    yield running
    running.stop()


def test_kill_9_in_the_middle_of_50_streams_leaves_one_row_for_each(own_stack: Stack) -> None:
    stack = own_stack.start()
    key = stack.tenant("acme")
    finished = stack.message(key)
    assert finished[0] == 200
    clients = open_streams(stack, key, 50, "chunks=9000;chunk-ms=20")
    wait_for(lambda: len(stack.billed()) == 51, what="all streams upstream")
    wait_for(lambda: told_in_journal(stack) == 50, what="what they cost so far, in the journal")
    stack.kill("gateway")
    close_all(clients)
    stack.start("gateway")
    rows = stack.final_rows("acme", 51)
    assert Counter(row["outcome"] for row in rows) == {"settled": 1, "orphaned": 50}
    ids = [row["upstream_request_id"] for row in rows]
    assert sorted(ids) == sorted(entry["request_id"] for entry in stack.billed())
    # What the streams had said before the crash is in the rows: their input is known, so it is priced.
    assert all(row["input_tokens"] > 0 and row["cost_nanos"] > 0 for row in rows)
    assert stack.message(key)[0] == 200


def sandbox_bill_nanos(stack: Stack) -> int:
    """What all answers have cost at least: the prompt of each that began, and the output of each that was finished."""
    entries = read_log(stack.sandbox_log)
    written = {entry["request_id"]: entry["output_tokens"] for entry in entries if entry["event"] == "end"}
    prices, now = load_default_prices(), datetime.now(UTC)
    bills = (
        prices.price(
            Usage(input_tokens=entry["input_tokens"], output_tokens=written.get(entry["request_id"], 0)),
            entry["model"],
            now,
        )
        for entry in entries
        if entry["event"] == "begin"
    )
    return sum(bill.cost_nanos or 0 for bill in bills)


def test_whole_answers_in_flight_at_a_kill_cost_what_they_were_billed(own_stack: Stack) -> None:
    """Without a budget: nothing of an answer that is not streamed was told before the kill."""
    stack = own_stack.start()
    key = stack.tenant("acme")
    clients = [stack.connect() for _ in range(20)]
    body = STREAM.replace(b'"stream": true, ', b"")
    for client in clients:
        client.sendall(request("POST", "/v1/messages", {"x-api-key": key, "x-sandbox-scenario": "hang"}, body))
    wait_for(lambda: len(stack.billed()) == 20, what="all requests upstream")
    stack.kill("gateway")
    close_all(clients)
    stack.start("gateway")
    wait_for(lambda: len(stack.rows("acme")) == 20, what="the rows")
    assert sum(row["cost_nanos"] for row in stack.rows("acme")) >= sandbox_bill_nanos(stack) > 0


# 200 by hand: TENANTRY_KILLS=200 .venv/bin/python -m pytest -n0 tests/acceptance/test_crashes.py -k storm
KILLS = int(os.environ.get("TENANTRY_KILLS", "30"))


def test_a_storm_of_kills_loses_and_doubles_nothing_and_leaves_no_money_held(own_stack: Stack) -> None:
    """kill -9 of gateway and control at random moments under mixed load; the sandbox's log is the judge."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    source = random.Random(seed)
    stack = own_stack.start()
    key = stack.tenant("acme")
    stack.site.directory.set_budgets("acme", {"month": 1000 * 10**9})
    stop = threading.Event()

    def work(number: int) -> None:
        calls = random.Random(seed + number)
        while not stop.is_set():
            try:
                stack.message(key, "chunks=3;chunk-ms=5", stream=calls.random() < 0.7)
            except OSError:
                time.sleep(0.01)  # the gateway is dead at the moment

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    try:
        for turn in range(KILLS):
            time.sleep(source.uniform(0.0, 0.6))
            name = "control" if turn % 4 == 3 else "gateway"
            stack.kill(name)
            stack.start(name)
        time.sleep(0.5)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    stack.kill("gateway")
    stack.start("gateway")
    wait_for(lambda: len(stack.rows("acme")) >= len(stack.billed()), what="every billed request in the ledger")
    rows = stack.final_rows("acme", len(stack.billed()))
    attempts = [row["attempt_id"] for row in rows]
    assert len(attempts) == len(set(attempts))
    told = Counter(row["upstream_request_id"] for row in rows if row["upstream_request_id"])
    billed = {entry["request_id"] for entry in stack.billed()}
    assert max(told.values()) == 1
    assert set(told) <= billed
    # A row without the upstream's id is an attempt that was cut before its answer's head; there is one for each.
    unnamed = sum(1 for row in rows if not row["upstream_request_id"])
    assert len(billed - set(told)) <= unnamed
    assert verify(stack.site.engine).faults == []
    assert sum(row["cost_nanos"] for row in rows) >= sandbox_bill_nanos(stack)
    assert stack.message(key)[0] == 200

    def counters_agree() -> bool:
        found = stack.lanes().get("tenants", {}).get(stack.site.directory.get_tenant("acme").tenant_id)
        spent = sum(row["cost_nanos"] or 0 for row in stack.rows("acme"))
        return found is not None and (found.get("held_nanos", 0), found.get("spent_nanos", {}).get("month")) == (
            0,
            spent,
        )

    wait_for(counters_agree, what="the counters to be the ledger's")


def test_no_kill_passes_a_budget_however_late_it_is_found(own_stack: Stack) -> None:
    """Streams that have told nothing and streams that go on, as many as a budget lets in; found dead a minute later."""
    stack = own_stack.start()
    body = STREAM.replace(b'"max_tokens": 8', b'"max_tokens": 64000')
    for turn in range(max(1, KILLS // 30)):
        slug = f"turn-{turn}"
        key = stack.tenant(slug)
        stack.site.directory.set_budgets(slug, {"month": (budget := 200_000_000 + 7_919 * turn)})
        stack.follow()
        clients = [stack.connect() for _ in range(12)]
        for number, client in enumerate(clients):
            scenario = "hang" if number % 2 else "chunks=5000;chunk-ms=20"
            client.sendall(request("POST", "/v1/messages", {"x-api-key": key, "x-sandbox-scenario": scenario}, body))
        tenant_id = stack.site.directory.get_tenant(slug).tenant_id
        held = wait_for(
            lambda: stack.lanes().get("tenants", {}).get(tenant_id, {}).get("held_nanos", 0),  # noqa: B023 -- at once
            what="money that is held",
        )
        assert 0 < held <= budget
        stack.kill("gateway")
        stack.kill("control")
        close_all(clients)
        for run in (one for one in stack.settings.journal_dir.iterdir() if (one / "lock").exists()):
            (mark := run / "found_dead").touch()  # its time says when that was
            os.utime(mark, ns=(0, time.time_ns() + 60 * 10**9))
        stack.start("gateway", "control")
        rows = stack.final_rows(slug)
        assert {row["outcome"] for row in rows} <= {"orphaned", "estimated", "voided"}
        assert 0 < sum(row["cost_nanos"] or 0 for row in rows) <= budget


def test_the_journal_is_written_before_the_first_upstream_byte(own_stack: Stack) -> None:
    """The order of system calls of a living gateway, as strace sees it."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed; `.ci/run` installs it")
    stack = own_stack.start()
    key = stack.tenant("order")
    trace = stack.folder / "trace"
    command = ["strace", "-f", "-s", "256", "-e", "trace=write,writev,sendto,sendmsg,sendmmsg", "-o", str(trace)]
    tracer = subprocess.Popen(
        [*command, "-p", str(stack.processes["gateway"].pid)], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        if b"ermitted" in said:
            pytest.skip("tracing is not permitted here")
        assert b"attached" in said
        for _ in range(5):
            assert stack.message(key)[0] == 200
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(PATIENCE_SECONDS)
        if tracer.stderr is not None:
            tracer.stderr.close()
    lines = trace.read_text().splitlines()
    order = [
        "journal" if '{\\"begin\\"' in line else "upstream"
        for line in lines
        if '{\\"begin\\"' in line or '"POST /v1/messages' in line
    ]
    assert order == ["journal", "upstream"] * 5


def test_sigterm_lets_streams_end_and_books_them(own_stack: Stack) -> None:
    stack = own_stack.start()
    key = stack.tenant("acme")
    clients = open_streams(stack, key, 5, "chunks=20;chunk-ms=40")
    wait_for(lambda: len(stack.billed()) == 5, what="all streams upstream")
    answers: list[bytes] = []
    readers = [threading.Thread(target=lambda client=client: answers.append(read_all(client))) for client in clients]
    for reader in readers:
        reader.start()
    assert stack.kill("gateway", signal.SIGTERM) == 0
    for reader in readers:
        reader.join()
    close_all(clients)
    assert all(b"event: message_stop" in answer for answer in answers)
    rows = wait_for(lambda: (found := stack.rows("acme")) and len(found) == 5 and found, what="the rows")
    assert {row["outcome"] for row in rows} == {"settled"}


def test_a_stream_beyond_the_drain_ends_with_an_error_event_and_an_estimate(tmp_path: Path) -> None:
    stack = Stack(tmp_path, TENANTRY_DRAIN_SECONDS="0.5").start()
    try:
        key = stack.tenant("acme")
        (client,) = open_streams(stack, key, 1, "chunks=1000;chunk-ms=50")
        answer = b""
        while b"content_block_delta" not in answer:
            answer += client.recv(65536)
        assert stack.kill("gateway", signal.SIGTERM) == 0
        answer += read_all(client)
        client.close()
        body = b"".join(dechunk(answer.partition(b"\r\n\r\n")[2]))
        assert body.endswith(b"}\n\n")
        assert b"event: error" in body
        row = wait_for(lambda: stack.rows("acme"), what="the row")[0]
        assert (row["outcome"], row["error"]) == ("estimated", "gateway_stopping")
        assert row["output_tokens"] > 0
    finally:
        stack.stop()


@pytest.mark.parametrize(
    ("scenario", "status", "outcome"),
    [
        ("error=500", 500, "voided"),
        ("error=529", 529, "voided"),
        ("error=429;retry-after=7", 429, "voided"),
        ("drop-before-head", 529, "estimated"),
        ("half-head", 529, "estimated"),
        ("garbage", 502, "estimated"),
        ("web-search", 200, "settled"),
        ("fast-us", 200, "unpriced"),
        ("refusal", 200, "settled"),
    ],
)
def test_each_fate_of_an_attempt_is_one_row(stack: Stack, scenario: str, status: int, outcome: str) -> None:
    slug = "fate-" + scenario.partition(";")[0].replace("=", "-")
    key = stack.tenant(slug)
    headers = {"x-api-key": key, "x-sandbox-scenario": scenario, "x-stainless-retry-count": "2"}  # its last attempt
    body = STREAM.replace(b'"stream": true, ', b"")
    assert stack.call("POST", "/v1/messages", headers, body)[0] == status
    rows = wait_for(lambda: stack.rows(slug), what="the row")
    # A connection that was used before and is dropped gets a second attempt at once, on a fresh one.
    assert {row["outcome"] for row in rows} == {outcome}
    assert len(rows) <= (2 if scenario == "drop-before-head" else 1)


def test_upstream_and_client_cut_at_every_event_boundary_leave_one_row_each_and_no_money_held(stack: Stack) -> None:
    key = stack.tenant("boundaries")
    stack.site.directory.set_budgets("boundaries", {"month": 10**12})
    stack.follow()
    whole = stack.message(key, "chunks=4", stream=True, max_tokens=64)[2]
    events = whole.count(b"\n\n")
    for number in range(events):
        status, _, answer = stack.message(key, f"chunks=4;cut-after={number}", stream=True, max_tokens=64)
        assert status == 200
        assert answer.endswith(b"}\n\n")
        # After message_stop nothing is missing; before it the client is told.
        assert (b"event: error" in answer) is (b"message_stop" not in answer)
    for number in range(events):
        client = stack.connect()
        headers = {"x-api-key": key, "x-sandbox-scenario": "chunks=4;chunk-ms=3"}
        client.sendall(request("POST", "/v1/messages", headers, STREAM))
        seen = b""
        while seen.count(b"\n\n") <= number and (part := client.recv(4096)):
            seen += part
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
    asked = 1 + 2 * events
    rows = stack.final_rows("boundaries", asked)
    assert len(rows) == len({row["attempt_id"] for row in rows}) == asked
    assert {row["outcome"] for row in rows} <= {"settled", "estimated", "voided"}
    tenant_id = stack.site.directory.get_tenant("boundaries").tenant_id

    def settled() -> bool:
        found = stack.lanes().get("tenants", {}).get(tenant_id, {})
        spent = sum(row["cost_nanos"] or 0 for row in rows)
        return (found.get("held_nanos", 0), found.get("spent_nanos", {}).get("month")) == (0, spent)

    wait_for(settled, what="the counters")


def test_a_journal_that_cannot_grow_refuses_forwards_nothing_and_recovers_by_itself(own_stack: Stack) -> None:
    stack = own_stack.start()
    key = stack.tenant("full")
    for _ in range(3):
        assert stack.message(key)[0] == 200
    pid, billed = stack.processes["gateway"].pid, len(stack.billed())
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, hard))  # as on a full disk: the next line does not fit
    status, fields, body = stack.message(key)
    assert (status, fields["retry-after"]) == (503, "1")
    assert b"cannot record requests" in body
    assert stack.message(key)[0] == 503
    assert len(stack.billed()) == billed
    wait_for(lambda: stack.get(key, "/v1/models")[0] == 200, what="what is free to go on")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    wait_for(lambda: stack.message(key)[0] == 200, what="the recovery")
    wait_for(lambda: len(stack.rows("full")) == len(stack.billed()), what="a row for each")


def test_a_wrong_length_closes_the_connection_short(stack: Stack) -> None:
    key = stack.tenant("short")
    headers = {"x-api-key": key, "x-sandbox-scenario": "bad-length", "connection": "close"}
    answer = stack.raw(request("POST", "/v1/messages", headers, STREAM.replace(b'"stream": true, ', b"")))
    _, fields, body = parse(answer)
    assert len(body) < int(fields["content-length"])


def test_an_upstream_that_refuses_connections_is_529_and_void(stack: Stack) -> None:
    key = stack.tenant("nowhere")
    directory = stack.site.directory
    directory.set_upstream("dead", "http://127.0.0.1:9")
    directory.add_credential("dead", "sandbox-canary-dead", "dead")
    directory.bind_credential("nowhere", "dead")
    wait_for(lambda: stack.message(key)[0] == 529, what="the change of upstream")
    row = wait_for(lambda: [row for row in stack.rows("nowhere") if row["error"] == "connect_failed"], what="the row")[
        0
    ]
    assert (row["outcome"], row["cost_nanos"]) == ("voided", 0)


def test_sessions_are_limited_and_always_given_back(stack: Stack) -> None:
    key = stack.tenant("five", sessions_max=5, queue_wait_ms_max=0)
    for _ in range(2):
        clients = open_streams(stack, key, 5, "chunks=150;chunk-ms=20")
        wait_for(lambda: stack.message(key)[0] == 429, what="the limit")
        status, fields, body = stack.message(key)
        assert (status, int(fields["retry-after"]) >= 1) == (429, True)
        assert b"limited to 5 requests in flight" in body
        for client in clients[:2]:  # some vanish, some finish
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            client.close()
        for client in clients[2:]:
            client.shutdown(socket.SHUT_WR)
            assert read_all(client).endswith(b"0\r\n\r\n")
            client.close()
        wait_for(lambda: stack.message(key)[0] == 200, what="a session")


def test_two_tenants_in_parallel_are_never_mixed(stack: Stack) -> None:
    import hashlib

    secrets = {slug: f"sandbox-canary-{slug}" for slug in ("left", "right")}
    keys = {slug: stack.tenant(slug, secret=secret) for slug, secret in secrets.items()}
    before = len(stack.billed())

    async def one(slug: str, number: int) -> None:
        status, _, body = await asyncio.to_thread(
            stack.call,
            "POST",
            f"/t/{slug}/v1/messages",
            {"x-api-key": keys[slug], "x-sandbox-tag": slug, "x-sandbox-scenario": "chunks=5;chunk-ms=1"},
            STREAM.replace(b"hi", f"{slug} {number}".encode()),
        )
        assert status == 200
        assert b"message_stop" in body

    async def run() -> None:
        await asyncio.gather(*(one(slug, number) for number in range(60) for slug in secrets))

    asyncio.run(run())
    entries = stack.billed()[before:]
    assert len(entries) == 120
    for entry in entries:
        assert entry["credential"] == hashlib.sha256(secrets[entry["tag"]].encode()).hexdigest()[:12]
    for slug in secrets:
        rows = wait_for(lambda slug=slug: (found := stack.rows(slug)) and len(found) == 60 and found, what="the rows")
        credential = next(row for row in stack.site.directory.list_credentials() if row.name == slug)
        assert {row["credential_id"] for row in rows} == {credential.credential_id}


def test_no_secret_is_left_in_any_file(stack: Stack) -> None:
    key = stack.tenant("canary", secret="sandbox-canary-secret-of-canary")
    assert stack.message(key)[0] == 200
    wait_for(lambda: stack.rows("canary"), what="the row")
    for path in stack.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert key.encode() not in content, path
            assert b"sandbox-canary-secret-of-canary" not in content, path
    for process in stack.processes.values():
        assert b"canary" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
