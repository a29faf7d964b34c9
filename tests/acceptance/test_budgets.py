"""A budget holds, whatever is asked of it; and the counters are those of the ledger."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import pytest

from tests.stack import Stack, read_all, request, wait_for

MESSAGE = {"model": "claude-sonnet-5-5", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}


def budget(stack: Stack, slug: str, nanos: int | None, mode: str = "hard") -> None:
    stack.site.directory.set_budgets(slug, {"month": nanos}, mode)
    stack.follow()


def spent(stack: Stack, slug: str) -> int:
    return sum(row["cost_nanos"] or 0 for row in stack.rows(slug))


def standing(stack: Stack, slug: str) -> dict[str, Any]:
    tenant_id = stack.site.directory.get_tenant(slug).tenant_id
    return stack.lanes().get("tenants", {}).get(tenant_id, {})


def is_settled(stack: Stack, slug: str) -> bool:
    """Nothing is held, and the counters are the ledger's."""
    found = standing(stack, slug)
    return bool(found) and found["held_nanos"] == 0 and found["spent_nanos"].get("month") == spent(stack, slug)


def price_of_one(stack: Stack, key: str, slug: str, **fields: Any) -> int:
    assert stack.message(key, **(MESSAGE | fields))[0] == 200
    rows = wait_for(lambda: stack.rows(slug), what="the row")
    return rows[-1]["cost_nanos"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("clients", [1, 8, 64, 200, 512])
def test_no_budget_is_passed_at_any_concurrency(stack: Stack, clients: int, stream: bool) -> None:
    slug = f"cap-{clients}-{'stream' if stream else 'whole'}"
    key = stack.tenant(slug, sessions_max=1000, queue_depth_max=1000)
    one = price_of_one(stack, key, slug, stream=stream)
    cap = one * 50
    budget(stack, slug, cap)
    deadline = time.monotonic() + 120
    served = 0
    lock = threading.Lock()

    def work(_: int) -> None:
        nonlocal served
        while time.monotonic() < deadline:
            try:
                status, _fields, body = stack.message(key, **(MESSAGE | {"stream": stream}))
            except OSError:
                continue
            if status == 200:
                with lock:
                    served += 1
                continue
            error = json.loads(body)["error"]["type"]
            assert (status, error) in ((402, "billing_error"), (429, "rate_limit_error")), body
            if status == 402:
                return
            time.sleep(0.05 + clients / 2000)  # the rest is held by others in flight

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, range(clients)))
    wait_for(lambda: is_settled(stack, slug), what="the counters to be the ledger's")
    assert spent(stack, slug) <= cap
    # What is left over is less than what one more request has to hold.
    assert served >= 30


def test_a_reached_budget_says_how_much_until_when_and_whom_to_ask(tmp_path: Any) -> None:
    stack = Stack(tmp_path, TENANTRY_CONTACT="ops@agency.example", TENANTRY_TIME_ZONE="Europe/Berlin").start()
    try:
        key = stack.tenant("reached")
        budget(stack, "reached", 1)
        status, fields, body = stack.message(key)
        error = json.loads(body)["error"]
        assert (status, error["type"], fields["x-should-retry"]) == (402, "billing_error", "false")
        assert fields["anthropic-ratelimit-unified-status"] == "rejected"
        assert int(fields["retry-after"]) > 0
        for words in ("$0.000000001", "monthly budget", "CE", "ops@agency.example"):
            assert words in error["message"]
        with (
            anthropic.Anthropic(base_url=f"http://127.0.0.1:{stack.port}", api_key=key) as client,
            pytest.raises(anthropic.PaymentRequiredError, match="budget"),
        ):
            client.messages.create(**MESSAGE)
        assert stack.billed() == []
        # The same client goes on when the agency raises it.
        budget(stack, "reached", 10**9)
        wait_for(lambda: stack.message(key)[0] == 200, what="the raised budget")
        status, fields, _ = stack.message(key)
        assert fields["anthropic-ratelimit-unified-status"] == "allowed"
        assert fields["anthropic-ratelimit-unified-overage-utilization"] == "0.00"
    finally:
        stack.stop()


def test_a_stream_whose_next_step_does_not_fit_ends_with_a_billing_error_event(stack: Stack) -> None:
    key = stack.tenant("step")
    # Enough for the first hold (3,072 tokens of output at $10 a million, and the prompt), not for 20,000 tokens.
    budget(stack, "step", 80_000_000)
    headers = {"x-api-key": key, "x-sandbox-scenario": "chunks=400;chunk-ms=2;answer-bytes=80000"}
    body = json.dumps(MESSAGE | {"stream": True, "max_tokens": 128_000}).encode()
    status, _, answer = stack.call("POST", "/v1/messages", headers, body)
    assert status == 200
    assert b"event: error" in answer
    assert b"billing_error" in answer
    assert b"message_stop" not in answer
    assert answer.endswith(b"\n\n")
    row = wait_for(lambda: stack.rows("step"), what="the row")[0]
    assert (row["outcome"], row["error"]) == ("estimated", "budget_reached")
    assert 0 < row["cost_nanos"] <= 80_000_000
    wait_for(lambda: is_settled(stack, "step"), what="the counters")
    assert stack.message(key, max_tokens=8)[0] in (200, 402)


