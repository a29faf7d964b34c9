"""What a limit may be."""

from dataclasses import fields

import pytest

from tenantry.domain.limits import LIMITS, BadLimit, Limits, allowed, exceeds, find_limit, read_limit, read_limits


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("sessions_max", "5", 5),
        ("sessions_max", 5, 5),
        ("requests_per_minute", "none", None),
        ("requests_per_minute", None, None),
        ("request_burst", "1", 1),
        ("models", "claude-haiku-*, claude-sonnet-5-5", ("claude-haiku-*", "claude-sonnet-5-5")),
        ("models", ["a", "b"], ("a", "b")),
        ("models", "none", ()),
        ("models", "*", ()),
        ("models", ["*"], ()),
        ("max_tokens_policy", "refuse", "refuse"),
        ("queue_depth_max", "0", 0),
    ],
)
def test_good(name: str, raw: object, value: object) -> None:
    assert read_limit(name, raw) == value


@pytest.mark.parametrize("name", [name for name, limit in LIMITS.items() if not limit.patterns and not limit.choices])
@pytest.mark.parametrize(
    "raw", ["-1", "", "x", "1.5", "1e3", "9" * 40, "1_0", "１０", "٣", 10**12, -1, 1.5, True, [], {}, "0x10", b"1"]
)
def test_bad_numbers(name: str, raw: object) -> None:
    with pytest.raises(BadLimit, match=name):
        read_limit(name, raw)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("sessions_max", "0"),
        ("sessions_max", "none"),
        ("sessions_max", None),
        ("requests_per_minute", "0"),
        ("weight", 0),
        ("models", ""),
        ("models", ","),
        ("models", "a,,b"),
        ("models", [1]),
        ("models", 5),
        ("models", ["x"] * 101),
        ("max_tokens_policy", "maybe"),
        ("rpm", "5"),
    ],
)
def test_bad(name: str, raw: object) -> None:
    with pytest.raises(BadLimit, match=name):
        read_limit(name, raw)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(BadLimit) as caught:
        read_limits({"sessions_max": 0, "weight": "x", "requests_per_minute": 5})
    assert len(str(caught.value).splitlines()) == 2


def test_the_table_is_the_class() -> None:
    assert list(Limits().as_json()) == list(LIMITS) == [field.name for field in fields(Limits)]
    assert read_limits(Limits().as_json()) == {name: getattr(Limits(), name) for name in LIMITS}


def test_a_key_stays_below_its_tenant() -> None:
    tenant = Limits(sessions_max=5, requests_per_minute=60)
    assert exceeds({"sessions_max": 5, "requests_per_minute": 10, "models": ("x",)}, tenant) == []
    assert exceeds({"input_tokens_per_minute": 10**9}, tenant) == []
    assert len(exceeds({"sessions_max": 6, "requests_per_minute": None}, tenant)) == 2


@pytest.mark.parametrize(
    ("own", "is_within"),
    [
        (("claude-haiku-5-5",), True),
        (("claude-haiku-*",), True),
        (("claude-haiku-5-*", "claude-haiku-5-5"), True),
        (("claude-opus-*",), False),
        (("claude-haiku-5-5", "claude-opus-5-5"), False),
        (("claude-*",), False),
        (("*",), False),
        ((), False),
    ],
)
def test_the_models_of_a_key_are_among_its_tenants(own: tuple[str, ...], is_within: bool) -> None:
    assert (exceeds({"models": own}, Limits(models=("claude-haiku-*",))) == []) is is_within
    assert exceeds({"models": own}, Limits()) == []


@pytest.mark.parametrize("word", ["rpm", "--rpm", "requests_per_minute"])
def test_a_limit_is_found_by_its_name_or_its_option(word: str) -> None:
    assert find_limit(word) == "requests_per_minute"


def test_an_unknown_limit_is_told_with_those_there_are() -> None:
    with pytest.raises(BadLimit, match=r"no limit 'rpn'; there are: sessions, rpm"):
        find_limit("rpn")


@pytest.mark.parametrize(
    ("patterns", "value", "is_allowed"),
    [
        ((), "anything", True),
        (("claude-haiku-*",), "claude-haiku-5-5", True),
        (("claude-haiku-*",), "claude-opus-5-5", False),
        (("claude-haiku-*",), "Claude-haiku-5-5", False),
        (("a", "b"), "b", True),
        (("-",), "web_search_20250305", False),
    ],
)
def test_allowed(patterns: tuple[str, ...], value: str, is_allowed: bool) -> None:
    assert allowed(patterns, value) is is_allowed
