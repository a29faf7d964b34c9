"""Plain requests and answers: both readers say what the full readers say, and nothing of what these refuse."""

from __future__ import annotations

import json
import os
import random
import sys
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantry.domain.asked import MessageFields
from tenantry.domain.usage import COUNT_MAX, WORD_CHARS_MAX, Usage
from tenantry.wire import plain, plain_in_python
from tenantry.wire.answers import read_message
from tenantry.wire.edits import cap_max_tokens
from tenantry.wire.inspect import PLAIN_BYTES_MAX, inspect_message
from tenantry.wire.members import members_of
from tenantry.wire.prompt import SHORT_ENTRIES_MAX
from tenantry.wire.shapes import MAX_TOKENS_MAX, MODEL_CHARS_MAX, PLAIN_MESSAGES_MAX
from tests.byte_cases import outcome
from tests.plain_cases import cases
from tests.unit.wire.refused_memory import outcomes_as_memory_is_refused

try:
    from tenantry.wire import _plain as compiled
except ImportError:
    compiled = None  # pyright: ignore[reportAssignmentType]

SEED = int(os.environ.get("TENANTRY_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
CASES = 20_000
NOT_BUILT = "the byte work is not compiled here: `make native` does it"
needs_compiled = pytest.mark.skipif(compiled is None, reason=NOT_BUILT)
REQUEST = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi \\n"}]}'
ANSWER = b'{"model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":7,"output_tokens":2}}'


@pytest.fixture(params=["in Python", "compiled"])
def work(request: pytest.FixtureRequest) -> ModuleType:
    if request.param == "compiled" and compiled is None:
        pytest.skip(NOT_BUILT)
    return plain_in_python if request.param == "in Python" else compiled


def check_request(told: plain_in_python.Plainly, body: bytes) -> None:
    """That it is what reading member by member says: nothing that is too large is read plainly."""
    model, max_tokens, stream = told
    assert inspect_message(body + b" " * PLAIN_BYTES_MAX) == MessageFields(model, max_tokens, stream, False), body


def check_answer(told: plain_in_python.PlainAnswer, body: bytes, wants_1h: bool) -> None:
    model, reason, counts, usage = told
    seen = read_message(body, wants_1h=wants_1h)
    assert (seen.model, seen.stop_reason, seen.usage, seen.flaws) == (model, reason, Usage(*counts), ()), body
    assert json.loads(b'"%b"' % usage) == seen.usage_raw


def test_what_was_built_is_what_runs() -> None:
    assert plain.plain_answer is (compiled or plain_in_python).plain_answer
    assert plain.plain_request is (compiled or plain_in_python).plain_request


def test_what_is_plain_is_read_as_the_full_readers_read_it(work: ModuleType) -> None:
    print(f"TENANTRY_SEED={SEED}")
    rng, read = random.Random(SEED), {"plain_request": 0, "plain_answer": 0}
    for _ in range(CASES):
        name, arguments = cases(rng)
        told = getattr(work, name)(*arguments)
        if told is not None:
            read[name] += 1
            check: Any = check_request if name == "plain_request" else check_answer
            check(told, *arguments)
    assert min(read.values()) > CASES // 40, read


@needs_compiled
def test_both_read_alike_what_both_read() -> None:
    print(f"TENANTRY_SEED={SEED}")
    rng, read = random.Random(SEED), {"plain_request": 0, "plain_answer": 0}
    for _ in range(CASES):
        name, arguments = cases(rng)
        both = [getattr(one, name)(*arguments) for one in (plain_in_python, compiled)]
        assert None in both or both[0] == both[1], (name, arguments)
        read[name] += None not in both
    assert min(read.values()) > CASES // 40, read


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60), st.integers(0, len(ANSWER)), st.integers(0, 4))
def test_any_bytes_are_read_as_the_full_readers_read_them(data: bytes, at: int, gone: int) -> None:
    for one in (plain_in_python, compiled or plain_in_python):
        for body in (data, REQUEST[:at] + data + REQUEST[at + gone :]):
            told = one.plain_request(body)
            if told is not None:
                check_request(told, body)
        for body in (data, ANSWER[:at] + data + ANSWER[at + gone :]):
            answer = one.plain_answer(body, False)
            if answer is not None:
                check_answer(answer, body, False)


def test_a_cut_body_is_not_plain(work: ModuleType) -> None:
    assert work.plain_request(REQUEST) == ("m", 5, False)
    assert work.plain_answer(ANSWER, False) == (
        ("m", None, (7, 0, 0, 0, 2, 0), b'{\\"input_tokens\\":7,\\"output_tokens\\":2}')
    )
    for cut in range(len(REQUEST)):
        assert work.plain_request(REQUEST[:cut]) is None
    for cut in range(len(ANSWER)):
        assert work.plain_answer(ANSWER[:cut], False) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"max_tokens":5', b'"max_tokens":5,"max_tokens":5'),
        (b'"max_tokens":5', b'"max_tokens":05'),
        (b'"max_tokens":5', b'"max_tokens":5.5'),
        (b'"max_tokens":5', b'"max_tokens":5,"tools":[]'),
        (b'"max_tokens":5', b'"max_tokens":5,"speed":"fast"'),
        (b'"max_tokens":5', b'"max_tokens":5,"stream":1'),
        (b'"max_tokens":5', b'"max_tokens":5,"system":[]'),
        (b'"max_tokens":5', b'"max_tokens":5,"top_k":[1'),
        (b'"max_tokens":5', b'"max_tokens":5,"top_k":"\\ud83d"'),
        (b'"max_tokens":5', b'"max_tokens":5,"top_k":"\\x"'),
        (b'"model":"m"', b'"model":"m","mod\\u0065l":"n"'),
        (b'"model":"m"', b'"model":"m","conta\xffiner":"c"'),
        (b'"role"', b'"ro\xffle"'),
        (b'"model":"m"', b'"model":""'),
        (b'"model":"m"', b'"model":"\\u0000"'),
        (b'"hi \\n"', b"null"),
        (b'"hi \\n"', b'[{"type":"text","text":"hi"}]'),
        (b'"hi \\n"', b'"hi","content":"ho"'),
        (b'"hi \\n"', b'"\n"'),
        (b"]}", b"]}}"),
        (b"]}", b",]}"),
        (b"]}", b"],}"),
    ],
)
def test_what_asks_for_more_is_not_plain(work: ModuleType, old: bytes, new: bytes) -> None:
    assert REQUEST.count(old)
    assert work.plain_request(REQUEST.replace(old, new)) is None


