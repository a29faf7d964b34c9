"""Answers that are odd: what they used is neither lost nor invented, nothing is raised, and the time is linear."""

import json
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tenantry.domain.settlement import USAGE_UNREADABLE, Observed
from tenantry.domain.usage import USAGE_FELL, USAGE_MALFORMED
from tenantry.wire.answers import read_message
from tenantry.wire.chunked import ChunkedDecoder
from tenantry.wire.observe import HELD_BYTES_MAX, StreamObserver

START = (
    b'{"type":"message_start","message":{"model":"claude-opus-5-5","content":[],'
    b'"usage":{"input_tokens":9,"output_tokens":1}}}'
)
DELTA = b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":42}}'
STOP = b'{"type":"message_stop"}'
TEXT = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%b"}}'


def event(name: bytes, data: bytes, end: bytes = b"\n", space: bytes = b" ") -> bytes:
    return b"event:" + space + name + end + b"data:" + space + data + end + end


def stream(text: bytes = b"hello", end: bytes = b"\n", space: bytes = b" ") -> bytes:
    return b"".join(
        [
            event(b"message_start", START, end, space),
            event(b"content_block_delta", TEXT % text, end, space),
            event(b"message_delta", DELTA, end, space),
            event(b"message_stop", STOP, end, space),
        ]
    )


def observe(data: bytes, cut: int = 0) -> tuple[Observed, bytes, int]:
    observer, out = StreamObserver(), b""
    step = cut or len(data) or 1
    for at in range(0, len(data), step):
        out += observer.feed(data[at : at + step])
    out += observer.finish()
    return observer.result(), out, observer.delta_chars


ODD_TEXTS = [
    b"",
    b"ends in a colon:",
    b"\\ud83d",
    b"\xff\xfe",
    b"\\x",
    b"raw \x01 control",
    b'event: message_delta\\ndata: {\\"type\\":\\"message_delta\\",\\"usage\\":{\\"output_tokens\\":0}}',
    b"event: message_stop",
    b"an error, and message_ids",
]


@pytest.mark.parametrize("cut", [0, 1, 7, 100])
@pytest.mark.parametrize("text", ODD_TEXTS)
@pytest.mark.parametrize(("end", "space"), [(b"\n", b" "), (b"\n", b""), (b"\r\n", b" "), (b"\r", b"")])
def test_usage_is_read_whatever_the_text_and_the_line_ends(text: bytes, end: bytes, space: bytes, cut: int) -> None:
    data = stream(text, end, space)
    seen, relayed, chars = observe(data, cut)
    assert relayed == data
    assert (seen.model, seen.complete, seen.is_final, seen.flaws) == ("claude-opus-5-5", True, True, ())
    assert (seen.usage.input_tokens, seen.usage.output_tokens) == (9, 42)
    assert chars == len(text.decode("utf-8", "replace"))


def test_the_type_in_the_data_counts_and_the_name_is_a_fallback() -> None:
    seen, _, chars = observe(event(b"message_start", START) + event(b"message_stop", TEXT % b"abcd"))
    assert (seen.complete, chars) == (False, 4)
    assert observe(event(b"message_start", START) + event(b"message_stop", b"junk"))[0].complete
    assert observe(b"\xef\xbb\xbf" + stream())[0].usage.input_tokens == 9


def whole(content: bytes, usage: bytes = b'{"input_tokens":7,"output_tokens":3}') -> bytes:
    return b'{"model":"claude-opus-5-5","content":' + content + b',"stop_reason":"end_turn","usage":' + usage + b"}"


@pytest.mark.parametrize(
    "content",
    [
        b'["\\ud83d"]',
        b'["\xff"]',
        b'["\x00"]',
        b"[" * 5000 + b"]" * 5000,
        b'[{"usage":{"input_tokens":0,"output_tokens":0}},"\\ud83d"]',
        b'["\\"usage\\":{}","\\ud83d"]',
        b'[],"usage":{"output_tokens":0},"unknown":"\\udc00"',
    ],
)
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
def test_no_content_makes_a_message_free(content: bytes, before: bytes) -> None:
    seen = read_message(before + whole(content))
    assert (seen.model, seen.stop_reason) == ("claude-opus-5-5", "end_turn")
    assert (seen.usage.input_tokens, seen.usage.output_tokens, seen.flaws) == (7, 3, ())


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", whole(b"[]", b"null"), whole(b"[]")[:-9]])
def test_a_whole_answer_without_usage_is_flawed(body: bytes) -> None:
    assert read_message(body).flaws == (USAGE_UNREADABLE,)
    assert read_message(body, is_whole=False).flaws == ()


