"""Edits change one value, and no other byte."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.domain.asked import MessageFields
from tenantry.wire import edits, session_ids
from tenantry.wire.count_body import count_body
from tenantry.wire.inspect import inspect_message
from tenantry.wire.members import read_members

CACHE = {"type": "ephemeral"}


def read(body: bytes) -> MessageFields:
    members = read_members(body)
    told = msgspec.json.decode(members.max_tokens) if members.max_tokens else None
    max_tokens = int(told) if type(told) in (int, float) else None
    model = msgspec.json.decode(members.model) if members.model else "m"
    return MessageFields(str(model), max_tokens, False, False, members=members)


def cap_max_tokens(body: bytes, new: int) -> bytes:
    return edits.cap_max_tokens(read(body), body, new)


def add_system_cache_control(body: bytes, bytes_min: int = edits.SYSTEM_BYTES_MIN) -> bytes:
    return edits.add_system_cache_control(read(body), body, bytes_min)


def system_fingerprint(body: bytes) -> bytes | None:
    return edits.system_fingerprint(read(body))


def find_session_id(header: bytes | None, body: bytes) -> str | None:
    return session_ids.find_session_id(header, read(body))


WORDS = st.sampled_from(
    ['"max_tokens":5', "max_tokens", '\\"max_tokens\\": 9}', "{", "}", "é\u2028\U0001f600", '"system":"x"']
)
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n", "\t: ")])
VALUES = st.recursive(
    WORDS | st.text(max_size=10) | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.just("max_tokens"), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.dictionaries(st.sampled_from(["model", "messages", "metadata", "tools", "x"]), VALUES, max_size=5)


def spell(document: dict[str, Any], separators: tuple[str, str], ensure_ascii: bool) -> bytes:
    return json.dumps(document, separators=separators, ensure_ascii=ensure_ascii).encode("utf-8", "replace")


def edge(first: bytes, second: bytes) -> tuple[int, int]:
    """How many bytes two bodies share at the start and, of the rest, at the end."""
    start = 0
    while start < min(len(first), len(second)) and first[start] == second[start]:
        start += 1
    end = 0
    while end < min(len(first), len(second)) - start and first[-1 - end] == second[-1 - end]:
        end += 1
    return start, end


@given(
    before=MEMBERS,
    number=st.integers(0, 10**9),
    new=st.integers(0, 10**9),
    separators=SEPARATORS,
    is_ascii=st.booleans(),
    at=st.integers(0, 5),
)
def test_cap_edits_the_number_alone(
    before: dict[str, Any], number: int, new: int, separators: tuple[str, str], is_ascii: bool, at: int
) -> None:
    items = list(before.items())
    items.insert(at, ("max_tokens", number))
    body = spell(dict(items), separators, is_ascii)
    capped = cap_max_tokens(body, new)
    assert json.loads(capped) == json.loads(body) | {"max_tokens": min(number, new)}
    start, end = edge(body, capped)
    assert len(body) - start - end <= len(str(number))
    if number <= new:
        assert capped is body


@pytest.mark.parametrize(
    ("body", "capped"),
    [
        (b'{"max_tokens":1e3,"a":1}', b'{"max_tokens":50,"a":1}'),
        (b'{"max_tokens":1000.0}', b'{"max_tokens":50}'),
        (b'{ "max_tokens" : 1000 }\n', b'{ "max_tokens" : 50 }\n'),
        (b'{"m\\u0061x_tokens":1000}', b'{"m\\u0061x_tokens":50}'),
        (b'{"a":{"max_tokens":9000},"max_tokens":51}', b'{"a":{"max_tokens":9000},"max_tokens":50}'),
        (b'{"a":"\\"max_tokens\\":1","max_tokens":51}', b'{"a":"\\"max_tokens\\":1","max_tokens":50}'),
        (b'{"b\\\\":"max_tokens","max_tokens":51}', b'{"b\\\\":"max_tokens","max_tokens":50}'),
        (b'{"max_tokens":49}', b'{"max_tokens":49}'),
        (b'{"max_tokens":null}', b'{"max_tokens":null}'),
        (b'{"a":{"max_tokens":9000}}', b'{"a":{"max_tokens":9000}}'),
        (b"{}", b"{}"),
    ],
)  # fmt: skip
def test_cap(body: bytes, capped: bytes) -> None:
    assert cap_max_tokens(body, 50) == capped


@given(
    before=MEMBERS,
    text=st.text(min_size=1, max_size=20) | WORDS,
    separators=SEPARATORS,
    is_ascii=st.booleans(),
    is_list=st.booleans(),
)
def test_a_breakpoint_is_added_and_nothing_else(
    before: dict[str, Any], text: str, separators: tuple[str, str], is_ascii: bool, is_list: bool
) -> None:
    system: Any = [{"type": "text", "text": "first"}, {"type": "text", "text": text, "x": [{}]}] if is_list else text
    body = spell(before | {"system": system, "z": 1}, separators, is_ascii)
    edited = add_system_cache_control(body, bytes_min=0)
    was, now = json.loads(body), json.loads(edited)
    told = was.pop("system")
    if isinstance(told, str):
        if not told.strip():
            assert edited is body
            return
        wanted = [{"type": "text", "text": told, "cache_control": CACHE}]
    else:
        if not told[-1]["text"].strip():
            assert edited is body
            return
        wanted = [told[0], told[1] | {"cache_control": CACHE}]
    assert now.pop("system") == wanted
    assert now == was
    start, end = edge(body, edited)
    assert start + end >= len(body) - (len(json.dumps(told)) + 8 if isinstance(told, str) else 0)


@pytest.mark.parametrize(
    "system",
    [
        None, 5, "", "  ", [], {}, [5], [{}], ["x"], [{"type": "text"}], [{"type": "text", "text": ""}],
        [{"type": "text", "text": 5}], [{"type": "image", "text": "x"}],
        [{"type": "text", "text": "x", "cache_control": None}],
        [{"type": "text", "text": "cache_control"}],
    ],
)  # fmt: skip
def test_where_a_breakpoint_cannot_be_the_body_stays(system: object) -> None:
    body = json.dumps({"system": system}).encode()
    assert add_system_cache_control(body, bytes_min=0) is body


def test_a_small_system_prompt_stays() -> None:
    small, large = (json.dumps({"system": "x" * size}).encode() for size in (4_000, 4_100))
    assert add_system_cache_control(small) is small
    assert add_system_cache_control(large) != large
    assert add_system_cache_control(b"{}") == b"{}"


def test_a_breakpoint_anywhere_is_enough() -> None:
    body = json.dumps({"system": "x" * 9_000, "messages": [{"content": [{"cache_control": CACHE}]}]}).encode()
    assert add_system_cache_control(body) is body


def test_a_fingerprint_is_of_what_a_prefix_is_keyed_by() -> None:
    def printed(**more: Any) -> bytes | None:
        return system_fingerprint(json.dumps({"model": "m", "system": "s", "messages": []} | more).encode())

    assert printed() == printed(messages=[1]) == printed(max_tokens=5)
    assert len({printed(), printed(system="t"), printed(model="n"), printed(tools=[])}) == 4
    assert system_fingerprint(b"{}") is None


@pytest.mark.parametrize(
    ("header", "user_id", "session_id"),
    [
        (b"abc-1", None, "abc-1"),
        (None, '{"device_id":"d","account_uuid":"","session_id":"s-1"}', "s-1"),
        (b"", '{"session_id":"s-1"}', "s-1"),
        (None, "user_abc_account__session_0f-1", "0f-1"),
        (None, "someone", None),
        (None, "{", None),
        (None, '{"session_id":5}', None),
        (None, "", None),
        (None, 5, None),
        (b"x" * 129, None, None),
        (b"a\tb", None, None),
        (None, '{"session_id":"a\\nb"}', None),
    ],
)
def test_sessions(header: bytes | None, user_id: object, session_id: str | None) -> None:
    body = json.dumps({"model": "m", "metadata": {"user_id": user_id}}).encode()
    assert find_session_id(header, body) == session_id


@pytest.mark.parametrize("body", [b'{"metadata":5}', b"{}", b'{"metadata":null}', b'{"metadata":"\xff"}'])
def test_no_session_in_bad_bodies(body: bytes) -> None:
    assert find_session_id(None, body) is None


def test_both_edits_and_a_count_from_one_reading() -> None:
    body = json.dumps({"model": "m", "max_tokens": 900, "system": "x" * 5000, "stop_sequences": ["a"]}).encode()
    fields = inspect_message(body)
    capped = edits.cap_max_tokens(fields, body, 50)
    edited = edits.add_system_cache_control(fields, capped)
    assert json.loads(edited)["max_tokens"] == fields.max_tokens == 50
    system = [{"type": "text", "text": "x" * 5000, "cache_control": CACHE}]
    assert json.loads(edited)["system"] == system
    assert fields.has_cache_control
    assert fields.is_cached_here
    assert json.loads(count_body(fields)) == {"model": "m", "system": system}
    assert edits.add_system_cache_control(fields, edited) is edited