def test_bounds_are_those_of_the_full_readers(work: ModuleType) -> None:
    assert PLAIN_MESSAGES_MAX == SHORT_ENTRIES_MAX
    turn = REQUEST[REQUEST.index(b"[") + 1 : REQUEST.index(b"]")]
    for old, most, beyond in (
        (b'"m"', b'"%b"' % (b"m" * MODEL_CHARS_MAX), b'"%b"' % (b"m" * (MODEL_CHARS_MAX + 1))),
        (b"5", b"%d" % MAX_TOKENS_MAX, b"%d" % (MAX_TOKENS_MAX + 1)),
        (turn, b",".join([turn] * PLAIN_MESSAGES_MAX), b",".join([turn] * (PLAIN_MESSAGES_MAX + 1))),
    ):
        assert work.plain_request(REQUEST.replace(old, most)) is not None
        assert work.plain_request(REQUEST.replace(old, beyond)) is None
    spaces = plain_in_python.USAGE_BYTES_MAX - len(ANSWER[ANSWER.index(b'{"input') : -1])
    for old, most, beyond in (
        (b'"m"', b'"%b"' % (b"m" * WORD_CHARS_MAX), b'"%b"' % (b"m" * (WORD_CHARS_MAX + 1))),
        (b"null", b'"%b"' % (b"m" * WORD_CHARS_MAX), b'"%b"' % (b"m" * (WORD_CHARS_MAX + 1))),
        (b"7", b"%d" % COUNT_MAX, b"%d" % (COUNT_MAX + 1)),
        (b"7", b" " * spaces + b"7", b" " * (spaces + 1) + b"7"),
    ):
        assert work.plain_answer(ANSWER.replace(old, most), False) is not None
        assert work.plain_answer(ANSWER.replace(old, beyond), False) is None


def test_the_text_of_a_usage_is_printable_ascii_without_a_backslash(work: ModuleType) -> None:
    for one in range(256):
        body = ANSWER.replace(b'{"input', b'{"x":"a%bb","input' % bytes([one]))
        told = work.plain_answer(body, False)
        assert (told is not None) == (0x20 <= one < 0x7F and one not in (0x22, 0x5C)), one
    assert work.plain_answer(ANSWER.replace(b"7", b"\n7"), False) is None


def test_depth_has_a_bound() -> None:
    for one in (plain_in_python, compiled or plain_in_python):
        for depth in (1, 63, 64, 65, 66, 3000):
            for opened, closed in ((b"[", b"]"), (b'{"a":', b"}")):
                body = REQUEST.replace(b"5", b'5,"top_k":' + opened * depth + b"1" + closed * depth)
                told = one.plain_request(body)
                if told is not None:
                    check_request(told, body)
                assert (told is not None) >= (depth <= 64)


def test_what_an_edit_needs_of_a_plain_request_is_read_when_it_is_asked_for() -> None:
    fields = inspect_message(REQUEST)
    assert fields.members == REQUEST
    assert cap_max_tokens(fields, REQUEST, 3) == REQUEST.replace(b"5", b"3")
    assert bytes(members_of(fields).max_tokens) == b"3"


@needs_compiled
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("plain_request", (None,)),
        ("plain_request", (bytearray(REQUEST),)),
        ("plain_request", ()),
        ("plain_answer", (ANSWER,)),
        ("plain_answer", (ANSWER, None)),
        ("plain_answer", (ANSWER, 1)),
        ("plain_answer", ("", True)),
    ],
)
def test_in_c_only_bytes_themselves_and_truth_values_are_taken(name: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        getattr(compiled, name)(*arguments)


@needs_compiled
@pytest.mark.parametrize(("name", "arguments"), [("plain_request", (REQUEST,)), ("plain_answer", (ANSWER, False))])
def test_memory_that_is_refused_is_an_error_and_nothing_is_let_go_twice(
    name: str, arguments: tuple[object, ...]
) -> None:
    function, counts = getattr(compiled, name), [sys.getrefcount(arguments[0])]
    expected = function(*arguments)
    for told in outcomes_as_memory_is_refused(function, arguments, 14):
        assert told == expected
    for _ in range(1000):
        outcome(function, arguments)
        outcome(function, (arguments[0][:-1], *arguments[1:]))  # type: ignore[index]
    counts.append(sys.getrefcount(arguments[0]))
    assert counts[0] == counts[1]
