"""A request at a gateway that does not grant for its tenant: answered as if it had come to the one that does."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from tenantry.gateway.peers.places import read_place
from tenantry.storage.cell_tables import gateways
from tests.acceptance.test_cells import MESSAGE, Pair
from tests.stack import parse, read_all, request, wait_for

LONG = "chunks=60;chunk-ms=50;answer-bytes=12000"
# What differs between two answers to one request wherever they come from: ids, and what is left of a minute's limits.
_OWN = re.compile(
    rb"(req_|msg_)[0-9a-z]+|(?im:^request-id: \S+)|(?im:^anthropic-ratelimit-\S+-(?:remaining|reset): \S+)"
)
MALFORMED = b"POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: %b\r\ncontent-length: x\r\n\r\n"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    found = Pair(tmp_path_factory.mktemp("hop"))
    yield found
    found.stop()


@pytest.fixture(scope="module")
def key(pair: Pair) -> str:
    """Of a tenant that gateway `a` grants for."""
    key = pair.tenant("acme", requests_per_minute=100_000)
    assert pair.call("a", key)[0] == 200
    return key


def exchange(pair: Pair, name: str, data: bytes) -> bytes:
    with pair.connect(name) as client:
        client.sendall(data)
        return read_all(client)


def ask(key: str, scenario: str = "", method: str = "POST", path: str = "/v1/messages", **fields: Any) -> bytes:
    body = json.dumps(MESSAGE | fields).encode() if method == "POST" else b""
    return request(method, path, {"x-api-key": key, "x-sandbox-scenario": scenario, "connection": "close"}, body)


# A size and its line's end, with the end of the chunk before it.
_CHUNK_MARKS = re.compile(rb"(?:^|\r\n)[0-9a-f]+\r\n")


def plain(answer: bytes) -> bytes:
    """An answer without what is its own, and without the marks of chunks: how many there are is the moment's."""
    head, mark, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        body = _CHUNK_MARKS.sub(b"", body)
    return _OWN.sub(b"", head + mark + body)


def asked_in_every_way(key: str) -> dict[str, bytes]:
    chunked = ask(key).partition(b"\r\n\r\n")
    head = re.sub(rb"(?i)content-length: \d+", b"transfer-encoding: chunked", chunked[0])
    return {
        "a message": ask(key),
        "a stream": ask(key, stream=True),
        "HTTP/1.0": ask(key, stream=True).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
        "a chunked body": head + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(chunked[2]), chunked[2]),
        "an error upstream": ask(key, "error=400"),
        "a refusal that may be tried again": ask(key, "error=429;retry-after=1"),
        "a body that is no object": request("POST", "/v1/messages", {"x-api-key": key, "connection": "close"}, b"{"),
        "a model that there is not": ask(key, model="claude-none"),
        "a count": ask(key, path="/v1/messages/count_tokens"),
        "the models": ask(key, method="GET", path="/v1/models"),
        "no such path": ask(key, method="GET", path="/v1/nothing"),
        "another's endpoint": ask(key, path="/t/globex/v1/messages"),
        "no key": ask(""),
        "too large": b"POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: %b\r\ncontent-length: 99999999\r\n\r\n"
        % key.encode(),
        "malformed": MALFORMED % key.encode(),
        "a broken stream": ask(key, "drop-midstream", stream=True),
        "a message cut off": ask(key, "bad-length"),
    }


def test_every_answer_is_the_same_as_at_the_gateway_that_grants(pair: Pair, key: str) -> None:
    for name, data in asked_in_every_way(key).items():
        direct, passed = (exchange(pair, gateway, data) for gateway in "ab")
        assert plain(passed) == plain(direct), name
        assert direct.startswith(b"HTTP/1.1 "), name


