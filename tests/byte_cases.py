"""Arguments for the byte work: what upstreams and clients send, and what is nearly that.

For the tests of both implementations (`tests/unit/wire/test_bytework.py`) and for the fuzzing of the compiled one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from types import ModuleType

NAMES_OF_CALLS = ("read", "count_deltas", "count_chunk", "plain_chunk", "known_head", "fill_line", "without_texts")
Arguments = tuple[str, tuple[object, ...]]

DROPPED = frozenset({b"server", b"via", b"connection", b"content-length", b"transfer-encoding", b"request-id"})
PREFIXES = (b"anthropic-ratelimit-", b"cf-")
LINES_MAX, BYTES_MAX = 12, 600
READER = (DROPPED, PREFIXES, LINES_MAX, BYTES_MAX)

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nrequest-id: req_1\r\nContent-Length: 12"
NAMES = (
    b"content-type",
    b"Request-Id",
    b"date",
    b"anthropic-ratelimit-requests-limit",
    b"Anthropic-RateLimit-tokens-limit",
    b"server",
    b"CF-Ray",
    b"cf",
    b"cf-",
    b"x-a",
    b"x-" + b"n" * 61,
    b"x-" + b"n" * 62,
    b"x-" + b"n" * 63,
    b"anthropic-ratelimit-" + b"n" * 60,
)
FRAMING = (b"connection", b"content-length", b"transfer-encoding")
VALUES = (
    b"",
    b"1",
    b"12",
    b"9" * 18,
    b"9" * 19,
    b"chunked",
    b"Keep-Alive",
    b"close",
    b"a b",
    b"a\tb",
    b"\xe9",
    b" x\t",
    b"\t ",
    b"gzip, chunked",
    b"+3",
    b"v" * 64,
)
BREAKS = (
    b"\n",
    b"\r",
    b"\x00",
    b"\x1f",
    b"\t",
    b" ",
    b":",
    b"\r\n",
    b"\r\n ",
    b"\r\n\r\n",
    b"\x7f",
    b"\x80",
    b"\xff",
    b'"',
    b'"}}',
    b"}}\n\n",
    b"k_start",
    b"k_",
    b"\xf0\x9f\x98",
    b"1",
    b"0",
    b"",
)

# One for each kind that a stream's observer knows.
DELTAS = tuple(
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b_delta","%b":"'
    % (index, kind, member)
    for index, kind, member in ((0, b"text", b"text"), (123_456_789, b"input_json", b"partial_json"))
)
DELTA_END = b'"}}\n\n'
TEXTS = (
    b"",
    b"hello",
    b" the quick brown fox",
    "é".encode(),
    ("x" * 100 + "é").encode(),
    "\U0001f600".encode(),
    b"\\u00e9",
    b'\\"',
    b'"',
    b"}}",
    b'"}}',
    b"k_star",
    b"content_block_start",
    b"k_start",
    b"\xe9",
    b"\xf0\x9f",
    b"\xed\xa0\x80",
    b"\xff" * 9,
    b"k" * 20,
    b"_" * 20,
    b"kk_start",
)


def mutated(rng: random.Random, raw: bytes, times: int) -> bytes:
    """With bytes put in, left out or doubled."""
    for _ in range(times):
        at, gone = rng.randrange(len(raw) + 1), rng.choice((0, 0, 1, 1, 2, 9))
        raw = raw[:at] + rng.choice((*BREAKS, raw[at : at + 9])) + raw[at + gone :]
    return raw


def some_head(rng: random.Random) -> bytes:
    status = rng.choice((200, 200, 200, 200, 200, 201, 400, 429, 529, 304, 204, 199, 600, 99))
    names = NAMES if rng.random() < 0.7 else NAMES + FRAMING
    lines = [b"HTTP/1.1 %d%b" % (status, rng.choice((b" OK", b"", b" ", b" Too Many", b" \xe9\t", b"OK")))]
    for _ in range(rng.randrange(LINES_MAX)):
        lines.append(b"%b:%b%b" % (rng.choice(names), rng.choice((b" ", b"", b"\t ")), rng.choice(VALUES)))
    if rng.random() < 0.8:
        lines.insert(
            rng.randint(1, len(lines)),
            rng.choice((b"content-length: 5", b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked ")),
        )
    raw = mutated(rng, b"\r\n".join(lines), rng.choice((0, 0, 0, 1, 2)))
    return raw[: rng.randrange(len(raw) + 1)] if rng.random() < 0.1 else raw


def some_deltas(rng: random.Random, delta: bytes) -> bytes:
    texts = [rng.choice(TEXTS) for _ in range(rng.choice((1, 1, 1, 2, 3, 9)))]
    if rng.random() < 0.5:
        texts = [b"".join(rng.choices(TEXTS[:8], k=rng.randrange(5))) for _ in texts]
    return mutated(rng, b"".join(delta + text + DELTA_END for text in texts), rng.choice((0, 0, 0, 1, 2)))


def some_events(rng: random.Random) -> tuple[bytes, int, int, bytes]:
    delta = rng.choice(DELTAS)
    events = some_deltas(rng, delta)
    before, after = rng.choice((b"", b"5a\r\n", b"\n")), rng.choice((b"", b"\r\n", b"\n", events))
    start, stop = len(before), len(before) + len(events)
    if rng.random() < 0.1:
        start, stop = rng.randrange(-2, stop + 3), rng.randrange(-2, stop + 3)
    return before + events + after, start, stop, delta if rng.random() < 0.95 else b""


def some_chunk(rng: random.Random, body: bytes = b"") -> bytes:
    size = len(body) or rng.choice((0, 1, 9, 10, 15, 16, 255, 256))
    told = rng.choice((b"%x", b"%X", b"0%x", b"%x;a", b"1%x")) % max(0, size + rng.choice((0, 0, 0, 0, 1, -1)))
    raw = told + b"\r\n" + (body or b"a" * size) + b"\r\n"
    return mutated(rng, raw, rng.choice((0, 0, 0, 1)))


def some_known(rng: random.Random) -> tuple[bytes, bytes, bytes]:
    before = (
        b"POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: key\r\n" * rng.choice((0, 1, 1, 2)) + b"content-length: "
    )
    after = rng.choice((b"", b"\r\n\r\n", b"\r\naccept: */*\r\n\r\n"))
    digits = rng.choice((b"0", b"12", b"9" * 18, b"9" * 19, b"", b"+1", b"1_0")) if after else b""
    raw = before + digits + after + rng.choice((b"", b"{}", b"1"))
    raw = mutated(rng, raw, rng.choice((0, 0, 0, 1)))
    return raw[: rng.randrange(len(raw) + 1)] if rng.random() < 0.1 else raw, before, after


def some_line(rng: random.Random) -> tuple[object, ...]:
    places, parts = rng.choice((0, 1, 2, 9, 32)), [rng.choice((b"", b'"a":', b"\xff\x00" * 9))]
    values: list[object] = []
    for _ in range(places):
        is_number = rng.random() < 0.7
        parts += [b"%d" if is_number else b"%b", rng.choice((b"", b",", b'"output_tokens":'))]
        values.append(rng.choice((0, 9, 10, 2**63 - 1, rng.getrandbits(62))) if is_number else rng.choice(VALUES))
    if rng.random() < 0.1:
        values = values[1:] if rng.random() < 0.5 else [*values, b""]
    return b"".join(parts), *values


# What a text may be made of; and what makes a string none.
PIECES = (
    b"a",
    b"plain text of some length, without anything in it. ",
    b"\\n",
    b"\\t\\t",
    b'\\"',
    b"\\\\",
    b"\\\\\\\\\\\\",
    b"\\r\\n",
    b"\\/\\b\\f",
    b"\\u0041",
    b"\\uD83d\\uDE00",
    b"\\ud7ff\\ue000",
    "é😀".encode(),
    b"\x7f\xff",
    b"{},:[]",
)
FAULTS = (b"\\x", b"\\u00g0", b"\\ud800", b"\\udc00", b"\\ud800\\u0041", b"\x1f", b"\x00", b"\n", b"\\", b'"', b"\\u12")


def some_text(rng: random.Random, pieces_max: int = 40) -> bytes:
    pieces = rng.choices(PIECES, k=rng.randrange(pieces_max)) if rng.random() < 0.7 else [rng.choice(PIECES)] * 70
    if rng.random() < 0.03:
        pieces.insert(rng.randrange(len(pieces) + 1), rng.choice(FAULTS))
    return b"".join(pieces)


def some_texts(rng: random.Random) -> tuple[bytes, int]:
    names = (
        b"text",
        b"content",
        b"thinking",
        b"signature",
        b"system",
        b"description",
        b"type",
        b"te\\u0078t",
        b'x"text',
    )
    members: list[bytes] = []
    for _ in range(rng.randrange(6)):
        name, colon = rng.choice(names), rng.choice((b":", b":", b":", b": ", b" :", b":  ", b""))
        members.append(b'"%b"%b"%b"' % (name, colon, some_text(rng)))
    raw = mutated(rng, b"{%b}" % rng.choice((b",", b", ")).join(members), rng.choice((0, 0, 0, 0, 1, 2)))
    return raw[: rng.randrange(len(raw) + 1)] if rng.random() < 0.1 else raw, rng.choice((1, 20, 20, 20, 64, 0))


def cases(rng: random.Random) -> Arguments:
    """One call, to what `function_of` that name is, and its arguments."""
    match rng.randrange(7):
        case 6:
            return "without_texts", some_texts(rng)
        case 0:
            return "read", (some_head(rng),)
        case 1:
            return "count_deltas", some_events(rng)
        case 2:
            return "plain_chunk", (some_chunk(rng),)
        case 3:
            return "count_chunk", (some_chunk(rng, some_deltas(rng, DELTAS[0])),)
        case 4:
            return "fill_line", some_line(rng)
        case _:
            return "known_head", some_known(rng)


def function_of(work: ModuleType, name: str) -> Callable[..., object]:
    """What a case calls."""
    match name:
        case "read":
            return work.head_reader(*READER)
        case "count_chunk":
            return work.chunk_counter(DELTAS[0])
        case _:
            return getattr(work, name)


def outcome(function: Callable[..., object], arguments: tuple[object, ...]) -> object:
    """What it gives, or the kind of error that it raises."""
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001 -- which one is what is compared
        return type(error)
