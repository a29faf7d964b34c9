"""The events that say nothing but text: counted by searches alone, and to the same number however they are cut."""

from __future__ import annotations

import json
import random
import sys

import pytest

from tenantry.wire.observe import StreamObserver

STREAMS = 300
KINDS = [("text", "text"), ("thinking", "thinking"), ("input_json", "partial_json"), ("signature", "signature")]
# What a text may hold that looks like something else.
WORDS = [
    "hello ",
    "é",
    "😀",
    '"',
    "\\",
    "\n",
    "message_delta",
    "error",
    "content_block_start",
    '"delta"',
    '_delta":"',
    "}}",
]
START = b"""event: message_start
data: {"type":"message_start","message":{"model":"m","usage":{"input_tokens":25,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

"""
END = b"""event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":150}}

event: message_stop
data: {"type":"message_stop"}

"""


def delta(text: str, index: int = 0, kind: int = 0, *, ensure_ascii: bool = False, gap: bytes = b"\n") -> bytes:
    """One event, as upstream writes it."""
    name, member = KINDS[kind]
    told = json.dumps(text, ensure_ascii=ensure_ascii)
    data = f'{{"type":"content_block_delta","index":{index},"delta":{{"type":"{name}_delta","{member}":{told}}}}}'
    return b"event: content_block_delta%bdata: %b%b%b" % (gap, data.encode(), gap, gap)


def a_stream(rng: random.Random) -> tuple[list[bytes], int]:
    """Events, and how many characters their deltas have as they stand in the JSON; a signature has none."""
    events, chars = [START], 0
    gap = b"\r\n" if rng.random() < 0.1 else b"\n"
    for _ in range(rng.randrange(60)):
        text = "".join(rng.choices(WORDS, k=rng.randrange(4))) if rng.random() < 0.3 else "the " * rng.randrange(4)
        index, kind = rng.choice([(0, 0), (0, 0), (0, 0), (1, 1), (2, 2), (1, 3)])
        is_ascii = rng.random() < 0.5
        events.append(delta(text, index, kind, ensure_ascii=is_ascii, gap=gap))
        chars += len(json.dumps(text, ensure_ascii=is_ascii)) - 2 if kind < 3 else 0
    return [*events, END], chars


def cut(rng: random.Random, events: list[bytes]) -> list[bytes]:
    """In events, in some events together, or at any byte."""
    whole, chunks, at = b"".join(events), [], 0
    match rng.randrange(3):
        case 0:
            return events
        case 1:
            while at < len(events):
                number = rng.randint(1, 9)
                chunks.append(b"".join(events[at : at + number]))
                at += number
        case _:
            most = rng.choice([7, 100, 2_000])
            while at < len(whole):
                number = rng.randint(1, most)
                chunks.append(whole[at : at + number])
                at += number
    return chunks


def test_deltas_are_counted_to_the_character_however_they_are_cut() -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for number in range(STREAMS):
        events, chars = a_stream(rng)
        observer, relayed = StreamObserver(), b""
        for chunk in cut(rng, events):
            relayed += observer.feed(chunk)
        seen = observer.result()
        assert observer.delta_chars == chars, f"seed {seed}, stream {number}"
        assert relayed == b"".join(events)
        assert (seen.complete, seen.usage.output_tokens, seen.flaws) == (True, 150, ())


def calls_of(observer: StreamObserver, chunk: bytes) -> tuple[int, int]:
    """How many calls of Python and of C a chunk costs."""
    counts = {"call": 0, "c_call": 0}

    def count(_frame: object, event: str, _of: object) -> None:
        if event in counts:
            counts[event] += 1

    sys.setprofile(count)
    try:
        observer.feed(chunk)
    finally:
        sys.setprofile(None)
    return counts["call"], counts["c_call"] - 1  # without that of `setprofile`


@pytest.mark.interpreted
def test_a_delta_like_the_one_before_is_a_few_calls() -> None:
    observer = StreamObserver()
    observer.feed(START)
    observer.feed(delta("hello"))
    python, c = calls_of(observer, delta("there \U0001f600, you"))
    assert python <= 2  # one where the counting is compiled
    assert c <= 9
    assert observer.delta_chars == 5 + 12


@pytest.mark.parametrize("number", [2, 50, 500])
def test_deltas_that_come_together_cost_no_calls_of_their_own(number: int) -> None:
    observer = StreamObserver()
    observer.feed(START)
    observer.feed(delta("hello"))
    python, c = calls_of(observer, b"".join(delta(f"café {index}") for index in range(number)))
    assert python + c <= 20
    assert observer.delta_chars == 5 + sum(len(f"café {index}") for index in range(number))


@pytest.mark.parametrize("before", [b"", b'event: ping\ndata: {"type":"ping"}\n\n'])
def test_the_first_event_of_a_chunk_is_known_by_its_name_too(before: bytes) -> None:
    observer = StreamObserver()
    observer.feed(START)
    observer.feed(
        before + b'event: message_delta\ndata: {"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}\n\n'
    )
    assert (observer.stop_reason, observer.told_output_tokens) == ("end_turn", 7)


def took(observer: StreamObserver, data: bytes) -> bool:
    """Take a whole chunk as it came, as an attempt does."""
    chars = observer.count_chunk(data)
    observer.delta_chars += max(0, chars)
    return chars >= 0


def test_what_is_counted_in_its_place_is_counted_as_if_it_were_fed() -> None:
    """And what is not is left as it was, to be fed."""
    rng = random.Random()
    seed = rng.randrange(1 << 32)
    rng.seed(seed)
    within = 0
    for number in range(STREAMS):
        events, chars = a_stream(rng)
        observer = StreamObserver()
        for chunk in cut(rng, events):
            if took(observer, b"%x\r\n%b\r\n" % (len(chunk), chunk)):
                within += 1
            else:
                observer.feed(chunk)
        assert observer.delta_chars == chars, f"seed {seed}, stream {number}"
        assert observer.result().complete, f"seed {seed}, stream {number}"
    assert within > STREAMS


@pytest.mark.parametrize(
    "data",
    [
        b"%X\r\n%b\r\n" % (len(delta("hello")) + 1, delta("hello")),  # another size
        b"%x\r\n%b\n\r" % (len(delta("hello")), delta("hello")),
        b"0%x\r\n%b\r\n" % (len(delta("hello")), delta("hello")),
        b"%x;a=b\r\n%b\r\n" % (len(delta("hello")), delta("hello")),
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(delta("hello")), delta("hello")),
        b"%x\r\n%b\r\n" % (len(delta("a\rb")), delta("hello")),
        b"\r\n",
        b"0\r\n\r\n",
        delta("hello"),
    ],
)
def test_only_one_whole_chunk_is_taken_as_it_came(data: bytes) -> None:
    observer = StreamObserver()
    observer.feed(START)
    observer.feed(delta("hello"))
    assert not took(observer, data)
    assert observer.delta_chars == 5


def test_nothing_is_counted_in_its_place_behind_an_event_that_has_not_ended() -> None:
    observer, event = StreamObserver(), delta("hello")
    data = b"%x\r\n%b\r\n" % (len(event), event)
    observer.feed(START)
    observer.feed(event)
    observer.feed(event[:50])
    assert not took(observer, data)
    observer.feed(event[50:])
    assert took(observer, data)
    assert observer.delta_chars == 15
