"""The byte work in Python and in C: the same cases for both, and both the same for any bytes."""

from __future__ import annotations

import os
import random
import sys
import tracemalloc
from types import ModuleType
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantry.wire import bytes_in_python, bytework
from tests.byte_cases import (
    DELTA_END,
    DELTAS,
    FAULTS,
    LINES_MAX,
    NAMES_OF_CALLS,
    OK,
    PIECES,
    READER,
    TEXTS,
    cases,
    function_of,
    outcome,
)
from tests.unit.wire.refused_memory import outcomes_as_memory_is_refused

try:
    from tenantry.wire import _bytes as compiled
except ImportError:
    compiled = None  # pyright: ignore[reportAssignmentType]

SEED = int(os.environ.get("TENANTRY_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
CASES = 20_000
DELTA = DELTAS[0]
NOT_BUILT = "the byte work is not compiled here: `make native` does it"
needs_compiled = pytest.mark.skipif(compiled is None, reason=NOT_BUILT)


class OwnBytes(bytes):
    """A subclass, which may answer as it likes."""


@pytest.fixture(params=["in Python", "compiled"])
def work(request: pytest.FixtureRequest) -> ModuleType:
    if request.param == "compiled" and compiled is None:
        pytest.skip(NOT_BUILT)
    return bytes_in_python if request.param == "in Python" else compiled


def test_it_says_which_of_them_runs() -> None:
    assert (compiled is not None) == bytework.IS_COMPILED
    assert bytework.count_deltas is (compiled or bytes_in_python).count_deltas


# Heads of answers


def test_a_plain_head_is_told_in_one_pass(work: ModuleType) -> None:
    read = work.head_reader(*READER)
    kept = b"Content-Type: application/json\r\n"
    assert read(OK) == (200, 12, kept, b"req_1", b"application/json", False)
    assert read(OK.replace(b"Content-Length: 12", b"Transfer-Encoding: Chunked")) == (
        (200, bytes_in_python.CHUNKED, kept, b"req_1", b"application/json", False)
    )
    assert read(OK.replace(b"200 OK", b"529")) == (529, 12, kept, b"req_1", b"application/json", False)
    assert read(b"HTTP/1.1 200 OK\r\ncontent-length:0") == (200, 0, b"", b"", b"", False)
    told = read(OK + b"\r\nx: \t y \t\r\nAnthropic-Ratelimit-Requests-Limit: 5\r\nconnection:Keep-Alive\r\nz:")
    assert told == (200, 12, kept + b"x: \t y \t\r\nz:\r\n", b"req_1", b"application/json", True)


@pytest.mark.parametrize(
    ("line", "is_kept"),
    [
        (b"Server: s", False),
        (b"serve: s", True),
        (b"servers: s", True),
        (b"CF-RAY: 1", False),
        (b"cf: 1", True),
        (b"cf-" + b"n" * 300 + b": 1", False),
        (b"n" * 300 + b": 1", True),
        (b"anthropic-ratelimit-tokens-limit: 1", False),
    ],
)
def test_fields_are_dropped_by_name_and_by_the_beginning_of_a_name(
    work: ModuleType, line: bytes, is_kept: bool
) -> None:
    for raw in (OK + b"\r\n" + line, OK.replace(b"Content-Type: application/json", line)):
        told = work.head_reader(*READER)(raw)
        assert told is not None
        assert (line + b"\r\n" in told[2]) == is_kept


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200",
        OK.replace(b"1.1", b"1.0"),
        OK.replace(b"200", b"204"),
        OK.replace(b"200", b"304"),
        OK.replace(b"200", b"100"),
        OK.replace(b"200", b"600"),
        OK.replace(b"200 OK", b"200OK"),
        OK.replace(b"Content-Length: 12", b"x: y"),
        OK + b"\r\ntransfer-encoding: chunked",
        OK + b"\r\ncontent-length: 12",
        OK + b"\r\nconnection: close",
        OK + b"\r\nconnection: keep-alive\r\nconnection: keep-alive",
        OK.replace(b"12", b"1_2"),
        OK.replace(b"12", b""),
        OK.replace(b"12", b"9" * 19),
        OK.replace(b"application", b"\r\n application"),
        *(OK.replace(b"json", b"js%bon" % bytes([one])) for one in (*range(9), *range(10, 32), 127)),
        *(OK.replace(b"Type", b"Ty%bpe" % bytes([one])) for one in (0, 9, 10, 13, 32, 34, 47, 64, 91, 123, 127, 233)),
        OK.replace(b"Content-Type", b""),
        OK + b"\r\nno field",
        OK + b"\r\n",
        OK + b"\r",
        OK + b"\n",
        OK + b"\r\n\r\n",
        OK + b"\r\nx: y" * LINES_MAX,
        OK + b"\r\nx: " + b"y" * 600,
    ],
)
def test_what_is_not_plain_is_not_read(work: ModuleType, raw: bytes) -> None:
    assert work.head_reader(*READER)(raw) is None


