"""A body without its long texts is read as the whole body is read, or not at all."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tenantry.domain.asked import MessageFields
from tenantry.wire.count_body import count_body
from tenantry.wire.edits import system_fingerprint
from tenantry.wire.inspect import (
    SHORTENED_BYTES_MIN,
    TEXT_BYTES_MIN,
    BadBody,
    inspect_message,
    inspect_shortened,
    inspect_whole,
)
from tenantry.wire.members import MEMBERS_MAX, members_of
from tests.byte_cases import BREAKS, FAULTS
from tests.unit.wire.test_inspect_generated import a_request

BODIES = 4_000
LONG = 'caf\u00e9 "\\\n\t\u0001 and so on, in words that are of no interest to anybody; '
# What may stand where a long text does, and matters by its size, its commas or its names.
CACHES: list[Any] = [
    {"type": "ephemeral", "text": LONG * 30},
    {"type": "ephemeral", "content": LONG},
    {"type": "ephemeral", "text": ""},
]
TOP: list[tuple[str, Any]] = [
    ("context_management", {"edits": [{"type": "clear_x", "text": LONG * 200}]}),
    ("context_management", {"edits": [{"type": "compact_x", "text": "short"}]}),
    ("fallbacks", [{"model": "a", "description": "," * 20_000}]),
    ("mcp_servers", [{"name": "a", "description": "," * 20_000}]),
    ("metadata", {"user_id": "a", "description": LONG}),
    ("compaction", {"content": LONG}),
    ("speed", "fast"),
    ("unknown", {"text": LONG}),
    ("system", LONG),
    ("model", LONG * 9),
]


def grown(rng: random.Random, value: Any) -> Any:
    """With long texts in the place of short ones, and in places where they are not expected."""
    if isinstance(value, list):
        return [grown(rng, one) for one in value]
    if not isinstance(value, dict):
        return value
    members = {name: grown(rng, one) for name, one in value.items()}
    for name in ("text", "content", "data", "type", "description", "thinking"):
        if (name not in members and rng.random() < 0.05) or (
            isinstance(members.get(name), str) and rng.random() < (0.5 if name in ("text", "content") else 0.03)
        ):
            members[name] = LONG * rng.choice((1, 2, 30))
    if "cache_control" in members and rng.random() < 0.3:
        members["cache_control"] = rng.choice(CACHES)
    return members


def a_body(rng: random.Random) -> bytes:
    request = grown(rng, a_request(rng))
    if rng.random() < 0.4:
        name, told = rng.choice(TOP)
        request[name] = told
    separators = rng.choice([(",", ":"), (",", ":"), (", ", ": ")])
    raw = json.dumps(request, separators=separators, ensure_ascii=rng.random() < 0.5).encode()
    for _ in range(rng.choice((0, 0, 0, 1))):
        at = rng.randrange(len(raw) + 1)
        raw = raw[:at] + rng.choice((*BREAKS, *FAULTS, raw[at : at + 40])) + raw[at + rng.choice((0, 1)) :]
    return raw


def told_of(fields: MessageFields) -> tuple[object, ...]:
    counted = json.loads(count_body(fields).decode("latin-1"))
    if not counted.get("messages", True):
        del counted["messages"]  # an empty list is written, or is not: there is nothing to count
    return fields, bytes(members_of(fields).metadata), counted, system_fingerprint(fields)


def test_what_is_read_without_long_texts_is_what_the_whole_body_says() -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    rng, read = random.Random(seed), 0
    for number in range(BODIES):
        body, count_only = a_body(rng), rng.random() < 0.2
        found = inspect_shortened(body, count_only)
        if found is not None:
            read += 1
            whole = inspect_whole(body, count_only)
            assert told_of(found) == told_of(whole), f"seed {seed}, body {number}: {body[:2000]!r}"
    assert read > BODIES // 3, f"seed {seed}: nothing was left out of nearly all of them"


def a_message(**more: object) -> bytes:
    request = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": LONG * 99}]} | more
    return json.dumps(request, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "more",
    [
        {"cache_control": CACHES[0]},
        {"tools": [{"name": "a", "type": "web_1", "cache_control": CACHES[0]}]},
        {"context_management": TOP[0][1]},
        {"fallbacks": TOP[2][1]},
        {"mcp_servers": TOP[3][1]},
    ],
)
def test_where_the_size_of_a_text_matters_the_whole_body_is_read(more: dict[str, object]) -> None:
    assert inspect_shortened(a_message(), False) is not None
    assert inspect_shortened(a_message(**more), False) is None


def test_a_body_is_refused_in_the_words_for_the_whole_of_it() -> None:
    body = a_message()
    assert len(body) > SHORTENED_BYTES_MIN
    for broken in (body[:-1], body[:-2000], body.replace(b"\\n", b"\\x", 1), body.replace(b"user", b"us\ner", 1)):
        with pytest.raises(BadBody, match="not valid JSON"):
            inspect_message(broken)
    with pytest.raises(BadBody, match=r"^max_tokens: Field required$"):
        inspect_message(body.replace(b"max_tokens", b"max_coins"))


def test_what_edits_and_counts_ask_for_is_read_when_they_ask() -> None:
    body = a_message(system=LONG * 9)
    fields = inspect_shortened(body, False)
    assert fields is not None
    assert fields.members is body
    assert json.loads(count_body(fields))["system"] == LONG * 9
    assert members_of(fields) is members_of(fields)


def test_texts_below_the_least_size_stay() -> None:
    assert (
        inspect_shortened(a_message(messages=[{"role": "user", "content": "a" * (TEXT_BYTES_MIN - 1)}]), False) is None
    )
    assert inspect_shortened(a_message(messages=[{"role": "user", "content": "a" * TEXT_BYTES_MIN}]), False) is not None


@pytest.mark.parametrize("size", [1, 5_000])
def test_an_object_has_as_many_members_however_small_it_is(size: int) -> None:
    tool: dict[str, object] = {"type": "web_1", "name": "a" * size} | {f"{n}": 0 for n in range(MEMBERS_MAX)}
    with pytest.raises(BadBody, match="too many fields"):
        inspect_message(a_message(tools=[tool]))