@pytest.mark.parametrize("bad", [b"1.0", b"-1", b'"5"', b"true", b"1000000000001", b"9007199254740992", b"[]", b"1e3"])
def test_what_is_no_count_is_flagged_and_read_as_0(bad: bytes) -> None:
    told = b'{"input_tokens":7,"output_tokens":' + bad + b"}"
    seen = read_message(whole(b"[]", told))
    assert (seen.usage.output_tokens, seen.usage.input_tokens, seen.flaws) == (0, 7, (USAGE_MALFORMED,))
    streamed = observe(event(b"message_start", START) + event(b"message_delta", DELTA.replace(b"42", bad)))[0]
    assert USAGE_MALFORMED in streamed.flaws


def test_an_end_without_final_usage_is_flawed() -> None:
    seen, _, _ = observe(event(b"message_start", START) + event(b"message_stop", STOP))
    assert seen.flaws == (USAGE_UNREADABLE,)


def test_server_tools_are_seen_as_hidden_work() -> None:
    block = b'{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"x"}}'
    assert observe(event(b"content_block_start", block))[0].has_hidden_work
    assert not observe(stream())[0].has_hidden_work


def test_what_is_too_large_to_hold_is_counted_all_the_same() -> None:
    data = event(b"content_block_delta", TEXT % (b"y" * (3 * HELD_BYTES_MAX)))
    assert observe(data, 10_000)[2] >= 3 * HELD_BYTES_MAX


def _calls(work: Callable[[], object]) -> int:
    """How many calls, of Python and of C, `work` makes."""
    count = 0

    def profile(_frame: Any, kind: str, _what: Any) -> None:
        nonlocal count
        count += kind in ("call", "c_call")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


WORST = [
    b"content_block\n",
    b'"delta"\n',
    b'content_block"delta"',
    b'content_block"delta"_delta"\n',
    b"\n",
    b"\r",
    b"message_",
    b"message_\n\n",
    b"error\r\r",
    b"data:\n",
    b'data:{"type":"error"}\n\n',
    b"[",
    b'"\\',
]