def test_every_byte_that_a_name_and_a_value_may_have_is_read(work: ModuleType) -> None:
    token = bytes(one for one in range(256) if bytes_in_python.TOKEN.fullmatch(bytes([one])))
    text = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
    read = work.head_reader(frozenset({token[:64].lower()}), (), 256, 1 << 16)
    for line in (token + b":" + text, *(bytes([one]) + b":" + bytes([one]) for one in token)):
        told = read(OK + b"\r\n" + line)
        assert told is not None
        assert told[2].endswith(line + b"\r\n")
    assert read(OK + b"\r\n" + token[:64] + b": v") == read(OK)


def test_bounds_are_kept_to_the_last_line_and_byte(work: ModuleType) -> None:
    lines, size = OK.count(b"\r\n") + 1, len(OK)
    assert work.head_reader(frozenset(), (), lines, size)(OK) is not None
    assert work.head_reader(frozenset(), (), lines - 1, size)(OK) is None
    assert work.head_reader(frozenset(), (), lines, size - 1)(OK) is None
    # As many lines as there may be, each kept apart from the next.
    raw = OK + b"\r\nx: y\r\nvia: v" * 126
    told = work.head_reader(frozenset({b"via"}), (), 256, 1 << 16)(raw)
    assert told is not None
    assert told[2].count(b"\r\n") == 3 + 126


@pytest.mark.parametrize(
    "given",
    [
        (frozenset({b"Upper"}), (), 9, 9),
        (frozenset({b""}), (), 9, 9),
        (frozenset({b"a b"}), (), 9, 9),
        (frozenset({b"a\x00"}), (), 9, 9),
        (frozenset({b"n" * 65}), (), 9, 9),
        (frozenset(b"n%d" % index for index in range(65)), (), 9, 9),
        (frozenset(), tuple(b"n%d" % index for index in range(17)), 9, 9),
        (frozenset(), (b"Upper",), 9, 9),
        (frozenset(), (), 0, 9),
        (frozenset(), (), 257, 9),
        (frozenset(), (), -1, 9),
        (frozenset(), (), 9, -1),
        (frozenset(), (), 9, sys.maxsize),
        (frozenset(), (), 1 << 70, 9),
        (frozenset(), (), 9, 1 << 70),
    ],
)
def test_a_reader_has_names_in_lower_case_and_bounds_within_its_own(
    work: ModuleType, given: tuple[object, ...]
) -> None:
    with pytest.raises(ValueError, match=r"."):
        work.head_reader(*given)


