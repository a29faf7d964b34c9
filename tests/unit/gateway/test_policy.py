"""What a tenant's policies make of its requests, and what is remembered of one tenant is nothing to another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tenantry.domain.asked import MessageFields
from tenantry.domain.attempts import RUNAWAY_LOOP
from tenantry.domain.directory import GatewayKey, KeyStatus, Tenant, TenantStatus
from tenantry.domain.errors import ApiError, ModelNotAllowed
from tenantry.domain.estimates import Histories
from tenantry.domain.limits import Limits
from tenantry.domain.prompt_budget import REPEAT_US, PolicyBlocked
from tenantry.gateway.policy import Policies
from tenantry.gateway.tallies import Tallies
from tenantry.wire.inspect import inspect_message
from tests.unit.gateway.playbook import MODEL, OPEN, World, message

AT_US = 1_795_608_000_000_000
TOOL_RESULT = [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]}]


class Site:
    """The memory of one gateway's policies."""

    def __init__(self) -> None:
        self.policies = Policies([MODEL, "claude-opus-5-5"])
        self.histories = Histories()
        self.tallies = Tallies()
        self.at_us = AT_US
        self.fields: MessageFields | None = None

    def ask(
        self, limits: Limits, own: Limits | None = None, slug: str = "acme", session: bytes = b"", **members: object
    ) -> tuple[dict[str, object], str]:
        """What goes upstream, and the warning. Raises: ApiError."""
        tenant = Tenant(f"tnt_{slug}", slug, slug, TenantStatus.ACTIVE, "test", limits, None)
        key = GatewayKey(f"key_{slug}", tenant.tenant_id, b"", KeyStatus.ACTIVE, limits=own)
        body = json.dumps(message() | members).encode()
        fields = self.fields = inspect_message(body)
        headers = {b"x-claude-code-session-id": session} if session else {}
        sent, warning = self.policies.apply(
            tenant, key, self.histories, self.tallies, headers, fields, body, self.at_us
        )
        return json.loads(sent), warning


def test_what_is_allowed_passes_as_it_came() -> None:
    assert Site().ask(OPEN) == (message(), "")


@pytest.mark.parametrize("of", ["tenant", "key"])
def test_models_of_the_tenant_and_of_the_key_both_hold(of: str) -> None:
    narrow = replace(OPEN, models=("claude-opus-*",))
    with pytest.raises(ModelNotAllowed) as caught:
        Site().ask(*((narrow, None) if of == "tenant" else (OPEN, narrow)))
    assert caught.value.message.endswith("Allowed: claude-opus-5-5.")


def test_a_key_with_limits_of_its_own_is_under_its_tenants_too() -> None:
    with pytest.raises(ModelNotAllowed):
        Site().ask(replace(OPEN, models=("claude-opus-*",)), OPEN)
    with pytest.raises(PolicyBlocked):
        Site().ask(replace(OPEN, context_tokens_max=1), OPEN)


@pytest.mark.parametrize("of", ["tenant", "key"])
def test_max_tokens_are_capped_in_the_body_and_in_what_is_held_for_it(of: str) -> None:
    narrow = replace(OPEN, max_tokens_cap=50)
    site = Site()
    sent, _ = site.ask(*((narrow, None) if of == "tenant" else (OPEN, narrow)))
    assert sent == message(max_tokens=50)
    assert site.fields is not None
    assert site.fields.max_tokens == 50


@pytest.mark.parametrize("of", ["tenant", "key"])
def test_a_prompt_that_is_too_large_is_refused_and_a_large_one_warned_of(of: str) -> None:
    text = [{"role": "user", "content": "word " * 2000}]

    def ask(narrow: Limits) -> str:
        return Site().ask(*((narrow, None) if of == "tenant" else (OPEN, narrow)), messages=text)[1]

    with pytest.raises(PolicyBlocked):
        ask(replace(OPEN, context_tokens_max=100))
    assert "tokens is above 100" in ask(replace(OPEN, context_tokens_warn=100))
    assert ask(replace(OPEN, context_tokens_max=100_000, context_tokens_warn=100_000)) == ""


def test_what_one_tenants_prompts_were_like_says_nothing_of_anothers() -> None:
    text = [{"role": "user", "content": "word " * 2000}]
    site, limits = Site(), replace(OPEN, context_tokens_max=4_000)
    for _ in range(20):
        site.histories.of("tnt_acme", MODEL).learn(10, 9_000, 10_100)  # dense prompts
    with pytest.raises(PolicyBlocked):
        site.ask(limits, messages=text)
    assert site.ask(limits, slug="globex", messages=text)[1] == ""


def test_a_loop_of_tools_is_counted_for_its_own_session_and_tenant() -> None:
    site, limits = Site(), replace(OPEN, tool_depth_alert=3)
    for slug, session in (("acme", b"one"), ("globex", b"one"), ("acme", b"two"), ("acme", b"one")):
        site.ask(limits, slug=slug, session=session, messages=TOOL_RESULT)
    assert site.tallies.take() is None
    site.ask(limits, slug="acme", session=b"one", messages=TOOL_RESULT)
    tally = site.tallies.take()
    assert tally is not None
    assert [(one.tenant_id, one.reason) for one in tally.refusals] == [("tnt_acme", RUNAWAY_LOOP)]
    site.ask(OPEN, slug="globex", session=b"one", messages=TOOL_RESULT)
    assert site.tallies.take() is None


def test_a_breakpoint_is_added_for_a_prefix_that_the_same_tenant_repeats() -> None:
    site, limits = Site(), replace(OPEN, auto_cache_system="on")
    system = "x" * 5_000

    def is_cached(slug: str, limits: Limits = limits) -> bool:
        sent, _ = site.ask(limits, slug=slug, system=system)
        return "cache_control" in json.dumps(sent)

    assert [is_cached(slug) for slug in ("acme", "globex", "acme", "globex")] == [False, False, True, True]
    assert not is_cached("acme", OPEN)
    site.at_us += REPEAT_US + 1_000_000
    assert not is_cached("acme")


def test_a_refused_request_goes_nowhere(tmp_path: Path) -> None:
    world = World(tmp_path, limits=replace(OPEN, models=("claude-opus-*",)))
    client = world.client()
    client.ask(message())
    world.turn()
    assert client.answers == ["answer 400"]
    assert not world.heads
    assert world.leftovers() == []


def test_errors_of_policies_are_final() -> None:
    with pytest.raises(ApiError) as caught:
        Site().ask(replace(OPEN, max_tokens_cap=50, max_tokens_policy="refuse"))
    assert (b"x-should-retry", b"false") in caught.value.headers()
