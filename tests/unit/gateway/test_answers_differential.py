"""Answers in any cuts are one answer, and the one that llhttp and h11 read from the same bytes.

Generated, valid and damaged. What two readers take for an end well must be the same answer to both (RFC 9112 6.3): a
reader that ends it elsewhere gives the rest to somebody else.
"""

from __future__ import annotations

import contextlib
import os
import random
from dataclasses import dataclass, field
from typing import Any

import h11
import httptools

from tenantry.gateway.upstream import ResponseHead, ResponseSink, UpstreamConnection
from tests.unit.gateway.upstream_doubles import Owner, Socket

SEED = int(os.environ.get("TENANTRY_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
ANSWERS = 2_000
STATUSES = (b"200",) * 8 + (b"201", b"204", b"205", b"304", b"400", b"429", b"500", b"529", b"599")
ODD_STATUSES = (b"000", b"099", b"101", b"600", b"999", b"20", b"2000", b"2x0")
FIELDS = (
    b"content-type: application/json",
    b"Content-Type:text/event-stream",
    b"request-id: req_1",
    b"x-empty:",
    b"x-obs: \xe9\xff",
    b"x-a: 1",
    b"connection: keep-alive",
    b"connection: close",
    b"connection: x-a",
    b"Connection: keep-alive, x-empty",
    b"server: some",
)
ODD_FIELDS = (
    b"x : 1",
    b"x",
    b": x",
    b" x: folded",
    b"x: a\rb",
    b"x: a\nb",
    b"x: \0",
    b"content-length: 3",
    b"content-length: 3, 3",
    b"content-length: -1",
    b"content-length: 0x3",
    b"content-length: 18446744073709551616",
    b"transfer-encoding: chunked",
    b"transfer-encoding: gzip",
    b"transfer-encoding: chunked, gzip",
    b"transfer-encoding: xchunked",
    b"upgrade: h2c",
)
INTERIM = b"HTTP/1.1 103 Early\r\nlink: <a>\r\n\r\n"
BEHIND = (b"", b"", b"", b"\r\n", b"H", b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond", b"0\r\n\r\n", b"\0")


@dataclass(slots=True)
class Read(ResponseSink):
    """An answer as it was told. `end`: "end", or how it broke."""

    status: int = 0
    fields: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    body: bytes = b""
    end: str = ""
    behind: bool = field(default=False, compare=False)

    def on_head(self, head: ResponseHead) -> None:
        assert not self.status
        assert 200 <= head.status <= 599
        lines = [line.partition(b":") for line in head.lines_for_client().split(b"\r\n")]
        self.status = head.status
        self.fields = [(name.lower(), value.strip(b" \t")) for name, _, value in lines]
        self.fields += [(b"type", head.content_type), (b"id", head.request_id)]

    def on_body(self, data: bytes) -> None:
        assert data
        assert self.status
        assert not self.end
        self.body += data

    def on_flush(self) -> None:
        assert not self.end

    def on_end(self) -> None:
        assert self.status
        assert not self.end
        self.end = "end"

    def on_broken(self, reason: str) -> None:
        assert not self.end
        self.end = reason


def read_in_cuts(raw: bytes, cuts: list[int]) -> tuple[Read, bool]:
    """The answer, and whether the connection may be used again. Nothing is given to it once it has been closed."""
    owner, told, transport = Owner(), Read(), Socket()
    connection = UpstreamConnection(owner, is_tls=False)
    any_transport: Any = transport
    connection.connection_made(any_transport)
    connection.send(told, b"POST / HTTP/1.1\r\n\r\n", b"")
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        if raw[start:end] and not transport.is_closed:
            connection.data_received(raw[start:end])
    is_kept = not transport.is_closed and owner.idle == 1
    connection.connection_lost(None)
    assert told.end
    return told, is_kept


class Llhttp:
    """The first final answer, as llhttp's callbacks have it."""

    def __init__(self) -> None:
        self.parser: Any = None
        self.read = Read()

    def on_headers_complete(self) -> None:
        if not self.read.status and self.parser.get_status_code() >= 200:
            self.read.status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if not self.read.end:
            self.read.body += data

    def on_message_complete(self) -> None:
        if self.read.status:
            self.read.end = "end"


def read_by_llhttp(raw: bytes) -> Read | None:
    """None where it does not end before the connection does."""
    told = Llhttp()
    told.parser = httptools.HttpResponseParser(told)
    with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
        told.parser.feed_data(raw)
    return told.read if told.read.end else None


def read_by_h11(raw: bytes) -> Read | None:
    """None where it does not end well; `behind`: something stands behind it."""
    connection, told = h11.Connection(h11.CLIENT), Read()
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "a"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    try:
        connection.receive_data(raw)
        is_at_end = False
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA and not is_at_end:
                is_at_end = True
                connection.receive_data(b"")
            elif isinstance(event, h11.Response):
                told.status = event.status_code
            elif isinstance(event, h11.Data):
                told.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                told.behind = bool(connection.trailing_data[0])
                return told
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None


def some_answer(chance: random.Random) -> bytes:
    body = chance.randbytes(chance.choice((0, 1, 2, 15, 16, 17, 200)))
    fields = [chance.choice(FIELDS) for _ in range(chance.randrange(5))]
    framing = chance.choice(("length", "length", "chunked", "chunked", "close"))
    if framing == "length":
        fields.append(b"Content-Length: %d" % len(body))
    elif framing == "chunked":
        fields.append(b"Transfer-Encoding: chunked")
        body = in_chunks(chance, body)
    if chance.random() < 0.15:
        fields.append(chance.choice(ODD_FIELDS))
    chance.shuffle(fields)
    status = chance.choice(ODD_STATUSES if chance.random() < 0.08 else STATUSES)
    version = chance.choice((b"1.1",) * 12 + (b"1.0", b"0.9", b"2.0"))
    line = b"HTTP/%b %b%b" % (version, status, chance.choice((b" OK", b" OK", b" ", b"", b" \xe9")))
    end = b"\n" if chance.random() < 0.03 else b"\r\n"
    head = end.join((line, *fields, b"", b""))
    interim = INTERIM * chance.choice((0,) * 8 + (1, 2, 8, 9))
    return interim + head + body + chance.choice(BEHIND)


def in_chunks(chance: random.Random, body: bytes) -> bytes:
    parts: list[bytes] = []
    while body:
        size = chance.randrange(1, len(body) + 1)
        told = chance.choice((b"%x", b"%x", b"%X", b"0%x", b"%x;a=b")) % size
        parts.append(b"%b\r\n%b\r\n" % (told, body[:size]))
        body = body[size:]
    return b"".join((*parts, chance.choice((b"0\r\n\r\n",) * 5 + (b"00\r\n\r\n", b"0\r\nx-trailer: 1\r\n\r\n", b""))))


def damaged(chance: random.Random, raw: bytes) -> bytes:
    """One byte or one stretch is lost, doubled, or another."""
    start = chance.randrange(len(raw))
    end = min(len(raw), start + chance.choice((1, 1, 1, 4, 30)))
    other = chance.choice(
        (b"", raw[start:end] * 2, chance.choice((b"\r", b"\n", b"\0", b" ", b"0", b"f", b":", b"\xff")))
    )
    return raw[:start] + other + raw[end:]


def test_answers_are_read_alike_whole_byte_by_byte_and_by_others() -> None:
    print(f"TENANTRY_SEED={SEED}")
    chance, agreed, kept = random.Random(SEED), {"llhttp": 0, "h11": 0, "broken": 0}, 0
    for _ in range(ANSWERS):
        raw = some_answer(chance)
        if chance.random() < 0.4:
            raw = damaged(chance, raw)
        found, is_kept = read_in_cuts(raw, [])
        for cuts in (list(range(1, len(raw))), sorted(chance.randrange(len(raw) + 1) for _ in range(3))):
            again, _ = read_in_cuts(raw, cuts)
            assert again == found, (raw, cuts)
        kept += is_kept
        if found.end != "end":
            agreed["broken"] += 1
            assert not is_kept, raw
            continue
        by_llhttp, by_h11 = read_by_llhttp(raw), read_by_h11(raw)
        if by_llhttp is not None:
            agreed["llhttp"] += 1
            assert (by_llhttp.status, by_llhttp.body) == (found.status, found.body), raw
        if by_h11 is not None:
            agreed["h11"] += 1
            assert (by_h11.status, by_h11.body) == (found.status, found.body), raw
            assert not (is_kept and by_h11.behind), raw
    print(agreed, kept)
    assert min(*agreed.values(), kept) > ANSWERS // 20, (agreed, kept)
