"""Upstream trouble: absorbed where it can be, told honestly where it cannot, never amplified."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import pytest

from tests.stack import Stack, free_ports, wait_for

BODY = json.dumps(
    {"model": "claude-sonnet-5-5", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}
).encode()


def ask(stack: Stack, key: str, scenario: str, tag: str = "", **more: str) -> tuple[int, dict[str, str], bytes]:
    headers = {"x-api-key": key, "x-sandbox-scenario": scenario, "x-sandbox-tag": tag, **more}
    return stack.call("POST", "/v1/messages", headers, BODY)


def outcomes(stack: Stack, slug: str, count: int) -> list[tuple[int | None, str]]:
    rows = wait_for(lambda: (found := stack.rows(slug)) and len(found) >= count and found, what=f"{count} rows")
    return [(row["status"], row["outcome"]) for row in rows]


@pytest.mark.parametrize("fault", ["error=500", "error=503", "error=529", "error=429;retry-after=1", "error=408"])
def test_a_passing_fault_is_absorbed_and_each_attempt_is_a_row(stack: Stack, fault: str) -> None:
    slug = "passing-" + fault.partition(";")[0].partition("=")[2]
    key = stack.tenant(slug)
    started = time.monotonic()
    status, fields, _ = ask(stack, key, f"{fault};fail-times=1", slug)
    assert status == 200
    assert "x-should-retry" not in fields
    if "retry-after" in fault:
        assert time.monotonic() - started >= 1.0  # to the letter
    found = outcomes(stack, slug, 2)
    assert [outcome for _, outcome in found] == ["voided", "settled"]
    attempts = [row["attempt_id"] for row in stack.rows(slug)]
    assert [attempt[-2:] for attempt in attempts] == ["_1", "_2"]
    assert len({row["request_id"] for row in stack.rows(slug)}) == 1


def test_a_dropped_connection_before_the_answer_is_tried_again(stack: Stack) -> None:
    key = stack.tenant("dropped")
    assert ask(stack, key, "drop-before-head;fail-times=1", "dropped")[0] == 200
    assert [outcome for _, outcome in outcomes(stack, "dropped", 2)] == ["estimated", "settled"]


def test_when_retries_are_used_up_the_client_is_told_not_to_repeat(stack: Stack) -> None:
    key = stack.tenant("lasting")
    status, fields, body = ask(stack, key, "error=529")
    assert (status, fields["x-should-retry"]) == (529, "false")
    assert json.loads(body)["error"]["type"] == "overloaded_error"
    assert outcomes(stack, "lasting", 3) == [(529, "voided")] * 3


@pytest.mark.parametrize("fault", ["error=400", "error=401", "error=403", "error=404", "error=413"])
def test_what_is_wrong_in_itself_is_not_tried_again(stack: Stack, fault: str) -> None:
    slug = "wrong-" + fault.partition("=")[2]
    key = stack.tenant(slug)
    status, fields, body = ask(stack, key, fault)
    assert status == int(fault.partition("=")[2])
    assert "x-should-retry" not in fields
    assert b"simulated error" in body
    assert len(stack.final_rows(slug)) == 1


def test_a_client_that_retries_itself_is_not_multiplied(stack: Stack) -> None:
    key = stack.tenant("itself")
    assert ask(stack, key, "error=529", **{"x-stainless-retry-count": "2"})[0] == 529
    assert len(stack.final_rows("itself")) == 1


def test_a_retry_count_of_thousands_of_digits_is_no_number(stack: Stack) -> None:
    key = stack.tenant("digits")
    assert ask(stack, key, "", **{"x-stainless-retry-count": "9" * 5000})[0] == 200


def test_a_pause_that_is_longer_than_the_deadline_is_left_to_the_client(stack: Stack) -> None:
    key = stack.tenant("long-pause", secret="sandbox-canary-long-pause")
    status, fields, _ = ask(stack, key, "error=429;retry-after=1200")
    assert (status, fields["retry-after"]) == (429, "1200")
    assert "x-should-retry" not in fields
    # The upstream's word is kept for those that come after, without asking it again.
    status, fields, body = ask(stack, key, "")
    assert status == 429
    assert 1100 <= int(fields["retry-after"]) <= 1200
    assert b"upstream asked for a pause" in body
    assert len(stack.final_rows("long-pause")) == 1


def test_total_failure_costs_at_most_1_2_attempts_a_request_and_3(own_stack: Stack) -> None:
    stack = own_stack.start()
    key = stack.tenant("storm")
    requests = 60
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: ask(stack, key, "error=500"), range(requests)))
    assert {status for status, _, _ in answers} == {500}
    rows = stack.final_rows("storm", requests)
    assert requests <= len(rows) <= 1.2 * requests + 3
    assert {row["outcome"] for row in rows} == {"voided"}


def test_a_spend_cap_marks_the_credential_until_its_date_and_a_new_secret_brings_it_back(stack: Stack) -> None:
    key = stack.tenant("spent", secret="sandbox-canary-spent")
    status, fields, body = ask(stack, key, "spend-cap")
    assert (status, fields["x-should-retry"]) == (429, "false")
    assert b"regain access" in body
    status, fields, body = ask(stack, key, "")
    assert (status, fields["x-should-retry"]) == (429, "false")
    assert b"2030-01-01" in body
    assert len(stack.final_rows("spent")) == 1
    dead = wait_for(lambda: stack.lanes().get("health", {}).get("credentials_dead"), what="the health fact")
    assert dead["spent"].startswith("2030-01-01")
    stack.site.directory.replace_secret("spent", "sandbox-canary-spent-anew")
    wait_for(lambda: ask(stack, key, "")[0] == 200, what="the new secret")


def test_a_second_credential_takes_over(stack: Stack) -> None:
    directory = stack.site.directory
    key = stack.tenant("two-keys", secret="sandbox-canary-first")
    directory.add_credential("two-keys-spare", "sandbox-canary-spare", "sandbox")
    directory.bind_credential("two-keys", "two-keys-spare", as_fallback=True)
    stack.follow()
    # The fault is in the first credential only: the sandbox fails the first request with this tag.
    assert ask(stack, key, "error=401;fail-times=1", "two-keys")[0] == 200
    names = {row.credential_id: row.name for row in directory.list_credentials()}
    used = [
        names[row["credential_id"]]
        for row in wait_for(lambda: len(stack.rows("two-keys")) == 2 and stack.rows("two-keys"))
    ]
    assert used == ["two-keys", "two-keys-spare"]


class Upstream:
    """A Messages API of its own making on a loopback port, that can be stopped and started."""

    def __init__(self, answer: str = "mine") -> None:
        (self.port,) = free_ports(1)
        self.answer = answer
        self.accepted = 0
        self._listener: socket.socket | None = None

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            data = b""
            while b"\r\n\r\n" not in data:
                part = client.recv(65536)
                if not part:
                    return
                data += part
            message: dict[str, Any] = {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "claude-sonnet-5-5",
                "content": [{"type": "text", "text": self.answer}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 3, "output_tokens": 2},
            }
            body = json.dumps(message).encode()
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            client.sendall(head.encode() + b"connection: close\r\n\r\n" + body)


def test_a_dead_upstream_costs_one_probe_a_second_and_comes_back_by_itself(own_stack: Stack) -> None:
    stack, upstream = own_stack.start("gateway", "control"), Upstream()
    directory = stack.site.directory
    directory.set_upstream("own", f"http://127.0.0.1:{upstream.port}")
    directory.create_tenant("probe", "probe", "enterprise")
    directory.set_tier("enterprise", {"requests_per_minute": None})
    directory.add_credential("own", "sandbox-own-credential", "own")
    directory.bind_credential("probe", "own")
    key = directory.issue_key("probe", "test").text
    wait_for(lambda: ask(stack, key, "")[0] == 529, what="the key")
    for _ in range(4):
        ask(stack, key, "")
    wait_for(lambda: stack.lanes().get("health", {}).get("upstreams_down") == ["own"], what="the breaker")
    before, started = len(stack.final_rows("probe")), time.monotonic()
    for _ in range(300):
        assert ask(stack, key, "")[0] == 529
    # A probe a second, of three attempts at most; hundreds of attempts would be here without.
    probes_max = time.monotonic() - started + 2
    assert len(stack.final_rows("probe")) - before <= 3 * probes_max
    wait_for(lambda: stack.lanes()["health"]["upstreams_down"] == ["own"], what="the breaker")
    upstream.start()
    wait_for(lambda: ask(stack, key, "")[0] == 200, what="the recovery")
    upstream.stop()


def test_another_upstream_is_one_command_and_no_change_for_the_client(stack: Stack) -> None:
    upstream = Upstream("from elsewhere")
    upstream.start()
    key = stack.tenant("mover", secret="sandbox-canary-mover")
    base_url = f"http://127.0.0.1:{stack.port}/t/mover"

    def text() -> str:
        with anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0) as client:
            message = client.messages.create(
                model="claude-sonnet-5-5", max_tokens=8, messages=[{"role": "user", "content": "hi"}]
            )
        return message.content[0].text

    assert "simulated" in text()
    stack.site.directory.set_upstream("elsewhere", f"http://127.0.0.1:{upstream.port}")
    stack.site.directory.move_credential("mover", "elsewhere")
    wait_for(lambda: text() == "from elsewhere", what="the other upstream")
    upstream.stop()


@pytest.mark.parametrize(
    "scenario",
    ["hang", "half-head", "drop-before-head", "garbage", "bad-length", "drop-midstream", "drop-mid-event", "error=429"],
)
def test_after_any_fault_every_counter_is_at_zero(stack: Stack, scenario: str) -> None:
    slug = "zero-" + scenario.replace("=", "-")
    key = stack.tenant(slug, sessions_max=3, queue_wait_ms_max=1000)
    stream = BODY.replace(b'"max_tokens"', b'"stream": true, "max_tokens"')
    clients: list[socket.socket] = []
    for number in range(6):  # three are served, three wait; all leave
        client = stack.connect()
        head = f"POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\nx-sandbox-scenario: {scenario}\r\n"
        client.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(stream) + stream)
        clients.append(client)
        if number % 2:
            client.shutdown(socket.SHUT_WR)
    tenant_id = stack.site.directory.get_tenant(slug).tenant_id
    wait_for(lambda: stack.rows(slug) or tenant_id in stack.lanes().get("tenants", {}), what="the requests")
    for client in clients:
        client.close()
    if scenario == "hang":
        # The answers are waited for, for the bill; the gateway ends them when the key goes.
        stack.site.directory.revoke_key(stack.site.directory.list_keys(slug)[0].key_id)

    def idle() -> bool:
        use = stack.lanes().get("tenants", {}).get(tenant_id)
        return time.time() - stack.lanes()["at"] < 2 and (use is None or use["sessions"] == use["waiting"] == 0)

    wait_for(idle, what="the counters")
    began = wait_for(lambda: stack.rows(slug), what="the rows")
    assert Counter(row["attempt_id"] for row in began).most_common(1)[0][1] == 1
