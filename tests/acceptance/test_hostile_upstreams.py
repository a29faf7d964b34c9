"""Upstreams that break the protocol, answer twice, or never end: over real sockets, beside one that is well."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.stack import PATIENCE_SECONDS, Stack, parse, read_all, request, wait_for
from tests.storm.accounting import add_tenant, is_idle, resident_bytes
from tests.storm.upstream import Upstream

MESSAGE = b'{"model":"claude-sonnet-5-5","max_tokens":8,"messages":[{"role":"user","content":"hi"}]}'
ANSWER = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-5-5","content":[{"type":"text",'
    b'"text":"%b"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":2}}'
)
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PING = b'event: ping\ndata: {"type": "ping"}\n\n' * 64
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
HOP_FIELDS = b"connection: x-hop, x-b\r\nConnection: X-Last\r\nx-hop: 1\r\nx-last: 2\r\nx-own: 3\r\n"
BLOCK = b"x" * 65_536
# How many attack at once, and what the gateway may grow by meanwhile: a whole answer of each, once more to join it, and
# what an allocator keeps.
ATTACKS = 2
GROWTH_BYTES_MAX = ATTACKS * 2 * 32 * 1024 * 1024 + 48 * 1024 * 1024
# Heads have no reason to be kept at all.
HEAD_GROWTH_BYTES_MAX = 24 * 1024 * 1024
# Nothing comes to a client before a whole answer has come to the gateway: tens of megabytes, on a busy machine.
ENDLESS_SECONDS_MAX = 5 * PATIENCE_SECONDS
# How much of a stream is read: kept, it would pass that.
STREAM_BYTES = 32 * 1024 * 1024


def whole(text: bytes, head: bytes = OK) -> bytes:
    body = ANSWER % text
    return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)


# What is sent for a request that asks for it, and what is sent behind it without end.
PLAYS: dict[str, tuple[bytes, bytes]] = {
    "well": (whole(b"well"), b""),
    "twice": (whole(b"first") + whole(b"second"), b""),
    "none-then-another": (b"HTTP/1.1 204 No Content\r\n\r\n" + whole(b"second"), b""),
    "none-with-a-length": (b"HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nbody" + whole(b"second"), b""),
    "not-modified": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 400\r\n\r\n" + whole(b"second"), b""),
    "hop": (whole(b"hop", OK + HOP_FIELDS), b""),
    **{f"status-{code}": (whole(b"odd").replace(b" 200 ", b" %b " % code.encode(), 1), b"") for code in (
        "000", "042", "099", "600", "999", "1000")},
    **{f"status-line-{code}": (b"HTTP/1.1 %b Odd\r\n" % code.encode(), b"") for code in ("000", "099", "600", "999")},
    "coding": (OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b""),
    "told-length": (OK + b"content-length: 1099511627776\r\n\r\n", BLOCK),
    "chunks": (CHUNKED, b"10000\r\n" + BLOCK + b"\r\n"),
    "one-chunk": (CHUNKED + b"7fffffffffff\r\n", BLOCK),
    "until-close": (OK + b"\r\n", BLOCK),
    "failed": (b"HTTP/1.1 400 Bad Request\r\ntransfer-encoding: chunked\r\n\r\n", b"10000\r\n" + BLOCK + b"\r\n"),
    "pings": (STREAM, b"%x\r\n%b\r\n" % (len(PING), PING)),
    "one-event": (STREAM + b"b\r\nevent: a\nda\r\n", b"10000\r\n" + BLOCK + b"\r\n"),
    "one-usage-event": (STREAM + b"14\r\nevent: message_start\r\n", b"10000\r\n" + BLOCK + b"\r\n"),
    "fields": (OK, b"x-field: " + b"y" * 90 + b"\r\n"),
    "one-field": (OK + b"x-field: ", BLOCK),
    "reason": (b"HTTP/1.1 200 ", BLOCK),
    "empty-lines": (b"", b"\r\n" * 8192),
    "interim": (b"", b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" * 64),
    "interim-fields": (b"HTTP/1.1 103 Early Hints\r\n", b"x-field: " + b"y" * 90 + b"\r\n"),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"x-field: " + b"y" * 90 + b"\r\n"),
    "extension": (CHUNKED + b"2;a=", BLOCK),
}  # fmt: skip
NO_ANSWERS = [name for name in PLAYS if name.startswith("status-") or name == "coding"]
ENDLESS_BODIES = ["told-length", "chunks", "one-chunk", "until-close", "failed"]
ENDLESS_HEADS = ["fields", "one-field", "reason", "empty-lines", "interim", "interim-fields", "trailers", "extension"]


class Hostile:
    """An upstream that does what `x-sandbox-play` of a request says, on a free loopback port."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            client.settimeout(ENDLESS_SECONDS_MAX)
            came = b""
            while True:
                while b"\r\n\r\n" not in came:
                    data = client.recv(65_536)
                    if not data:
                        return
                    came += data
                head, _, came = came.partition(b"\r\n\r\n")
                lines = [line.partition(b":") for line in head.lower().split(b"\r\n")]
                fields = {name: value.strip() for name, _, value in lines}
                length = int(fields.get(b"content-length", b"0"))
                while len(came) < length:
                    came += client.recv(65_536)
                came = came[length:]
                self._play(client, fields.get(b"x-sandbox-play", b"well").decode())

    def _play(self, client: socket.socket, name: str) -> None:
        self.asked.append(name)
        begin, endless = PLAYS[name]
        client.sendall(begin)
        while endless:
            client.sendall(endless)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    running = Stack(tmp_path_factory.mktemp("hostile-upstreams")).start("gateway", "control")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def hostile() -> Iterator[Hostile]:
    made = Hostile()
    yield made
    made.close()