@pytest.mark.parametrize(
    "given",
    [
        (frozenset({"a"}), (), 9, 9),
        (frozenset({OwnBytes(b"a")}), (), 9, 9),
        (None, (), 9, 9),
        (frozenset(), None, 9, 9),
        (frozenset(), (), None, 9),
        (frozenset(), (), 9, "9"),
        (frozenset(), (), 9),
        (),
    ],
)
def test_a_reader_is_made_of_bytes_and_numbers(work: ModuleType, given: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        work.head_reader(*given)


def test_a_reader_outlives_what_it_was_made_of(work: ModuleType) -> None:
    read = work.head_reader(frozenset({b"via" + b"x" * 9}), (b"cf" + b"-",), 256, 1 << 16)
    assert read(OK + b"\r\nviaxxxxxxxxx: 1\r\ncf-ray: 1\r\nvia: 2")[2].endswith(b"12\r\nvia: 2\r\n")


# Events


@pytest.mark.parametrize("delta", DELTAS)
def test_characters_of_texts_are_counted(work: ModuleType, delta: bytes) -> None:
    def count(*texts: bytes) -> int:
        data = b"ab" + b"".join(delta + text + DELTA_END for text in texts) + b"\r\n"
        return work.count_deltas(data, 2, len(data) - 2, delta)

    assert count(b"") == 0
    assert count(b"hello") == 5
    assert count("café \U0001f600".encode()) == 6
    assert count(b"\xff\xe9", b"\xf0\x9f") == 3
    assert count(b"hello", b"", b'\\"', b"}}", "é".encode() * 99) == 108
    assert count(b"hello", b"content_block_start") == count(b"k_start") == count(b"a\r") == -1
    assert count(b"a\nb") == count(b"a", b"a\n\nb") == -1


def test_events_that_are_not_alike_are_not_counted(work: ModuleType) -> None:
    one, other = (delta + b"hello" + DELTA_END for delta in DELTAS)

    def count(data: bytes, delta: bytes = DELTA) -> int:
        return work.count_deltas(data, 0, len(data), delta)

    assert count(one + one) == 10
    assert count(one + other) == count(other + one) == count(other) == count(b"") == -1
    assert count(DELTA + DELTA_END[1:]) == count(one + DELTA + DELTA_END[1:] + one) == -1  # one quote for two
    assert count(one + b"\n") == count(b"\n" + one) == count(one + b'"}}\n\n') == count(one[:-1]) == -1
    assert count(one, b"") == count(b"", b"") == count(DELTA_END, b"") == -1
    for end in range(len(one + one)):
        assert count((one + one)[:end]) == (5 if end == len(one) else -1)


def test_only_what_is_within_is_looked_at(work: ModuleType) -> None:
    one = DELTA + b"hello" + DELTA_END
    data = one * 3
    for start in range(len(data) + 1):
        for stop in (start, start + 1, start + len(one) - 1, start + len(one), len(data)):
            told = work.count_deltas(data, start, stop, DELTA) if start <= stop <= len(data) else -1
            is_whole = start % len(one) == 0 and stop % len(one) == 0 and start < stop
            assert told == (5 * ((stop - start) // len(one)) if is_whole and stop <= len(data) else -1)


@pytest.mark.parametrize(
    "bounds", [(-1, 2), (0, 6), (3, 2), (0, -1), (6, 6), (1 << 70, 2), (0, 1 << 70), (-(1 << 70), 2)]
)
def test_bounds_lie_within_the_data(work: ModuleType, bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="bounds"):
        work.count_deltas(b"hello", *bounds, DELTA)


# Chunks, and heads that are known


@pytest.mark.parametrize("size", [b"%x", b"%X", b"0%x", b"%x;a", b"1%x"])
def test_a_whole_chunk_of_deltas_is_counted_at_once(work: ModuleType, size: bytes) -> None:
    count = work.chunk_counter(DELTA)
    for texts in ((b"hello",), ("é".encode() * 5,), (b"h" * 2000,), (b"he", b"llo"), (b"",), (b"k_start",), (b"a\n",)):
        events = b"".join(DELTA + text + DELTA_END for text in texts)
        expected = work.count_deltas(events, 0, len(events), DELTA) if size.lower() == b"%x" else -1
        assert count(size % len(events) + b"\r\n" + events + b"\r\n") == expected
        assert count(events) == -1
        assert work.chunk_counter(b"")(size % len(events) + b"\r\n" + events + b"\r\n") == -1
        assert work.chunk_counter(DELTAS[1])(size % len(events) + b"\r\n" + events + b"\r\n") == -1
    with pytest.raises(TypeError):
        work.chunk_counter(None)


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (b"5\r\nhello\r\n", 3),
        (b"A\r\n0123456789\r\n", 3),
        (b"00000001\r\na\r\n", 0),
        (b"10\r\n0123456789abcdef\r\n", 4),
        (b"5\r\nhello\r\n0\r\n\r\n", 0),
        (b"5\r\nhello\r", 0),
        (b"5\r\nhello\n\n", 0),
        (b"5\r\nhello", 0),
        (b"5\n\nhello\r\n", 0),
        (b"5;a\r\nhello\r\n", 0),
        (b"0\r\n\r\n", 0),
        (b"1\r\n\r\n", 0),
        (b"g\r\nhello\r\n", 0),
        (b"\r\n", 0),
        (b"", 0),
        (b"5", 0),
        (b"5\r", 0),
        (b"5\r\n", 0),
        (b"ffffffff\r\na\r\n", 0),
        (b"100000001\r\na\r\n", 0),
    ],
)
def test_one_whole_chunk_is_known(work: ModuleType, data: bytes, start: int) -> None:
    assert work.plain_chunk(data) == start


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"length: 12\r\n{}", (12, 12)),
        (b"length: " + b"9" * 18 + b"\r\n", (10**18 - 1, 28)),
        (b"length: " + b"9" * 19 + b"\r\n", None),
        (b"length: 0012\r\n", (12, 14)),
        (b"length: \r\n", None),
        (b"length: 12\r", None),
        (b"length: 12", None),
        (b"length: ", None),
        (b"lengtH: 12\r\n", None),
        (b"length: 12\n\r", None),
        (b"", None),
    ],
)
def test_a_head_is_known_but_for_its_number(work: ModuleType, data: bytes, told: tuple[int, int] | None) -> None:
    assert work.known_head(data, b"length: ", b"\r\n") == told