def test_claude_code_with_128000_max_tokens_works_on_a_five_dollar_budget(stack: Stack) -> None:
    key = stack.tenant("coder")
    budget(stack, "coder", 5 * 10**9)
    prompt = "def f(x):\n    return x\n" * 2100  # 49 kB, as measured (reference 7.5)
    body = MESSAGE | {
        "model": "claude-opus-5-5",
        "max_tokens": 128_000,
        "stream": True,
        "messages": [{"role": "user", "content": prompt}],
    }
    for _ in range(10):
        status, _, answer = stack.message(key, **body)
        assert status == 200
        assert b"message_stop" in answer
    wait_for(lambda: is_settled(stack, "coder"), what="the counters")
    assert spent(stack, "coder") < 5 * 10**9


def test_a_prompt_whose_bytes_do_not_fit_is_counted_upstream_and_served(stack: Stack) -> None:
    key = stack.tenant("counted")
    prompt = "word " * 20_000  # 100 kB: at most 100,000 tokens, really a quarter
    fields = {"max_tokens": 8, "messages": [{"role": "user", "content": prompt}]}
    budget(stack, "counted", 100_000_000)  # $0.10; 100,000 tokens of Sonnet 5.5 would be $0.20
    assert stack.message(key, **fields)[0] == 200
    status, _, body = stack.message(key, **fields)
    assert (status, json.loads(body)["error"]["type"]) == (402, "billing_error")
    wait_for(lambda: is_settled(stack, "counted"), what="the counters")
    assert len(stack.rows("counted")) == 1


def test_a_soft_budget_lets_pass_and_says_so(stack: Stack) -> None:
    key = stack.tenant("soft")
    budget(stack, "soft", 1, "soft")
    stack.message(key)
    status, fields, _ = stack.message(key)
    assert (status, fields["anthropic-ratelimit-unified-status"]) == (200, "allowed_warning")


def test_a_key_has_a_budget_of_its_own_within_its_tenants(stack: Stack) -> None:
    directory = stack.site.directory
    key = stack.tenant("family")
    child = directory.issue_key("family", "child")
    directory.set_budgets("family", {"day": 1}, key_id=child.key_id)
    wait_for(lambda: stack.message(child.text)[0] == 402, what="the key's budget")
    assert b"daily budget" in stack.message(child.text)[2].lower()  # it may have been served once before
    assert stack.message(key)[0] == 200


def test_what_was_spent_before_a_kill_counts_after_it_from_the_first_request_on(own_stack: Stack) -> None:
    stack = own_stack.start()
    key = stack.tenant("killed")
    one = price_of_one(stack, key, "killed")
    stack.kill("control")  # nothing is booked from here on: the journal alone knows
    cap = one * 20
    budget(stack, "killed", cap)
    for _ in range(6):
        assert stack.message(key)[0] == 200
    streaming = stack.connect()
    body = json.dumps(MESSAGE | {"stream": True}).encode()
    headers = {"x-api-key": key, "x-sandbox-scenario": "chunks=4000;chunk-ms=20"}
    streaming.sendall(request("POST", "/v1/messages", headers, body))
    wait_for(lambda: len(stack.billed()) == 8, what="the stream")
    assert streaming.recv(1)
    stack.kill("gateway")
    streaming.close()
    stack.start("gateway")
    found = wait_for(lambda: stack.message(key)[0] and standing(stack, "killed"), what="the counters")
    assert found["spent_nanos"]["month"] >= 7 * one
    for _ in range(30):
        stack.message(key)
    stack.start("control")
    wait_for(lambda: is_settled(stack, "killed"), what="the counters to be the ledger's")
    assert spent(stack, "killed") <= cap


def test_a_client_that_leaves_is_settled_or_cut_off_as_its_tenant_says(stack: Stack) -> None:
    for how in ("drain", "cancel"):
        slug = f"leaver-{how}"
        key = stack.tenant(slug)
        stack.site.directory.set_tenant(slug, _disconnect(how))
        budget(stack, slug, 10**9)
        client = stack.connect()
        headers = {"x-api-key": key, "x-sandbox-scenario": "chunks=200;chunk-ms=20"}
        client.sendall(request("POST", "/v1/messages", headers, json.dumps(MESSAGE | {"stream": True}).encode()))
        client.recv(100)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
        row = wait_for(lambda slug=slug: stack.rows(slug), what="the row")[0]
        assert (row["error"], row["outcome"]) == (
            ("client_gone", "settled") if how == "drain" else ("client_gone_cancelled", "estimated")
        )
        wait_for(lambda slug=slug: is_settled(stack, slug), what="the counters")


def _disconnect(how: str) -> Any:
    from tenantry.storage.directory.tenants import TenantChange

    return TenantChange(disconnect=how)


def test_sigterm_in_mid_stream_leaves_no_money_held(tmp_path: Any) -> None:
    stack = Stack(tmp_path, TENANTRY_DRAIN_SECONDS="0.3").start()
    try:
        key = stack.tenant("stopped")
        budget(stack, "stopped", 10**9)
        client = stack.connect()
        headers = {"x-api-key": key, "x-sandbox-scenario": "chunks=4000;chunk-ms=20"}
        client.sendall(request("POST", "/v1/messages", headers, json.dumps(MESSAGE | {"stream": True}).encode()))
        client.recv(100)
        assert stack.kill("gateway", signal.SIGTERM) == 0
        answer = read_all(client)
        client.close()
        assert b"overloaded_error" in answer or b"api_error" in answer
        row = wait_for(lambda: stack.rows("stopped"), what="the row")[0]
        assert row["error"] == "gateway_stopping"
    finally:
        stack.stop()
