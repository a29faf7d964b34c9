"""What a tenant may ask for, and prompt budgeting, through a running gateway."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.stack import Stack, wait_for


def error_of(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str, str]:
    status, _, body = answer
    error = json.loads(body)["error"]
    return status, error["type"], error["message"]


def test_a_model_that_is_not_allowed_is_400_and_names_those_that_are(stack: Stack) -> None:
    key = stack.tenant("models", models=("claude-haiku-*", "claude-sonnet-5-5"))
    assert stack.message(key)[0] == 200
    status, kind, message = error_of(stack.message(key, model="claude-opus-5-5"))
    assert (status, kind) == (400, "invalid_request_error")
    for words in ("claude-opus-5-5", "claude-haiku-5-5", "claude-sonnet-5-5"):
        assert words in message
    body = b'{"model":"claude-haiku-5-5","max_tokens":8,"messages":[],"model":"claude-opus-5-5"}'
    assert stack.call("POST", "/v1/messages", {"x-api-key": key}, body)[0] == 400


def test_max_tokens_is_capped_or_refused(stack: Stack) -> None:
    capped = stack.tenant("capped", max_tokens_cap=5)
    assert stack.message(capped, max_tokens=128_000)[0] == 200
    assert stack.billed()[-1]["max_tokens"] == 5
    assert stack.message(capped, max_tokens=4)[0] == 200
    assert stack.billed()[-1]["max_tokens"] == 4
    refused = stack.tenant("refused", max_tokens_cap=5, max_tokens_policy="refuse")
    status, _, message = error_of(stack.message(refused, max_tokens=6))
    assert status == 400
    assert "5" in message


@pytest.mark.parametrize(
    ("limit", "allowed", "field"),
    [
        ("speeds", ("standard",), {"speed": "fast"}),
        ("inference_geos", ("global",), {"inference_geo": "us"}),
        ("service_tiers", ("standard_only",), {"service_tier": "auto"}),
        ("server_tools", ("-",), {"tools": [{"type": "web_search_20260209", "name": "web_search"}]}),
    ],
)
def test_words_that_change_the_price_can_be_refused(
    stack: Stack, limit: str, allowed: tuple[str, ...], field: dict[str, Any]
) -> None:
    key = stack.tenant("words-" + limit.replace("_", "-"), **{limit: allowed})
    assert error_of(stack.message(key, **field))[0] == 400
    assert stack.billed() == [] or stack.message(key, service_tier="standard_only")[0] == 200


def test_a_context_that_is_too_large_is_refused_and_a_large_one_is_told(stack: Stack) -> None:
    key = stack.tenant("context", context_tokens_warn=500, context_tokens_max=5000)
    small = [{"role": "user", "content": "hi"}]
    large = [{"role": "user", "content": "word " * 1000}]
    huge = [{"role": "user", "content": "word " * 20_000}]
    assert "x-tenantry-warning" not in stack.message(key, messages=small)[1]
    assert "above 500" in stack.message(key, messages=large)[1]["x-tenantry-warning"]
    status, fields, body = stack.message(key, messages=huge)
    assert (status, fields["x-should-retry"], json.loads(body)["error"]["type"]) == (400, "false", "policy_blocked")


def test_a_tool_loop_that_runs_away_is_counted(stack: Stack) -> None:
    key = stack.tenant("looping", tool_depth_alert=3)
    turn = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}]},
    ]
    body = json.dumps({"model": "claude-sonnet-5-5", "max_tokens": 8, "messages": turn}).encode()
    headers = {"x-api-key": key, "x-claude-code-session-id": "7b0d3a6e"}
    for _ in range(4):
        assert stack.call("POST", "/v1/messages", headers, body)[0] == 200
    tenant_id = stack.site.directory.get_tenant("looping").tenant_id

    def counted() -> Any:
        with stack.site.engine.connect() as connection:
            rows = connection.exec_driver_sql("select tenant_id, reason, count from refusals").all()
        return [row for row in rows if row[0] == tenant_id and row[1] == "runaway_tool_loop"]

    assert wait_for(counted, what="the count")[0][2] == 1

    def told() -> Any:
        with stack.site.engine.connect() as connection:
            return connection.exec_driver_sql("select kind from alerts where kind = 'tool_loop'").all()

    wait_for(told, what="the alert")


def test_a_repeated_system_prompt_is_cached_when_the_tenant_wants_it_and_the_saving_is_booked(stack: Stack) -> None:
    key = stack.tenant("cached", auto_cache_system="on")
    system = "You answer shortly. " * 400
    for _ in range(3):
        assert stack.message(key, "cache", system=system)[0] == 200
    rows = wait_for(lambda: (found := stack.rows("cached")) and len(found) == 3 and found, what="the rows")
    assert rows[0]["saved_nanos"] is None  # the first is not known to be repeated
    assert rows[0]["cache_write_5m_tokens"] == rows[0]["cache_read_tokens"] == 0
    assert rows[1]["cache_write_5m_tokens"] > 0
    assert rows[1]["saved_nanos"] < 0  # the write is dearer
    assert rows[2]["cache_read_tokens"] > 0
    assert rows[2]["saved_nanos"] > 0
    assert sum(row["cost_nanos"] for row in rows[1:]) < 2 * rows[0]["cost_nanos"]


def test_one_that_marks_its_own_breakpoints_is_left_alone(stack: Stack) -> None:
    key = stack.tenant("own-cache", auto_cache_system="on")
    system = [{"type": "text", "text": "You answer shortly. " * 400, "cache_control": {"type": "ephemeral"}}]
    for _ in range(2):
        assert stack.message(key, "cache", system=system)[0] == 200
    rows = wait_for(lambda: (found := stack.rows("own-cache")) and len(found) == 2 and found, what="the rows")
    assert [row["saved_nanos"] for row in rows] == [None, None]