def test_a_head_may_have_no_number(work: ModuleType) -> None:
    assert work.known_head(b"GET / 12", b"GET /", b"") == (-1, 5)
    assert work.known_head(b"GET", b"GET /", b"") is None
    assert work.known_head(b"", b"", b"") == (-1, 0)
    for at in range(40):
        raw = bytes(range(40))
        assert work.known_head(raw[:at] + b"\xff" + raw[at + 1 :], raw, b"") is None


# Lines of the journal


@pytest.mark.parametrize(
    ("template", "values"),
    [
        (b"", ()),
        (b"{}", ()),
        (b"%d", (0,)),
        (b'{"a":%d,"b":%b}', (2**63 - 1, b'"%d"')),
        (b"%d%b" * 16, (7, b"\x00") * 16),
        *((b"x%b", (b"y" * size,)) for size in (*range(18), 4096)),
    ],
)
def test_a_line_has_its_checksum_in_front(work: ModuleType, template: bytes, values: tuple[object, ...]) -> None:
    document = template % values
    assert work.fill_line(template, *values) == b"%08x %b\n" % (crc32(document), document)


@pytest.mark.parametrize(("template", "values"), [(b"%d", ()), (b"", (1,)), (b"%b%d", (b"a",)), (b"%b", (b"", b""))])
def test_a_line_has_as_many_values_as_places(work: ModuleType, template: bytes, values: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        work.fill_line(template, *values)


@needs_compiled
@pytest.mark.parametrize(
    ("template", "value"), [(b"%d", -1), (b"%d", 2**63), (b"%s", b""), (b"%", b""), (b"%%", b""), (b"%5d", 1)]
)
def test_in_c_a_line_has_small_numbers_in_plain_places(template: bytes, value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        compiled.fill_line(template, value)


# JSON without its long texts


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"text":"hello"}', b'{"text":""}'),
        (b'{"text": "hello","content":"hello"}', b'{"text": "","content":""}'),
        (b'{"text":"hell","type":"hello","content":"hello"}', b'{"text":"hell","type":"hello","content":""}'),
        (b'["text",{"system":"a\\"b\\\\"}]', b'["text",{"system":""}]'),
        (b'{"thinking":"\\ud83d\\ude00","signature":"\\u00e9"}', b'{"thinking":"","signature":""}'),
        (b'{"description":"\xff\x7f\xc3\xa9 "}', b'{"description":""}'),
        (b'{"text":"hello', None),
        (b'{"text":"hello","type":"a', None),
        (b'{"text":"hell"}', None),
        (b'{"type":"hello"}', None),
        (b'{"te\\u0078t":"hello"}', None),
        (b'{"a\\"text":"hello"}', None),
        (b'{"text" :"hello"}', None),
        (b'{"text":  "hello"}', None),
        (b'{"text":["hello"]}', None),
        (b'["text","hello"]', None),
        (b'"', None),
        (b"", None),
        (b"{}", None),
    ],
)
def test_long_texts_are_left_out_of_json(work: ModuleType, body: bytes, told: bytes | None) -> None:
    assert work.without_texts(body, 5) == told


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("before", [0, 1, 2, 62, 63, 64, 126, 127, 128, 191, 500])
@pytest.mark.parametrize("slashes", [0, 2, 62, 64, 66])
def test_no_text_is_left_out_that_json_does_not_have(work: ModuleType, fault: bytes, before: int, slashes: int) -> None:
    body = b'{"text":"%b%b%b%b"}' % (b"a" * before, b"\\" * slashes, b"%b", b"z" * 200)
    assert work.without_texts(body % b"\\n", 5) == b'{"text":""}'
    if fault == b'"':
        assert work.without_texts(body % fault, 5) is None
        return
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(body % fault, type=msgspec.Raw)
    assert work.without_texts(body % fault, 5) is None