@pytest.mark.parametrize("piece", WORST)
@pytest.mark.parametrize("cut", [0, 1])
def test_twice_the_bytes_are_at_most_twice_the_calls(piece: bytes, cut: int) -> None:
    size = 20_000 if cut else 200_000
    once = piece * (size // len(piece)) + b"\n\n"
    twice = once[:-2] * 2 + b"\n\n"
    assert _calls(lambda: observe(twice, cut)) < 2.5 * _calls(lambda: observe(once, cut)) + 1000


@pytest.mark.parametrize("piece", WORST)
def test_any_repetition_is_read_at_once(piece: bytes) -> None:
    """A quadratic search makes few calls, and takes minutes here: who runs this would see it stand still."""
    data = piece * (2_000_000 // len(piece)) + b"\n\n"
    assert observe(data)[1] in (data, b"", data[:-2])
    read_message(data)


def test_chunks_of_one_byte_are_decoded_in_a_line() -> None:
    def work(count: int) -> Callable[[], object]:
        return lambda: ChunkedDecoder(1 << 40).feed(b"1\r\na\r\n" * count)

    assert _calls(work(20_000)) < 2.5 * _calls(work(10_000))


def test_any_bytes_in_any_cuts_are_relayed_as_they_came() -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    parts = [
        *WORST,
        stream(),
        stream(b"\\ud83d", b"\r\n"),
        *ODD_TEXTS,
        b"\r\n",
        b"event: error\n",
        b"\xef\xbb\xbf",
        START,
    ]
    for turn in range(1500):
        data = b"".join(dice.choice(parts)[: dice.randint(1, 300)] for _ in range(dice.randint(1, 12)))
        observer, relayed, at = StreamObserver(), b"", 0
        while at < len(data):
            step = dice.choice([1, 2, 5, 50, 400])
            relayed += observer.feed(data[at : at + step])
            at += step
        relayed += observer.finish()
        seen = observer.result()
        assert data.startswith(relayed), f"seed {seed} turn {turn}"
        if seen.complete or seen.failed:
            assert relayed == data, f"seed {seed} turn {turn}"
        read_message(data)
        json.dumps(seen.usage_raw)


@pytest.mark.parametrize(
    ("usage", "is_flawed"),
    [
        (b'{"input_tokens":5,"output_tokens":5}', False),
        (b'{"input_tokens":null,"cache_read_input_tokens":7,"output_tokens":5}', False),
        (b'{"input_tokens":5}', True),
        (b'{"input_tokens":5,"output_tokens":null}', True),
        (b'{"output_tokens":5}', True),
        (b"{}", True),
        (b'{"iterations":[{"type":"message","input_tokens":5,"output_tokens":5}]}', False),
    ],
)
def test_a_message_that_does_not_tell_both_ends_of_its_usage_is_flawed(usage: bytes, is_flawed: bool) -> None:
    seen = read_message(b'{"model":"m","content":["x"],"usage":%b}' % usage)
    assert seen.flaws == ((USAGE_UNREADABLE,) if is_flawed else ())


def told(start: str, *deltas: str) -> Observed:
    observer = StreamObserver()
    message = b'{"type":"message_start","message":{"model":"m","content":[],"usage":%b}}' % start.encode()
    observer.feed(event(b"message_start", message))
    for usage in deltas:
        delta = b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":%b}' % usage.encode()
        observer.feed(event(b"message_delta", delta))
    observer.feed(event(b"message_stop", STOP))
    return observer.result()


@pytest.mark.parametrize(
    ("start", "deltas", "fell"),
    [
        ('{"input_tokens":9,"output_tokens":1}', ['{"output_tokens":0}'], False),  # the start's is a placeholder
        ('{"input_tokens":9,"output_tokens":1}', ['{"output_tokens":500}', '{"output_tokens":501}'], False),
        ('{"input_tokens":9,"output_tokens":1}', ['{"output_tokens":500}', '{"output_tokens":499}'], True),
        ('{"input_tokens":9,"output_tokens":500}', ['{"output_tokens":4}'], True),
        ('{"input_tokens":900,"output_tokens":1}', ['{"input_tokens":899,"output_tokens":4}'], True),
        (
            '{"input_tokens":900,"output_tokens":1}',
            ['{"input_tokens":100,"cache_read_input_tokens":800,"output_tokens":4}'],
            False,
        ),
        (
            '{"input_tokens":9,"output_tokens":1,"server_tool_use":{"web_search_requests":2}}',
            ['{"output_tokens":4,"server_tool_use":{"web_search_requests":1}}'],
            True,
        ),
        (  # another model took over, and the totals are its own
            '{"input_tokens":900,"output_tokens":1}',
            [
                '{"output_tokens":300}',
                '{"input_tokens":400,"output_tokens":20,"iterations":[{"type":"message","input_tokens":900,'
                '"output_tokens":300},{"type":"fallback_message","input_tokens":400,"output_tokens":20}]}',
            ],
            False,
        ),
    ],
)
def test_counts_that_fall_within_an_answer_are_flagged(start: str, deltas: list[str], fell: bool) -> None:
    assert told(start, *deltas).flaws == ((USAGE_FELL,) if fell else ())


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("kind", [b"text_delta", b"thinking_delta", b"input_json_delta", b"signature_delta"])
def test_the_characters_of_an_event_that_broke_off_count(kind: bytes, step: int) -> None:
    name = {b"thinking_delta": b"thinking", b"input_json_delta": b"partial_json", b"signature_delta": b"signature"}
    data = b'{"type":"content_block_delta","index":0,"delta":{"type":"%b","%b":"%b"}}' % (
        kind,
        name.get(kind, b"text"),
        b'quoted \\" words ' * 1000,
    )
    whole = event(b"content_block_delta", data)
    observer = StreamObserver()
    broken = whole[:-20]
    for at in range(0, len(broken), step):
        observer.feed(broken[at : at + step])
    is_counted = kind != b"signature_delta"
    assert (observer.delta_chars >= 15_900) is is_counted
    # When its end comes, it counts as it would have at once.
    observer.feed(whole[-20:])
    at_once = StreamObserver()
    at_once.feed(whole)
    assert observer.delta_chars == at_once.delta_chars


def test_the_first_event_of_a_chunk_may_be_known_by_its_name_alone() -> None:
    observer = StreamObserver()
    observer.feed(event(b"message_stop", b"{}"))
    assert observer.complete