@pytest.fixture(scope="module")
def key(site: Stack, hostile: Hostile) -> str:
    upstream: Any = hostile  # what a tenant is added for: a port and a URL
    return add_tenant(site, "of-the-hostile", upstream)


@pytest.fixture(scope="module")
def neighbour(site: Stack) -> Iterator[str]:
    upstream = Upstream()
    yield add_tenant(site, "of-the-well", upstream)
    upstream.close()


def asking(key: str, play: str, *, closes: bool = True, stream: bool = False) -> bytes:
    body = MESSAGE.replace(b'"max_tokens"', b'"stream":true,"max_tokens"') if stream else MESSAGE
    headers = {"x-api-key": key, "x-sandbox-play": play, "connection": "close" if closes else "keep-alive"}
    return request("POST", "/v1/messages", headers, body)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("play", NO_ANSWERS)
def test_what_is_no_answer_is_502_and_not_asked_for_again(
    site: Stack, hostile: Hostile, key: str, play: str, stream: bool
) -> None:
    before = hostile.asked.count(play)
    status, _, body = parse(site.raw(asking(key, play, stream=stream)))
    assert (status, json.loads(body)["error"]["type"]) == (502, "api_error")
    assert hostile.asked.count(play) == before + 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("play", ["twice", "none-then-another", "none-with-a-length", "not-modified"])
def test_what_comes_behind_an_answer_reaches_nobody(site: Stack, key: str, play: str, stream: bool) -> None:
    asked = asking(key, play, closes=False, stream=stream) + asking(key, "well")
    answers = site.raw(asked)
    assert b"second" not in answers
    assert answers.count(b"HTTP/1.1 ") == 2
    assert answers.count(b"well") == 1


@pytest.mark.parametrize("play", ["none-then-another", "none-with-a-length", "not-modified"])
def test_an_answer_without_a_body_has_no_length_and_no_coding(site: Stack, key: str, play: str) -> None:
    status, fields, body = parse(site.raw(asking(key, play)))
    assert status in (204, 304)
    assert body == b""
    assert fields.keys().isdisjoint({"content-length", "transfer-encoding"})


def test_fields_that_any_connection_field_names_are_dropped(site: Stack, key: str) -> None:
    status, fields, _ = parse(site.raw(asking(key, "hop")))
    assert status == 200
    assert fields.keys().isdisjoint({"x-hop", "x-last"})
    assert (fields["x-own"], fields["connection"]) == ("3", "close")


def attacked(site: Stack, key: str, neighbour: str, play: str, stream: bool) -> tuple[list[bytes], int]:
    """What those who asked got, and by how many bytes the gateway grew at most. The neighbour is served meanwhile."""
    pid = site.processes["gateway"].pid
    most = before = resident_bytes(pid)

    def attack(_: int) -> bytes:
        with site.connect() as client:
            client.settimeout(ENDLESS_SECONDS_MAX)
            client.sendall(asking(key, play, stream=stream))
            return read_all(client)

    with ThreadPoolExecutor(ATTACKS) as pool:
        told = [pool.submit(attack, number) for number in range(ATTACKS)]
        for turn in itertools.count():
            most = max(most, resident_bytes(pid))
            if turn % 20 == 0:
                assert site.message(neighbour)[0] == 200
            if all(one.done() for one in told):
                break
            time.sleep(0.01)
        return [one.result() for one in told], most - before


@pytest.mark.parametrize("play", ENDLESS_BODIES)
def test_an_answer_without_an_end_is_cut_and_held_in_bounds(site: Stack, key: str, neighbour: str, play: str) -> None:
    answers, growth = attacked(site, key, neighbour, play, stream=False)
    assert growth < GROWTH_BYTES_MAX
    for answer in answers:
        assert len(answer) < 33 * 1024 * 1024
        assert not answer.endswith(b"0\r\n\r\n")  # it is cut, and does not look whole
    wait_for(lambda: is_idle(site, "of-the-hostile"), what="everything given back")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("play", ENDLESS_HEADS)
def test_a_head_without_an_end_is_refused_and_nothing_of_it_kept(
    site: Stack, key: str, neighbour: str, play: str, stream: bool
) -> None:
    answers, growth = attacked(site, key, neighbour, play, stream)
    assert growth < HEAD_GROWTH_BYTES_MAX
    for answer in answers:
        status = parse(answer)[0] if play not in ("trailers", "extension") else 200
        assert status in (502, 200)
        assert len(answer) < 64 * 1024
    if play not in ("trailers", "extension"):
        assert {parse(answer)[0] for answer in answers} <= {502, 503}
    wait_for(lambda: is_idle(site, "of-the-hostile"), what="everything given back")


def test_a_length_above_any_answer_is_502_before_its_body(site: Stack, hostile: Hostile, key: str) -> None:
    before = hostile.asked.count("told-length")
    assert parse(site.raw(asking(key, "told-length")))[0] == 502
    assert hostile.asked.count("told-length") == before + 1


@pytest.mark.parametrize("play", ["pings", "one-event", "one-usage-event"])
def test_a_stream_without_an_end_is_passed_on_and_not_kept(
    site: Stack, hostile: Hostile, neighbour: str, play: str
) -> None:
    upstream: Any = hostile
    key = add_tenant(site, f"reads-{play}", upstream)
    pid = site.processes["gateway"].pid
    before, most, came = resident_bytes(pid), 0, 0
    with site.connect() as client:
        client.sendall(asking(key, play, stream=True))
        while came < STREAM_BYTES:
            came += len(client.recv(1 << 20))
            most = max(most, resident_bytes(pid))
        assert site.message(neighbour)[0] == 200
    assert most - before < HEAD_GROWTH_BYTES_MAX
