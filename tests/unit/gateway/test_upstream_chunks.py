"""Chunks that are taken one by one say what llhttp says of them, in whatever cuts they come."""

from __future__ import annotations

import os
import random
from typing import Any

import httptools

from tenantry.gateway.upstream import ResponseHead, ResponseSink, UpstreamConnection
from tests.unit.gateway.upstream_doubles import Owner, Socket

SEED = int(os.environ.get("TENANTRY_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
ODD = (
    b"5;ext=1\r\nhello\r\n",
    b"005\r\nhello\r\n",
    b"5 \r\nhello\r\n",
    b"5\nhello\r\n",
    b"5\r\nhelloXX",
    b"5\r\nhello\rX",
    b"+5\r\nhello\r\n",
    b"0x5\r\nhello\r\n",
    b"zz\r\n",
    b"\r\n",
    b"fffffffffffffffff\r\n",
)


class Told(ResponseSink):
    def __init__(self) -> None:
        self.body = b""
        self.end = ""

    def on_head(self, head: ResponseHead) -> None:
        assert head.status == 200

    def on_body(self, data: bytes) -> None:
        assert data
        assert not self.end
        self.body += data

    def on_flush(self) -> None:
        assert not self.end

    def on_end(self) -> None:
        assert not self.end
        self.end = "end"

    def on_broken(self, reason: str) -> None:
        assert not self.end
        self.end = reason


class Llhttp:
    def __init__(self) -> None:
        self.body = b""
        self.end = ""

    def on_body(self, data: bytes) -> None:
        if not self.end:
            self.body += data

    def on_message_complete(self) -> None:
        self.end = "end"


def read_by_llhttp(raw: bytes) -> tuple[bytes, str]:
    told = Llhttp()
    try:
        httptools.HttpResponseParser(told).feed_data(raw)
    except httptools.HttpParserError:
        told.end = told.end or "upstream_invalid_http"
    return told.body, told.end


def some_body(chance: random.Random) -> bytes:
    parts: list[bytes] = []
    for _ in range(chance.randrange(1, 12)):
        data = chance.randbytes(chance.choice((1, 2, 15, 16, 17, 255, 300)))
        size = b"%x" % len(data)
        parts.append(b"%b\r\n%b\r\n" % (chance.choice((size, size.upper())), data))
    if chance.random() < 0.3:
        parts.insert(chance.randrange(len(parts) + 1), chance.choice(ODD))
    parts.append(chance.choice((b"0\r\n\r\n", b"0\r\n\r\n", b"000\r\na: b\r\n\r\n", b"", b"0\r\n\r\nHTTP")))
    return b"".join(parts)


def received(raw: bytes, cuts: list[int]) -> tuple[tuple[bytes, str], int]:
    owner, told, transport = Owner(), Told(), Socket()
    connection = UpstreamConnection(owner, is_tls=False)
    any_transport: Any = transport
    connection.connection_made(any_transport)
    connection.send(told, b"POST / HTTP/1.1\r\n\r\n", b"")
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        if raw[start:end] and not told.end:
            connection.data_received(raw[start:end])
    return (told.body, told.end), owner.idle


def test_chunks_in_any_cuts_are_what_llhttp_reads() -> None:
    print(f"TENANTRY_SEED={SEED}")
    chance, ends = random.Random(SEED), dict[str, int]()
    for _ in range(3_000):
        raw = HEAD + some_body(chance)
        cuts = sorted(chance.randrange(len(raw) + 1) for _ in range(chance.choice((0, 1, 3, 40))))
        found, idle = received(raw, cuts)
        expected = read_by_llhttp(raw)
        ends[expected[1]] = ends.get(expected[1], 0) + 1
        assert found[1] == expected[1], (raw, cuts)
        assert found[0] == expected[0] or (found[1] != "end" and expected[0].startswith(found[0])), (raw, cuts)
        assert idle in ((0, 1) if found[1] == "end" else (0,))
    assert min(ends.values()) > 50, ends


def test_a_connection_is_used_again_after_a_whole_chunked_answer_and_not_after_more() -> None:
    body = b"5\r\nhello\r\n" * 3 + b"0\r\n\r\n"
    assert received(HEAD + body, [len(HEAD) + 3]) == ((b"hello" * 3, "end"), 1)
    assert received(HEAD + body + b"H", [len(HEAD) + 3]) == ((b"hello" * 3, "end"), 0)


class ToldHead(Told):
    def __init__(self) -> None:
        super().__init__()
        self.head: ResponseHead | None = None

    def on_head(self, head: ResponseHead) -> None:
        self.head = head


def test_after_a_chunked_answer_the_next_one_is_read_by_its_own_head_in_any_cut() -> None:
    """llhttp reads it where its head comes in two, or behind an interim one: nothing of the answer before is left."""
    plain = b"HTTP/1.1 529 Overloaded\r\nrequest-id: req_2\r\ncontent-length: 2\r\n\r\n{}"
    any_transport: Any = Socket()
    for raw in (plain, b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + plain):
        for cut in range(len(raw)):
            first, second = Told(), ToldHead()
            connection = UpstreamConnection(Owner(), is_tls=False)
            connection.connection_made(any_transport)
            connection.send(first, b"POST / HTTP/1.1\r\n\r\n", b"")
            connection.data_received(HEAD + b"5\r\nhello\r\n0\r\n\r\n")
            assert (first.body, first.end) == (b"hello", "end")
            connection.send(second, b"POST / HTTP/1.1\r\n\r\n", b"")
            for data in (raw[:cut], raw[cut:]):
                if data:
                    connection.data_received(data)
            assert second.head is not None
            assert (second.head.status, second.head.request_id) == (529, b"req_2")
            assert (second.body, second.end) == (b"{}", "end")