def test_nothing_is_journalled_where_it_is_passed_on_and_the_clients_address_is_kept(pair: Pair, key: str) -> None:
    before, address = len(pair.stack.billed()), "127.0.0.9"
    place = ("127.0.0.1", pair.ports["b"])
    with socket.create_connection(place, timeout=60, source_address=(address, 0)) as client:
        client.sendall(ask(key))
        assert parse(read_all(client))[0] == 200
    assert len(pair.stack.billed()) == before + 1
    owner = pair.owner("acme")
    wait_for(lambda: address.encode() in _journals(pair)[owner], what="the owner telling who used the key")
    others = [text for name, text in _journals(pair).items() if name != owner]
    assert len(others) == 1
    acme = pair.stack.site.directory.get_tenant("acme").tenant_id.encode()
    # What it refused by itself before it is told, with ids; no attempt is.
    assert acme not in re.sub(rb'\{[^{}]*"status":4\d\d[^{}]*\}', b"", others[0])


def _journals(pair: Pair) -> dict[str, bytes]:
    runs = [one for one in pair.stack.settings.journal_dir.iterdir() if one.is_dir()]
    return {one.name: b"".join(file.read_bytes() for file in one.glob("*") if file.is_file()) for one in runs}


def test_one_connection_carries_request_after_request(pair: Pair, key: str) -> None:
    data = ask(key).replace(b"connection: close\r\n", b"")
    with pair.connect("b") as client:
        for _ in range(3):
            client.sendall(data)
            status, fields, _body = _one_answer(client)
            assert (status, fields["connection"]) == (200, "keep-alive")


def _one_answer(client: socket.socket) -> tuple[int, dict[str, str], bytes]:
    got = b""
    while b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < _length(got):
        more = client.recv(65536)
        assert more, got
        got += more
    return parse(got)


def _length(got: bytes) -> int:
    found = re.search(rb"content-length: (\d+)", got)
    return int(found[1]) if found else 0


def test_a_client_that_leaves_is_seen_to_leave_by_the_gateway_that_grants(pair: Pair, key: str) -> None:
    pair.stack.final_rows("acme")
    count = len(pair.stack.rows("acme"))
    with pair.connect("b") as client:
        client.sendall(ask(key, LONG, stream=True, max_tokens=32_000))
        wait_for(lambda: b"message_start" in client.recv(65536), what="the stream")
    rows = pair.stack.final_rows("acme", count + 1)
    assert rows[-1]["error"].startswith("client_gone")


def test_no_client_can_say_that_it_is_a_gateway(pair: Pair, key: str) -> None:
    """Not at its own address either: there nothing is heard before a proof."""
    forged = {
        "x-api-key": key,
        "x-tenantry-client": "203.0.113.9",
        "x-tenantry-hop": "elsewhere",
        "connection": "close",
    }
    answer = parse(exchange(pair, "b", request("POST", "/v1/messages", forged, json.dumps(MESSAGE).encode())))
    assert answer[0] == 200
    assert "x-tenantry-hop" not in answer[1]
    with pair.stack.site.engine.connect() as connection:
        found = connection.execute(select(gateways.c.address).where(gateways.c.gateway_id == pair.owner("acme")))
        place = read_place(str(found.scalar()))
    assert place is not None
    with socket.create_connection((place.host, place.port), timeout=60) as stranger:
        assert stranger.recv(4096).startswith(b"TENANTRY-PEER-1\n")
        stranger.sendall(request("POST", "/v1/messages", forged, json.dumps(MESSAGE).encode()))
        assert read_all(stranger) == b""


def test_a_client_is_told_when_the_gateway_that_grants_dies_in_the_middle_of_its_stream(pair: Pair, key: str) -> None:
    """And the next request is granted for where it comes."""
    with pair.connect("b") as client:
        client.sendall(ask(key, LONG, stream=True, max_tokens=32_000))
        got = b""
        while b"content_block_delta" not in got:
            got += client.recv(65536)
        pair.kill("a", signal.SIGKILL)
        got += read_all(client)
    assert b"event: error\ndata: " in got
    assert got.endswith(b"\r\n0\r\n\r\n")
    assert pair.call("b", key)[0] == 200