def test_so_many_texts_are_left_out_and_no_more(work: ModuleType) -> None:
    most = bytes_in_python.GAPS_MAX
    told = work.without_texts(b'{"text":"hello"}' * (most + 2), 5)
    assert told == b'{"text":""}' * most + b'{"text":"hello"}' * 2
    strings = b'"a"' * (bytes_in_python.STRINGS_MAX - 2)
    assert work.without_texts(b'"text":"hello"' + strings[3:], 5) == b'"text":""' + strings[3:]
    assert work.without_texts(b'"text":"hello"' + strings, 5) is None


# Anything

GOOD: dict[str, tuple[object, ...]] = {
    "read": (OK,),
    "count_deltas": (DELTA + b"caf\xc3\xa9" + DELTA_END, 0, len(DELTA) + 5 + len(DELTA_END), DELTA),
    "count_chunk": (b"%x\r\n%b\r\n" % (len(DELTA) + 10, DELTA + b"caf\xc3\xa9" + DELTA_END),),
    "plain_chunk": (b"5\r\nhello\r\n",),
    "known_head": (b"length: 12\r\n", b"length: ", b"\r\n"),
    "fill_line": (b'{"a":%d,"b":"%b"}', 12, b"text"),
    "without_texts": (b'{"text":"%b"}' % (b"caf\xc3\xa9\\n" * 30), 20),
}


@pytest.mark.parametrize("name", NAMES_OF_CALLS)
def test_only_bytes_themselves_and_whole_numbers_are_taken(work: ModuleType, name: str) -> None:
    function, good = function_of(work, name), GOOD[name]
    function(*good)
    if name == "fill_line" and work is bytes_in_python:
        return  # which does not look at them
    for at, argument in enumerate(good):
        others = (
            (None, 1.0, "1") if isinstance(argument, int) else (None, 1, "a", OwnBytes(), bytearray(), memoryview(b""))
        )
        for other in others:
            with pytest.raises(TypeError):
                function(*good[:at], other, *good[at + 1 :])
    for wrong in (good[:-1], (*good, b"")):
        with pytest.raises(TypeError):
            function(*wrong)


@needs_compiled
def test_both_tell_the_same_of_whatever_is_nearly_right() -> None:
    print(f"TENANTRY_SEED={SEED}")
    rng = random.Random(SEED)
    pairs = {name: (function_of(bytes_in_python, name), function_of(compiled, name)) for name in NAMES_OF_CALLS}
    told = dict.fromkeys(NAMES_OF_CALLS, 0)
    for _ in range(CASES):
        name, arguments = cases(rng)
        reference, other = pairs[name]
        expected = outcome(reference, arguments)
        assert outcome(other, arguments) == expected, (name, arguments)
        told[name] += expected not in (None, -1, 0, ValueError)
    assert min(told.values()) > CASES // 100, told  # of each, enough are what is looked for


