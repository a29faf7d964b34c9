"""What is read by lines is what llhttp reads, and what llhttp refuses is never read by lines."""

import os
import random

import httptools
import pytest

from tenantry.gateway.upstream.head import ResponseHead, head_of, read_plain_head

SEED = int(os.environ.get("TENANTRY_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
HEADS = 20_000
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nrequest-id: req_1\r\nContent-Length: 12"

NAMES = (
    b"content-type",
    b"Request-Id",
    b"date",
    b"anthropic-ratelimit-requests-limit",
    b"server",
    b"x-a",
    b"x-a",
    b"connection",
    b"content-length",
    b"transfer-encoding",
)
VALUES = (
    b"",
    b"1",
    b"12",
    b"chunked",
    b"keep-alive",
    b"close",
    b"a b",
    b"\xe9",
    b" x\t",
    b"gzip, chunked",
    b"+3",
    b"1,1",
)
BREAKS = (
    b"\n",
    b"\r",
    b"\x00",
    b"\t",
    b" ",
    b":",
    b"\r\n",
    b"\r\n ",
    b"\x7f",
    b"\x0b",
    b"\xff",
    b"HTTP/1.0",
    b"1",
    b"",
)


class Llhttp:
    """What the parser beside it reads."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_head = False
        self.body = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.has_head:
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.has_head = True

    def on_body(self, data: bytes) -> None:
        self.body += data


def read_by_llhttp(raw: bytes) -> tuple[int, dict[bytes, bytes]] | None:
    told = Llhttp()
    parser = httptools.HttpResponseParser(told)
    try:
        parser.feed_data(raw + b"\r\n\r\n")
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    return (parser.get_status_code(), dict(told.headers)) if told.has_head else None


def some_head(chance: random.Random) -> bytes:
    status = chance.choice((200, 200, 201, 400, 429, 529, 304, 204, 100, 99, 600))
    lines = [b"HTTP/1.1 %d %b" % (status, chance.choice((b"OK", b"", b"Too Many", b"\xe9")))]
    for _ in range(chance.randrange(8)):
        lines.append(b"%b:%b%b" % (chance.choice(NAMES), chance.choice((b" ", b"", b"\t ")), chance.choice(VALUES)))
    if chance.random() < 0.7:
        lines.append(
            chance.choice((b"content-length: 5", b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked"))
        )
    raw = b"\r\n".join(lines)
    for _ in range(chance.choice((0, 0, 1, 2))):
        at = chance.randrange(len(raw) + 1)
        raw = raw[:at] + chance.choice(BREAKS) + raw[at + chance.randrange(2) :]
    return raw


def test_what_is_read_by_lines_is_what_llhttp_reads() -> None:
    print(f"TENANTRY_SEED={SEED}")
    chance, read = random.Random(SEED), 0
    for _ in range(HEADS):
        raw = some_head(chance)
        if b"\r\n\r\n" in raw:
            continue  # that is where the head ends
        head = read_plain_head(raw)
        if head is None:
            continue
        read += 1
        assert (head.status, head.fields) == read_by_llhttp(raw), raw
        assert (head.length is None) == (b"transfer-encoding" in head.fields), raw
        assert head.length is None or head.length == int(head.fields[b"content-length"]), raw
    assert read > HEADS // 20


@pytest.mark.parametrize(
    "raw",
    [
        OK.replace(b"1.1", b"1.0"),
        OK.replace(b"200", b"204"),
        OK.replace(b"200", b"100"),
        OK.replace(b"200", b"600"),
        OK.replace(b"Content-Length: 12", b"x: y"),
        OK + b"\r\ntransfer-encoding: chunked",
        OK + b"\r\ncontent-length: 12",
        OK + b"\r\nconnection: close",
        OK.replace(b"12", b"1_2"),
        OK.replace(b"12", b"9" * 19),
        OK.replace(b"application", b"\r\n application"),
        OK.replace(b"json", b"js\non"),
        OK.replace(b"json", b"js\ron"),
        OK.replace(b"Type:", b"Type :"),
        OK + b"\r\nno field",
        OK + b"\r\nx: y" * 200,
    ],
)
def test_what_is_not_plain_is_left_to_llhttp(raw: bytes) -> None:
    assert read_plain_head(OK) is not None
    assert read_plain_head(raw) is None


def test_heads_of_as_many_lines_and_other_names_are_not_taken_for_one_another() -> None:
    first, second = read_plain_head(OK), read_plain_head(OK.replace(b"request-id", b"x-custom-a"))
    assert first is not None and second is not None  # noqa: PT018 -- one fact
    assert (first.request_id, second.request_id) == (b"req_1", b"")
    again = read_plain_head(OK.replace(b"req_1", b"req_2"))
    assert again is not None
    assert again.request_id == b"req_2"


@pytest.mark.parametrize("is_final", [False, True])
def test_a_client_sees_what_is_its_own(is_final: bool) -> None:
    told = b"\r\nX-Should-Retry: true\r\nanthropic-organization-id: o\r\nserver: s\r\ncf-ray: 1\r\nretry-after: 3"
    by_lines = read_plain_head(OK + told)
    assert by_lines is not None
    by_llhttp = head_of(200, [*by_lines.fields.items()])

    def lines(head: ResponseHead) -> list[bytes]:
        return head.lines_for_client(is_final=is_final).lower().split(b"\r\n")

    word = b"x-should-retry: false" if is_final else b"x-should-retry: true"
    assert sorted(lines(by_lines)) == [b"", b"content-type: application/json", b"retry-after: 3", word]
    assert sorted(lines(by_llhttp)) == sorted(lines(by_lines))


def test_a_client_may_see_one_line_or_none() -> None:
    for told, seen in ((b"content-type: a\r\n", b"content-type: a\r\n"), (b"", b"")):
        head = read_plain_head(b"HTTP/1.1 200 OK\r\n%bcontent-length: 0" % told)
        assert head is not None
        assert head.lines_for_client() == seen


@pytest.mark.parametrize("options", [b"x-hop", b"keep-alive, X-Hop", b"close,x-hop , x-other"])
def test_what_the_upstream_names_as_its_hops_own_is_not_passed_on(options: bytes) -> None:
    head = head_of(200, [(b"connection", options), (b"x-hop", b"1"), (b"x-kept", b"2"), (b"content-length", b"0")])
    assert head.lines_for_client() == b"x-kept: 2\r\n"


def test_each_field_that_names_hop_fields_counts() -> None:
    told = [(b"connection", b"x-a"), (b"x-a", b"1"), (b"x-b", b"2"), (b"connection", b"X-B"), (b"x-c", b"3")]
    assert head_of(200, told).lines_for_client() == b"x-c: 3\r\n"
