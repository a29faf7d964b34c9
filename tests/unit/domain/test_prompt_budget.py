"""Contexts, tool loops, repeated prompts."""

from __future__ import annotations

import json

import pytest

from tenantry.domain.asked import MessageFields
from tenantry.domain.errors import PolicyBlocked
from tenantry.domain.limits import Limits
from tenantry.domain.prompt_budget import (
    REPEAT_US,
    Repeats,
    RunawayLoop,
    ToolLoops,
    Warn,
    check_context,
    saved_by_caching_nanos,
)
from tenantry.domain.usage import Usage


@pytest.mark.parametrize(
    ("limits", "key_limits", "outcome"),
    [
        (Limits(), None, None),
        (Limits(context_tokens_max=1000), None, None),
        (Limits(context_tokens_max=999), None, PolicyBlocked),
        (Limits(context_tokens_warn=999), None, Warn),
        (Limits(context_tokens_warn=10, context_tokens_max=999), None, PolicyBlocked),
        (Limits(), Limits(context_tokens_max=999), PolicyBlocked),
        (Limits(context_tokens_max=5000), Limits(context_tokens_max=999), PolicyBlocked),
        (Limits(context_tokens_max=999), Limits(context_tokens_max=5000), PolicyBlocked),
    ],
)
def test_contexts(limits: Limits, key_limits: Limits | None, outcome: type | None) -> None:
    found = check_context(limits, key_limits, 1000)
    assert found is None if outcome is None else isinstance(found, outcome)


def test_a_refused_context_has_the_shape_of_a_policy() -> None:
    error = check_context(Limits(context_tokens_max=9), None, 12_345)
    assert isinstance(error, PolicyBlocked)
    assert json.loads(error.body("req_1"))["error"]["type"] == "policy_blocked"
    assert "12,345" in error.message
    assert (b"x-should-retry", b"false") in error.headers()


def step(is_tool: bool = True) -> MessageFields:
    fields = MessageFields("m", 1, False, False)
    fields.ends_in_tool_result = is_tool
    return fields


def test_a_runaway_loop_is_told_once() -> None:
    loops = ToolLoops()
    told = [loops.seen("tnt_a", "s1", step(), 3) for _ in range(10)]
    assert told == [None, None, RunawayLoop("s1", 3)] + [None] * 7
    loops.seen("tnt_a", "s1", step(False), 3)
    assert loops.depth("tnt_a", "s1") == 0
    assert [loops.seen("tnt_a", "s1", step(), 3) for _ in range(3)][-1] == RunawayLoop("s1", 3)


def test_sessions_of_tenants_are_apart() -> None:
    loops = ToolLoops()
    for tenant_id in ("tnt_a", "tnt_b"):
        assert [loops.seen(tenant_id, "same", step(), 2) for _ in range(2)][-1] is not None


def test_off_or_without_a_session_nothing_is_kept() -> None:
    loops = ToolLoops()
    assert loops.seen("tnt_a", "s", step(), None) is None
    assert loops.seen("tnt_a", None, step(), 1) is None
    assert len(loops) == 0


def test_memory_is_bounded_and_the_longest_idle_goes() -> None:
    loops = ToolLoops(sessions_max=3)
    for name in ("a", "b", "c", "a", "d"):
        loops.seen("tnt", name, step(), 9)
    assert len(loops) == 3
    assert loops.depth("tnt", "a") == 2
    assert loops.depth("tnt", "b") == 0


def test_a_prompt_is_repeated_within_five_minutes() -> None:
    seen = Repeats(entries_max=2)
    assert not seen.is_repeated("tnt_a", b"x", 0)
    assert seen.is_repeated("tnt_a", b"x", REPEAT_US)
    assert not seen.is_repeated("tnt_a", b"x", 2 * REPEAT_US + 1)
    assert not seen.is_repeated("tnt_b", b"x", 2 * REPEAT_US + 1)
    seen.is_repeated("tnt_c", b"y", 0)
    assert not seen.is_repeated("tnt_a", b"x", 2 * REPEAT_US + 2)


def test_what_caching_saved() -> None:
    rates = (2_000, 2_500, 4_000, 100, 10_000)
    assert saved_by_caching_nanos(Usage(input_tokens=9, output_tokens=9), rates) == 0
    assert saved_by_caching_nanos(Usage(cache_read_tokens=1000), rates) == 1000 * 1_900
    assert saved_by_caching_nanos(Usage(cache_write_5m_tokens=1000), rates) == -1000 * 500
    assert saved_by_caching_nanos(Usage(cache_write_1h_tokens=1, cache_read_tokens=2), rates) == -2_000 + 3_800