@needs_compiled
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.binary(max_size=40), st.integers(-3, 90), st.integers(-3, 90))
def test_both_tell_the_same_of_any_bytes(data: bytes, more: bytes, start: int, stop: int) -> None:
    events = DELTA + data + DELTA_END + more
    calls: list[tuple[str, tuple[object, ...]]] = [
        ("read", (OK + b"\r\nx: " + data,)),
        ("read", (OK + b"\r\n" + data + b": " + more,)),
        ("read", (OK.replace(b" OK", data),)),
        ("read", (data,)),
        ("count_deltas", (events, 0, len(events), DELTA)),
        ("count_deltas", (events, start, stop, DELTA)),
        ("plain_chunk", (b"%x\r\n%b\r\n" % (len(data), data),)),
        ("plain_chunk", (data,)),
        ("count_chunk", (b"%x\r\n%b\r\n" % (len(events), events),)),
        ("count_chunk", (b"%x\r\n%b\r\n" % (len(events) - len(more), events[: len(events) - len(more)]),)),
        ("known_head", (data + more, data, more)),
        ("known_head", (data + b"12" + more, data, more)),
        ("without_texts", (b'{"text":"%b","content":"%b"}' % (data, more), 1)),
    ]
    for name, arguments in calls:
        expected = outcome(function_of(bytes_in_python, name), arguments)
        assert outcome(function_of(compiled, name), arguments) == expected


@needs_compiled
@pytest.mark.parametrize("raw", [OK, b"\\".join(PIECES), *(DELTA + text + DELTA_END for text in TEXTS)])
def test_both_tell_the_same_of_every_cut(raw: bytes) -> None:
    reads = [function_of(work, "read") for work in (bytes_in_python, compiled)]
    for cut in range(len(raw) + 1):
        for part in (raw[:cut], raw[cut:], raw[:cut] + raw[cut + 1 :]):
            for name, arguments in (
                ("count_deltas", (part, 0, len(part), DELTA)),
                ("known_head", (part, raw[: cut // 2], b"")),
                ("plain_chunk", (b"%x\r\n%b" % (cut, raw),)),
                ("count_chunk", (b"%x\r\n%b\r\n" % (len(part), part),)),
                ("without_texts", (b'{"text":"%b"}' % part, 1)),
            ):
                expected = outcome(function_of(bytes_in_python, name), arguments)
                assert outcome(function_of(compiled, name), arguments) == expected
            assert reads[0](part) == reads[1](part)


@needs_compiled
@pytest.mark.parametrize("name", NAMES_OF_CALLS)
def test_nothing_is_left_behind_and_nothing_is_let_go_twice(name: str) -> None:
    wrong = (None,) * len(GOOD[name])
    given = [argument for argument in GOOD[name] if type(argument) is bytes]
    counts = [sys.getrefcount(argument) for argument in given]

    def call() -> None:
        function = function_of(compiled, name)
        function(*GOOD[name])
        for broken in (wrong, (), (*GOOD[name][:-1], None)):
            outcome(function, broken)
        outcome(compiled.head_reader, (frozenset({b"a"}), (b"b", None), 9, 9))

    tracemalloc.start()
    try:
        for _ in range(100):
            call()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(2000):
            call()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 2000 * 8
    assert [sys.getrefcount(argument) for argument in given] == counts


@needs_compiled
@pytest.mark.parametrize("name", ["head_reader", *NAMES_OF_CALLS])
def test_memory_that_is_refused_is_an_error_and_no_more(name: str) -> None:
    function = compiled.head_reader if name == "head_reader" else function_of(compiled, name)
    arguments = READER if name == "head_reader" else GOOD[name]
    expected = outcome(function, arguments)
    for told in outcomes_as_memory_is_refused(function, arguments, 12):
        assert name == "head_reader" or told == expected
