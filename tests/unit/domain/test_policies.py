"""What a key may ask for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tenantry.domain.asked import MessageFields, ServerTool
from tenantry.domain.errors import ApiError, ModelNotAllowed, NotAllowed
from tenantry.domain.limits import Limits
from tenantry.domain.policies import CapTokens, check_policies

FIXTURES = Path(__file__).parents[2] / "fixtures"


def asked(model: str = "claude-fable-5-2", max_tokens: int | None = 1000, **more: object) -> MessageFields:
    fields = MessageFields(model, max_tokens, False, False)
    for name, value in more.items():
        setattr(fields, name, value)
    return fields


def test_a_refused_model_is_the_fixture() -> None:
    error = check_policies(Limits(models=("claude-sonnet-5-5", "claude-haiku-5-5")), asked())
    assert isinstance(error, ModelNotAllowed)
    fixture = json.loads((FIXTURES / "errors" / "gw_400_model_denied.json").read_text())
    assert json.loads(error.body(fixture["request_id"])) == fixture
    assert error.status == 400
    assert (b"x-should-retry", b"false") in error.headers()


def test_known_models_are_named_for_patterns() -> None:
    known = ["claude-haiku-5-5", "claude-haiku-4-5", "claude-opus-5-5"]
    error = check_policies(Limits(models=("claude-haiku-*",)), asked(), None, known)
    assert str(error).endswith("Allowed: claude-haiku-5-5, claude-haiku-4-5.")
    narrowed = check_policies(Limits(models=("claude-haiku-*",)), asked(), Limits(models=("*-4-5",)), known)
    assert str(narrowed).endswith("Allowed: claude-haiku-4-5.")
    assert str(check_policies(Limits(models=("x-*",)), asked(), None, known)).endswith("Allowed: x-*.")


@pytest.mark.parametrize(
    "more",
    [
        {"fallbacks": ("claude-opus-5-5",)},
        {"fallbacks_default": True},
        {"server_tools": (ServerTool("advisor_20260301", None, "claude-opus-5-5"),)},
    ],
)
def test_no_other_model_comes_in_by_a_side_door(more: dict[str, object]) -> None:
    assert isinstance(check_policies(Limits(models=("claude-fable-*",)), asked(**more)), ModelNotAllowed)
    assert check_policies(Limits(), asked(**more)) is None


def test_tenant_and_key_both_apply() -> None:
    wide, narrow = Limits(), Limits(models=("claude-haiku-*",))
    assert isinstance(check_policies(wide, asked(), narrow), ModelNotAllowed)
    assert isinstance(check_policies(narrow, asked(), wide), ModelNotAllowed)
    assert check_policies(wide, asked(), wide) is None


@pytest.mark.parametrize(
    ("limits", "key_limits", "max_tokens", "outcome"),
    [
        (Limits(), None, 10**6, None),
        (Limits(max_tokens_cap=1000), None, 1000, None),
        (Limits(max_tokens_cap=1000), None, 1001, CapTokens(1000)),
        (Limits(max_tokens_cap=1000), Limits(max_tokens_cap=500), 5000, CapTokens(500)),
        (Limits(max_tokens_cap=500), Limits(max_tokens_cap=1000), 5000, CapTokens(500)),
        (Limits(max_tokens_cap=1000), None, None, None),
        (Limits(max_tokens_cap=1000, max_tokens_policy="refuse"), None, 1001, NotAllowed),
    ],
)
def test_max_tokens(limits: Limits, key_limits: Limits | None, max_tokens: int | None, outcome: object) -> None:
    found = check_policies(limits, asked(max_tokens=max_tokens), key_limits)
    if isinstance(outcome, type):
        assert isinstance(found, outcome)
        assert "1000" in str(found)
    else:
        assert found == outcome


def test_a_fallback_cannot_ask_for_more() -> None:
    fields = asked(fallbacks=("claude-opus-5-5",), fallback_max_tokens=2000)
    assert isinstance(check_policies(Limits(max_tokens_cap=1000), fields), NotAllowed)


SEARCH = (ServerTool("web_search_20250305"),)


@pytest.mark.parametrize(
    ("limits", "more", "told"),
    [
        (Limits(speeds=("standard",)), {"speed": "fast"}, "speed: fast is not allowed for this key. Allowed: s"),
        (Limits(speeds=("standard",)), {"fallback_speeds": ("fast",)}, "Allowed: standard."),
        (Limits(speeds=("standard",)), {}, None),
        (Limits(inference_geos=("us",)), {}, "inference_geo: global is not allowed for this key. Allowed: us."),
        (Limits(inference_geos=("us",)), {"inference_geo": "us"}, None),
        (Limits(service_tiers=("standard_only",)), {}, "service_tier: auto is not"),
        (Limits(service_tiers=("standard_only",)), {"service_tier": "standard_only"}, None),
        (Limits(server_tools=("-",)), {"server_tools": SEARCH}, "is not allowed for this key. None is allowed."),
        (Limits(server_tools=("web_fetch_*",)), {"server_tools": SEARCH}, "Allowed: web_fetch_*."),
        (Limits(server_tools=("web_search_*",)), {"server_tools": SEARCH}, None),
        (Limits(server_tools=("-",)), {}, None),
    ],
)  # fmt: skip
def test_words(limits: Limits, more: dict[str, object], told: str | None) -> None:
    for both in ((limits, None), (Limits(), limits)):
        found = check_policies(both[0], asked(**more), both[1])
        if told is None:
            assert found is None
        else:
            assert isinstance(found, ApiError)
            assert told in found.message
            assert (found.status, found.should_retry) == (400, False)


def test_a_long_word_is_cut() -> None:
    error = check_policies(Limits(speeds=("standard",)), asked(speed="x" * 10_000))
    assert len(str(error)) < 300
