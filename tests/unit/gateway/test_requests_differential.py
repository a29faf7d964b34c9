"""Requests in any cuts are the same requests, and those that h11 reads from the same bytes.

Generated, valid and damaged, several behind each other on one connection. What goes upstream is what another reader
would have read too (RFC 9112 11.2): else one of them is a request that nobody sent.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import h11
import pytest

from tests.unit.gateway.playbook import Connection, World, key_of

SEED = int(os.environ.get("TENANTRY_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
CONNECTIONS = 300
BODY = b'{"model":"claude-haiku-5-5","max_tokens":9,"messages":[{"role":"user","content":"%b"}]}'
ANSWER = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"claude-haiku-5-5","content":[],'
    b'"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":2}}'
)
FIELDS = (b"accept: */*", b"X-Empty:", b"x-obs: \xe9", b"Connection: keep-alive", b"user-agent:\ta\t", b"x-a: b c")
ODD_FIELDS = (
    b"x : 1",
    b" x: folded",
    b"x",
    b"x: a\rb",
    b"x: a\nb",
    b"x: \0",
    b"content-length: 5",
    b"Content-Length: +90",
    b"content-length: 90, 90",
    b"transfer-encoding: chunked",
    b"transfer-encoding: gzip, chunked",
    b"transfer-encoding: xchunked",
    b"transfer_encoding: chunked",
    b"host: b",
    b"connection: close",
    b"expect: else",
    b"upgrade: h2c",
)
# What a request may be refused with before its body has come.
BY_HEAD = ("answer 401", "answer 403", "answer 404", "answer 413", "answer 417")
Read = tuple[list[bytes], list[str], bool]


def some_request(chance: random.Random, number: int) -> bytes:
    body = BODY % (b"%d " % number * chance.choice((1, 2, 40)))
    lines = [b"host: a", b"x-api-key: " + key_of("acme").encode()]
    lines += [chance.choice(FIELDS) for _ in range(chance.randrange(3))]
    if chance.random() < 0.5:
        lines.append(b"content-length: %d" % len(body))
    else:
        lines.append(b"Transfer-Encoding: chunked")
        body = in_chunks(chance, body)
    if chance.random() < 0.2:
        lines.append(chance.choice(ODD_FIELDS))
    chance.shuffle(lines)
    end = b"\n" if chance.random() < 0.03 else b"\r\n"
    start = chance.choice((b"",) * 8 + (b"\r\n", b"\n", b"\r\n\r\n", b" "))
    return start + end.join((b"POST /v1/messages HTTP/1.1", *lines, b"", b"")) + body


def in_chunks(chance: random.Random, body: bytes) -> bytes:
    parts: list[bytes] = []
    odd = chance.choice((b"%x",) * 20 + (b"%x ", b"+%x", b"0x%x", b"%x;\x01", b" %x"))
    while body:
        size = chance.randrange(1, len(body) + 1)
        told = chance.choice((b"%x", b"%x", b"%X", b"00%x", b"%x;a=b", odd)) % size
        parts.append(b"%b\r\n%b\r\n" % (told, body[:size]))
        body = body[size:]
    end = chance.choice(
        (b"0\r\n\r\n",) * 8 + (b"000\r\n\r\n", b"0;a\r\n\r\n", b"0\r\nx-trailer: 1\r\n\r\n", b"0\r\n\n")
    )
    return b"".join((*parts, end))


def some_requests(chance: random.Random) -> bytes:
    raw = b"".join(some_request(chance, number) for number in range(chance.choice((1, 1, 2, 3))))
    if chance.random() < 0.3:
        start = chance.randrange(len(raw))
        end = min(len(raw), start + chance.choice((1, 1, 1, 4, 30)))
        other = (b"", raw[start:end] * 2, chance.choice((b"\r", b"\n", b"\0", b" ", b"0", b":", b"\xff")))
        raw = raw[:start] + chance.choice(other) + raw[end:]
    return raw


def read_in_cuts(world: World, bodies: list[bytes], raw: bytes, cuts: list[int]) -> Read:
    """What went upstream, what the client was answered, and whether its connection goes on."""
    bodies.clear()
    client = world.client()
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        if raw[start:end] and client.is_open:
            client.connection.data_received(raw[start:end])
            serve(world)
    found = bodies[:], client.answers, client.is_open
    client.leave()
    serve(world)
    return found


def is_same(one: Read, other: Read) -> bool:
    """A request refused by its head ends the connection, unless its body was there to be stepped over: then what stands
    behind it is read too.
    """
    if one == other:
        return True
    less, more = sorted((one, other), key=lambda read: (len(read[1]), read[2]))
    is_begun = less[:2] == (more[0][: len(less[0])], more[1][: len(less[1])])
    return is_begun and not less[2] and bool(less[1]) and less[1][-1] in BY_HEAD


def serve(world: World) -> None:
    """Everything that can go on goes on; each request upstream is answered."""
    world.turn()
    while world.beside or world.connecting or world.sent:
        world.read_beside()
        for connecting in world.connecting[:]:
            connecting.made()
        for connection in world.sent[:]:
            connection.whole(200, ANSWER)
        world.turn()


def read_by_h11(raw: bytes) -> list[bytes]:
    """The bodies of the requests, until one breaks the protocol or is the last by its own word."""
    bodies: list[bytes] = []
    while raw:
        while raw.startswith(b"\r\n"):  # RFC 9112 2.2 lets a server pass over empty lines; h11 does not
            raw = raw[2:]
        if not raw:  # nothing to be told of is an end to h11
            return bodies
        connection, body, is_whole = h11.Connection(h11.SERVER), b"", False
        try:
            connection.receive_data(raw)
            while not is_whole:
                event = connection.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    return bodies
                if isinstance(event, h11.Data):
                    body += event.data
                is_whole = isinstance(event, h11.EndOfMessage)
        except h11.RemoteProtocolError:
            return bodies
        bodies.append(body)
        if connection.their_state in (h11.MUST_CLOSE, h11.CLOSED):
            return bodies
        raw = connection.trailing_data[0]
    return bodies


def test_requests_are_read_alike_whole_byte_by_byte_and_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(f"TENANTRY_SEED={SEED}")
    world, bodies, really_send = World(tmp_path), list[bytes](), Connection.send

    def send(self: Connection, sink: Any, head: bytes, body: bytes) -> None:
        bodies.append(body)
        really_send(self, sink, head, body)

    monkeypatch.setattr(Connection, "send", send)
    chance, sent, refused = random.Random(SEED), 0, 0
    for _ in range(CONNECTIONS):
        raw = some_requests(chance)
        found = read_in_cuts(world, bodies, raw, [])
        for cuts in (list(range(1, len(raw))), sorted(chance.randrange(len(raw) + 1) for _ in range(3))):
            assert is_same(read_in_cuts(world, bodies, raw, cuts), found), (raw, cuts)
        sent, refused = sent + len(found[0]), refused + any(word != "answer 200" for word in found[1])
        by_h11 = iter(read_by_h11(raw))
        assert all(body in by_h11 for body in found[0]), (raw, found, read_by_h11(raw))
    print(sent, refused)
    assert min(sent, refused) > CONNECTIONS // 4, (sent, refused)
