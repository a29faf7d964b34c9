"""Lines of a journal are read as the events that were written, those of older versions too."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from tenantry.domain.attempts import (
    AttemptBegun,
    AttemptEnded,
    AttemptProgress,
    KeyUse,
    Outcome,
    RefusalCount,
    RefusedRequest,
    Tally,
)
from tenantry.domain.usage import Iteration, Usage
from tenantry.ledger.lines import SHAPES, decode_begin, decode_end, decode_line

USAGE = Usage(1, 2, 3, 4, 5, 6, 7, 8, "fast", "us", "batch", (Iteration("message", None, 1, 2, 3, 4, 5),) * 2)
ENDED = AttemptEnded(
    "att_1", 5, None, 200, Outcome.SETTLED, "m", "end_turn", USAGE, "{}", 7, "v1", None, None, 3, "bound", ("a", "b"), 9
)
EVENTS = [
    ("begin", AttemptBegun("att_1", "req", "tnt", "key", "crd", "ups", "m", True, 5, 6, "fast", "us", 7, 8, 9)),
    ("progress", AttemptProgress("att_1", "m", USAGE, "up", 4)),
    ("end", ENDED),
    ("tally", Tally([RefusalCount("tnt", "rate", 3, 4)], [KeyUse("key", 1, "192.0.2.1", "curl")])),
    ("tally", Tally([], [], [RefusedRequest("req", "tnt", "key", 1, 429, "rate_limit_error", "rate", "m")])),
]


def line_of(kind: str, members: Any) -> bytes:
    return b"00000000 " + msgspec.json.encode({kind: members}) + b"\n"


@pytest.mark.parametrize(("kind", "event"), EVENTS)
def test_what_is_written_is_read(kind: str, event: Any) -> None:
    assert decode_line(line_of(kind, event)) == event


@pytest.mark.parametrize(("shape", "value"), SHAPES.items())
def test_a_shape_has_the_members_of_its_value_in_their_order(shape: type[msgspec.Struct], value: Any) -> None:
    assert list(shape.__struct_fields__) == [field.name for field in dataclasses.fields(value)]


@pytest.mark.parametrize(
    ("kind", "members", "event"),
    [
        ("begin", ["att_1", "req", "tnt", "key", "crd", "ups", "m", True, 5], AttemptBegun),
        ("progress", ["att_1", "m", {}], AttemptProgress),
        ("end", ["att_1", 5, None, 200, "settled", "m", None, {}, "", 7, "v1", None, None], AttemptEnded),
    ],
)
def test_what_a_line_of_an_older_version_has_none_of_is_as_it_was_then(
    kind: str, members: list[Any], event: Any
) -> None:
    named = dict(zip([field.name for field in dataclasses.fields(event)], members, strict=False))
    read = decode_line(line_of(kind, named))
    known = {"usage": Usage(), "outcome": Outcome.SETTLED}
    assert read == event(**{name: known.get(name, member) for name, member in named.items()})


def test_a_line_of_another_shape_is_no_event() -> None:
    assert decode_line(line_of("begin", {"attempt_id": 1})) is None
    assert decode_line(line_of("something", {})) is None


@pytest.mark.parametrize(("kind", "event"), EVENTS)
def test_what_a_later_version_adds_to_a_line_is_passed_over(kind: str, event: Any) -> None:
    members = msgspec.to_builtins(event) | {"more": {"of": ["it"]}}
    line = b"00000000 " + msgspec.json.encode({kind: members, "beside": 1}) + b"\n"
    assert decode_line(line) == event


def test_what_a_later_version_adds_to_a_line_that_is_booked_as_it_stands_is_passed_over() -> None:
    (_, begun), (_, ended) = EVENTS[0], EVENTS[2]
    assert decode_begin(msgspec.json.encode(msgspec.to_builtins(begun) | {"more": 1})).attempt_id == "att_1"
    assert decode_end(msgspec.json.encode(msgspec.to_builtins(ended) | {"more": 1})).cost_nanos == 7
