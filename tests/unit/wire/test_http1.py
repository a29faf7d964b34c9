import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.wire.chunked import BadChunk, BodyTooLarge, ChunkedDecoder
from tenantry.wire.http1 import BadHead, KnownHead, parse_request_head
from tests.malformed_heads import GOOD, MALFORMED, TOO_MANY_FIELDS


def head_of(raw: bytes) -> bytes:
    return raw[: raw.index(b"\r\n\r\n") + 4]


def test_a_plain_head_parses() -> None:
    head = parse_request_head(head_of(GOOD))
    assert (head.method, head.target, head.content_length, head.chunked) == (b"POST", b"/v1/messages", 2, False)
    assert head.fields[b"x-api-key"] == b"K"
    assert head.keep_alive


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"x-a:b", b"b"),
        (b"X-A:  b\t ", b"b"),
        (b"x-a:", b""),
        (b"x-a: b c", b"b c"),
        (b"x-a: caf\xc3\xa9", b"caf\xc3\xa9"),
    ],
)
def test_field_values_lose_only_the_white_space_around_them(line: bytes, value: bytes) -> None:
    assert parse_request_head(b"GET / HTTP/1.1\r\nhost: a\r\n" + line + b"\r\n\r\n").fields[b"x-a"] == value


@pytest.mark.parametrize(
    "lines",
    [b"connection: close\r\n", b"connection: keep-alive\r\nConnection: Close\r\n", b"connection: x, close\r\n"],
)
def test_a_connection_ends_when_any_of_its_fields_says_so(lines: bytes) -> None:
    assert not parse_request_head(b"GET / HTTP/1.1\r\nhost: a\r\n" + lines + b"\r\n").keep_alive


@pytest.mark.parametrize("raw", [raw for raw in MALFORMED.values() if b"\r\n\r\n" in raw] + [TOO_MANY_FIELDS])
def test_a_malformed_head_is_refused(raw: bytes) -> None:
    with pytest.raises(BadHead):
        parse_request_head(head_of(raw))


@given(st.binary(max_size=300))
def test_any_bytes_parse_or_raise_the_one_error(raw: bytes) -> None:
    for candidate in (raw + b"\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\n" + raw + b"\r\n\r\n"):
        try:
            head = parse_request_head(candidate)
        except BadHead:
            continue
        # What was accepted is one head, line for line: nothing hides in a name or a value.
        assert len(list(head.headers)) == candidate.count(b"\n") - 2
        for name, value in head.headers:
            assert re.fullmatch(rb"[!#$%&'*+\-.^_`|~0-9a-z]+", name)
            assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value)


@given(st.binary(max_size=2000), st.lists(st.integers(1, 50), min_size=1), st.integers(1, 40), st.binary(max_size=20))
def test_chunked_bodies_decode_at_any_cut(body: bytes, sizes: list[int], cut: int, rest: bytes) -> None:
    coded, at, turn = b"", 0, 0
    while at < len(body):
        part = body[at : at + sizes[turn % len(sizes)]]
        coded += b"%X;ext=1\r\n%b\r\n" % (len(part), part)
        at, turn = at + len(part), turn + 1
    coded += b"0\r\n\r\n" + rest
    decoder, out, behind = ChunkedDecoder(len(body)), b"", b""
    for start in range(0, len(coded), cut):
        if decoder.complete:
            behind += coded[start : start + cut]
        else:
            out += decoder.feed(coded[start : start + cut])
    assert (out, decoder.complete, decoder.rest + behind) == (body, True, rest)


@pytest.mark.parametrize(
    "coded",
    [
        b"x\r\n",
        b"-1\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1 \r\na\r\n",
        b"\r\n",
        b"1\r\nab",
        b"1\r\na\n",
        b"1\na\r\n",
        b"0\r\nx-trailer: a\r\n\r\n",
        b"1;\x00\r\na\r\n",
        b"11111111111111111\r\n",
        b"1;" + b"e" * 300,
    ],
)
def test_a_malformed_chunk_is_refused(coded: bytes) -> None:
    with pytest.raises(BadChunk):
        ChunkedDecoder(1 << 64).feed(coded)


@pytest.mark.parametrize("coded", [b"8\r\n", b"7fffffffffffffff\r\n", b"ffffffffffffffff;a\r\n", b"3\r\nabc\r\n5\r\n"])
def test_a_chunk_that_makes_the_body_too_large_is_refused_by_its_size(coded: bytes) -> None:
    with pytest.raises(BodyTooLarge):
        ChunkedDecoder(7).feed(coded)


def test_chunks_may_make_a_body_as_large_as_is_allowed() -> None:
    decoder = ChunkedDecoder(7)
    assert decoder.feed(b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n") == b"abcdefg"
    assert decoder.complete


KNOWN = b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nx-api-key: k\r\nContent-Length: 12\r\nx-b: 1\r\n\r\n"


@pytest.mark.parametrize(
    ("buffer", "length"),
    [
        (KNOWN, 12),
        (KNOWN + b"body", 12),
        (KNOWN.replace(b"12", b"7"), 7),
        (KNOWN.replace(b"12", b"123456789012345678"), 123456789012345678),
    ],
)
def test_a_repeated_head_is_known_by_all_but_its_length(buffer: bytes, length: int) -> None:
    known = KnownHead(KNOWN, parse_request_head(KNOWN))
    end = known.again(buffer)
    assert end
    assert known.length == length == parse_request_head(buffer[:end]).content_length
    assert buffer[end:] == buffer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    "buffer",
    [
        b"",
        KNOWN[:-1],
        KNOWN.replace(b"12", b""),
        KNOWN.replace(b"12", b"+2"),
        KNOWN.replace(b"12", b"1234567890123456789"),
        KNOWN.replace(b"12", b"12\r\nContent-Length: 12"),
        KNOWN.replace(b"x-api-key: k", b"x-api-key: l"),
        KNOWN.replace(b"x-b: 1", b"x-b: 2"),
        KNOWN.replace(b"POST", b"post"),
    ],
)
def test_any_other_head_is_not_known(buffer: bytes) -> None:
    known = KnownHead(KNOWN, parse_request_head(KNOWN))
    assert known.again(buffer) == 0
    assert known.length == 12


@given(st.binary(max_size=12), st.integers(0, len(KNOWN)), st.integers(0, 4))
def test_what_is_known_would_have_passed(inserted: bytes, at: int, removed: int) -> None:
    buffer = KNOWN[:at] + inserted + KNOWN[at + removed :]
    head = parse_request_head(KNOWN)
    known = KnownHead(KNOWN, head)
    end = known.again(buffer)
    if end:
        parsed = parse_request_head(buffer[:end])
        assert (parsed.target, parsed.content_length, parsed.chunked) == (head.target, known.length, False)
