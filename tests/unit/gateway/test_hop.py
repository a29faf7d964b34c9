"""Requests that another gateway grants for, without sockets: `>>` and `<<` of the first gateway, and of the second."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest

from tenantry.gateway.foresight import ASKED_SECONDS_MAX
from tenantry.gateway.hop import ASK_SECONDS
from tenantry.gateway.peers.calling import Peers
from tenantry.gateway.peers.client import PeerConnection
from tenantry.gateway.population import Connected, Heir
from tenantry.gateway.upstream import Pools
from tests.unit.gateway.playbook import MODEL, ClientSocket, Connection, UpstreamPool, World, request_bytes

ASK = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
TENANT = "tnt_acme"
STREAM = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}


class Neighbours(Peers):
    """The other gateways; `nobody` where none can be reached."""

    def __init__(self, world: World) -> None:
        Peers.__init__(self, Pools(), b"k" * 32)
        self.pools: dict[str, UpstreamPool] = {}
        self._world = world

    def of(self, gateway_id: str, address: str) -> UpstreamPool | None:
        return self.pools.setdefault(gateway_id, UpstreamPool(self._world, gateway_id)) if address else None


class Site(World):
    """A gateway that knows of another one, `b`, which grants for the tenant."""

    def __init__(self, tmp_path: Path, budget_nanos: int | None = None) -> None:
        World.__init__(self, tmp_path, is_one_of_several=True, budget_nanos=budget_nanos)
        self.parts = replace(self.parts, peers=Neighbours(self))
        self.own()
        self.is_at("b")

    def is_at(self, gateway_id: str, address: str = "there") -> None:
        assert self.cells is not None
        self.cells.is_at(TENANT, gateway_id, address)

    def answer(self) -> None:
        """The store has said whose the tenant is."""
        assert self.cells is not None
        self.pass_time(ASK_SECONDS * 2)
        assert self.cells.take_sought() == [TENANT]

    def said(self) -> None:
        assert self.cells is not None
        self.cells.answer([TENANT])
        self.turn()

    def pass_time(self, seconds: float) -> None:
        end = self.time.now + seconds
        while self.time.next_timer(end):
            self.turn()
        self.time.now = end

    def passed(self, client: ClientSocket) -> Connection:
        """A request of the client, which has been passed to `b`."""
        client.ask(ASK)
        if self.connecting:
            self.connecting[0].made()
        return self.sent[-1]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_it_is_passed_on_and_its_answer_back_and_nothing_is_journalled(site: Site) -> None:
    client = site.client()
    owner = site.passed(client)
    owner.whole(200, b"{}", {"request-id": "req_1", "connection": "keep-alive"})
    assert site.told == ["connect", "bytes up b", "answer 200"]
    assert b"request-id: req_1\r\n" in client.last
    assert site.disk.events == []
    assert site.parts.population.served == set()


def test_the_head_is_the_clients_with_its_address_and_without_what_it_cannot_say(site: Site) -> None:
    client = site.client()
    said = {"x_tenantry_client": "203.0.113.9", "x_tenantry_ahead": "5000000", "X_Tenantry_Hop": "elsewhere"}
    client.ask(ASK, **said, connection="x-own, close", x_own="1")
    site.connecting[0].made()
    lines = site.heads[-1].split(b"\r\n")
    assert [line for line in lines if line.startswith(b"x-tenantry")] == [b"x-tenantry-client: 192.0.2.1"]
    assert b"connection: x-own" in lines
    assert b"x-own: 1" in lines


def test_a_body_in_chunks_goes_on_with_its_length_and_nothing_else_that_frames_it(site: Site) -> None:
    client, body = site.client(), json.dumps(ASK).encode()
    head = re.sub(rb"content-length: \d+", b"transfer-encoding: chunked", request_bytes(ASK).partition(b"\r\n\r\n")[0])
    client.connection.data_received(head + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    site.connecting[0].made()
    site.sent[-1].whole(200, b"")  # nothing would refuse it
    lines = site.heads[-1].split(b"\r\n")
    assert [line for line in lines if line.startswith((b"content-", b"transfer-"))] == [
        b"content-length: %d" % len(body)
    ]


def test_a_gateway_that_does_not_grant_is_asked_about_and_the_request_goes_to_who_does(site: Site) -> None:
    client = site.client()
    owner = site.passed(client)
    owner.whole(503, b"{}", {"x-tenantry-hop": "elsewhere"})
    site.answer()
    site.is_at("c")
    site.said()
    site.connecting[0].made()
    site.sent[-1].whole(200, b"{}")
    assert site.told == ["connect", "bytes up b", "connect", "bytes up c", "answer 200"]


def test_a_gateway_that_cannot_be_reached_is_replaced_by_this_one_where_the_store_says_so(site: Site) -> None:
    client = site.client()
    client.ask(ASK)
    site.connecting[0].failed()
    site.answer()
    site.own(TENANT)
    site.said()
    assert site.told == ["connect", "journal begin", "connect"]
    site.connecting[0].made()
    site.sent[-1].whole(200, b"{}")
    assert site.told[-1] == "answer 200"
    assert [kind for kind, _ in site.disk.events].count("begin") == 1


def test_who_stays_unreachable_is_waited_for_ten_seconds(site: Site) -> None:
    client = site.client()
    client.ask(ASK)
    for _ in range(200):
        site.connecting[0].failed()
        if client.answers:
            break
        site.answer()
        site.is_at("b")
        site.said()
    assert client.answers == ["answer 503"]
    assert b"retry-after: 1\r\n" in client.last
    assert site.parts.population.served == set()


def test_an_owner_that_is_lost_before_its_answer_is_not_asked_again(site: Site) -> None:
    client = site.client()
    site.passed(client).broken()
    assert site.told == ["connect", "bytes up b", "answer 503"]
    assert b"retry-after: 1\r\n" in client.last


def test_a_connection_that_had_been_closed_is_replaced(site: Site) -> None:
    client = site.client()
    site.passed(client).whole(200, b"{}")
    site.passed(client).broken("stale")
    site.connecting[0].made()
    site.sent[-1].whole(200, b"{}")
    assert client.answers == ["answer 200", "answer 200"]


@pytest.mark.parametrize(
    ("last", "answer"),
    [
        (b"event: ping\ndata: {}\n\n", "answer 200 interrupted"),
        (b"event: message_stop\ndata: {}\n\n", "answer 200"),
        (b"event: ping\nda", "answer cut"),
    ],
)
def test_an_owner_that_is_lost_in_the_middle_of_a_stream_is_told(site: Site, last: bytes, answer: str) -> None:
    client = site.client()
    owner = site.passed(client)
    owner.head(200, STREAM)
    owner.body(last)
    owner.broken()
    assert client.answers == [answer]


def test_an_owner_that_is_lost_in_the_middle_of_a_message_cuts_it(site: Site) -> None:
    client = site.client()
    owner = site.passed(client)
    owner.head(200, {"content-type": "application/json", "content-length": "100"})
    owner.body(b"{")
    owner.broken()
    assert client.answers == ["answer cut"]


def test_who_reads_slowly_slows_the_owner_down(site: Site) -> None:
    client = site.client()
    owner = site.passed(client)
    owner.head(200, STREAM)
    client.connection.pause_writing()
    assert owner.is_paused
    client.connection.resume_writing()
    assert not owner.is_paused


def test_a_client_that_leaves_takes_its_connection_to_the_owner_with_it(site: Site) -> None:
    client = site.client()
    owner = site.passed(client)
    client.leave()
    assert not owner.is_open
    assert site.parts.population.served == set()


class Passing(ClientSocket):
    """Another gateway's connection to this one."""

    def __init__(self, world: World) -> None:
        self.said: list[bytes] = []  # to the other gateway, as it was written
        ClientSocket.__init__(self, world, "p")
        self.connection = PeerConnection(world.parts)
        self.connection.connection_made(self)  # type: ignore[arg-type]

    def write(self, data: bytes) -> None:
        self.said.append(data)
        ClientSocket.write(self, data)


def test_a_request_is_passed_on_once(site: Site) -> None:
    passing = Passing(site)
    passing.connection.data_received(request_bytes(ASK, x_tenantry_client="203.0.113.9"))
    assert passing.answers == ["answer 503"]
    assert b"\r\nx-tenantry-hop: elsewhere" in passing.last
    assert site.sent == []


def test_the_owner_counts_what_is_passed_on_for_the_clients_own_address(site: Site) -> None:
    site.own(TENANT)
    passing = Passing(site)
    passing.connection.data_received(request_bytes(ASK, x_tenantry_client="203.0.113.9"))
    tally = site.parts.tallies.take()
    assert tally is not None
    assert [use.address for use in tally.keys] == ["203.0.113.9"]
    site.turn()
    site.connecting[0].made()
    assert b"x-tenantry-client" not in site.heads[-1]
    site.sent[-1].whole(200, b"{}", {"x-tenantry-hop": "elsewhere"})
    assert passing.answers == ["answer 200"]
    assert b"x-tenantry-hop" not in passing.last


def test_an_idle_connection_of_a_gateway_that_ends_says_so_for_a_request_that_comes_at_that_moment(site: Site) -> None:
    passing = Passing(site)
    passing.connection.pass_when_idle()
    assert passing.answers == ["answer 503"]
    assert b"\r\nx-tenantry-hop: elsewhere" in passing.last
    assert b"\r\nconnection: close" in passing.last
    passing.connection.data_received(request_bytes(ASK, x_tenantry_client="203.0.113.9"))
    assert passing.answers == ["answer 503"]
    assert site.sent == []


def test_a_gateway_that_ends_says_so_behind_an_answer_that_had_promised_to_keep_the_connection(site: Site) -> None:
    site.own(TENANT)
    passing = Passing(site)
    passing.connection.data_received(request_bytes(ASK | {"stream": True}, x_tenantry_client="203.0.113.9"))
    site.turn()
    site.connecting[0].made()
    upstream = site.sent[-1]
    upstream.head(200, STREAM)
    passing.connection.stop_when_idle()
    upstream.body(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
    upstream.end()
    assert [answer.partition(" ")[2][:3] for answer in passing.answers] == ["200", "503"]
    assert b"\r\nx-tenantry-hop: elsewhere" in passing.last


def test_what_was_passed_on_is_refused_by_no_gateway_that_stops_or_has_lost_its_lease_but_sent_back(site: Site) -> None:
    assert site.cells is not None
    asked = request_bytes(ASK, x_tenantry_client="203.0.113.9")
    stopping, lapsed = Passing(site), Passing(site)
    site.own(TENANT)
    site.parts.population.is_stopping = True
    stopping.connection.data_received(asked)
    site.parts.population.is_stopping = False
    site.cells.tenure.lapse()
    lapsed.connection.data_received(asked)
    assert all(b"\r\nx-tenantry-hop: elsewhere" in said for said in (stopping.said[0], lapsed.said[0]))
    assert site.disk.events == []


def test_a_gateway_that_does_not_say_whose_request_it_passes_on_is_refused(site: Site) -> None:
    passing = Passing(site)
    passing.connection.data_received(request_bytes(ASK))
    assert passing.answers == ["answer 400"]


# Ahead of a large body

LARGE_BYTES = 5_000_000


def head_of_large(more: str = "") -> bytes:
    """The head of a request whose body has not come."""
    head = request_bytes(ASK).partition(b"\r\n\r\n")[0]
    return re.sub(rb"content-length: \d+", b"content-length: %d" % LARGE_BYTES, head) + more.encode() + b"\r\n\r\n"


def large_body() -> bytes:
    whole = json.dumps(ASK).encode()
    return whole + b" " * (LARGE_BYTES - len(whole))


def asked_ahead(site: Site, client: ClientSocket, more: str = "") -> Connection:
    client.connection.data_received(head_of_large(more))
    site.connecting[0].made()
    assert b"\r\nx-tenantry-ahead: 5000000\r\ncontent-length: 0\r\n\r\n" in site.heads[-1]
    return site.sent[-1]


def test_what_the_owner_would_refuse_is_refused_before_its_body_comes(site: Site) -> None:
    client = site.client()
    asked_ahead(site, client, "\r\nexpect: 100-continue").whole(402, b"{}", {"connection": "keep-alive"})
    assert client.answers == ["answer 402"]
    assert b"\r\nconnection: close\r\n" in client.last
    client.connection.data_received(b" " * 100_000)  # it is read and forgotten
    assert client.answers == ["answer 402"]
    assert site.parts.population.body_bytes == 0
    assert site.parts.population.served == set()


def test_what_the_owner_knows_nothing_of_comes_and_is_passed_on(site: Site) -> None:
    client = site.client()
    asked_ahead(site, client).whole(200, b"")
    client.connection.data_received(large_body())
    assert b"\r\ncontent-length: 5000000\r\n\r\n" in site.heads[-1]
    site.sent[-1].whole(200, b"{}")
    assert client.answers == ["answer 200"]
    assert site.parts.population.body_bytes == 0


def test_no_more_of_a_body_is_held_than_a_socket_gives_at_once_while_the_owner_is_asked(site: Site) -> None:
    client = site.client()
    asking, body = asked_ahead(site, client), large_body()
    client.connection.data_received(body[:100_000])
    assert client.is_read is False
    asking.whole(200, b"")
    assert client.is_read is True
    client.connection.data_received(body[100_000:])
    site.sent[-1].whole(200, b"{}")
    assert client.answers == ["answer 200"]


@pytest.mark.parametrize("how", ["unreachable", "broken", "silent", "not its owner"])
def test_where_the_owner_cannot_be_asked_the_body_is_read(site: Site, how: str) -> None:
    client = site.client()
    if how == "unreachable":
        client.connection.data_received(head_of_large())
        site.connecting[0].failed()
    elif how == "broken":
        asked_ahead(site, client).broken()
    elif how == "silent":
        asked_ahead(site, client)
        site.pass_time(ASKED_SECONDS_MAX + 1)
        site.parts.deadlines.sweep()
    else:
        asked_ahead(site, client).whole(503, b"{}", {"x-tenantry-hop": "elsewhere"})
    site.is_at("b")
    client.connection.data_received(large_body())
    if site.connecting:
        site.connecting[0].made()
    site.sent[-1].whole(200, b"{}")
    assert client.answers == ["answer 200"]


def test_whose_it_is_is_asked_first_and_what_is_granted_here_is_read_here(site: Site) -> None:
    assert site.cells is not None
    site.cells.is_doubtful(TENANT)
    client = site.client()
    client.connection.data_received(head_of_large())
    assert site.cells.take_sought() == [TENANT]
    site.own(TENANT)
    site.said()
    client.connection.data_received(large_body())
    assert site.parts.population.body_bytes > 0
    assert site.heads == deque()


def test_no_client_asks_ahead_of_its_body(site: Site) -> None:
    site.own(TENANT)
    client = site.client()
    client.ask(ASK, x_tenantry_ahead=str(LARGE_BYTES))
    site.turn()
    site.connecting[0].made()
    site.sent[-1].whole(200, b"{}")
    assert client.answers == ["answer 200"]
    assert [kind for kind, _ in site.disk.events].count("begin") == 1


def test_a_cell_that_moves_while_its_owner_is_asked_about_a_body_changes_nothing(site: Site) -> None:
    client = site.client()
    asking = asked_ahead(site, client)
    for one in list(site.parts.population.served):
        one.move_on()
    asking.whole(200, b"")
    client.connection.data_received(large_body())
    site.sent[-1].whole(200, b"{}")
    assert client.answers == ["answer 200"]


def test_a_client_that_leaves_while_the_owner_is_asked_leaves_nothing(site: Site) -> None:
    client = site.client()
    asked_ahead(site, client)
    client.leave()
    assert site.sent == []
    assert site.parts.population.served == set()


@pytest.mark.parametrize(("budget_nanos", "answer"), [(0, "answer 402"), (10**12, "answer 200")])
def test_who_is_asked_says_what_it_would_refuse_and_keeps_the_connection(
    tmp_path: Path, budget_nanos: int, answer: str
) -> None:
    site = Site(tmp_path, budget_nanos=budget_nanos)
    site.own(TENANT)
    passing = Passing(site)
    question = request_bytes(ASK, x_tenantry_client="203.0.113.9", x_tenantry_ahead=str(LARGE_BYTES))
    head = re.sub(rb"content-length: \d+", b"content-length: 0", question.partition(b"\r\n\r\n")[0]) + b"\r\n\r\n"
    for _ in range(2):
        passing.connection.data_received(head)
    site.turn()
    assert passing.answers == [answer, answer]
    assert site.disk.events == []


# While this gateway gives its place to another


class Successor(Heir):
    """The gateway that has taken this one's place. `passed`: the requests that it was given."""

    def __init__(self, site: Site) -> None:
        self.passed: list[bytes] = []
        site.parts.population.heir, site.parts.population.is_stopping = self, True
        for connection in list(site.parts.population.connections):
            connection.pass_when_idle()

    def take(self, connection: Connected, transport: asyncio.Transport, peer: str, unread: bytes) -> None:
        self.passed.append(unread)


def test_what_another_gateway_has_sent_back_goes_to_who_has_taken_this_ones_place(site: Site) -> None:
    client = site.client()
    owner = site.passed(client)
    successor = Successor(site)
    owner.whole(503, b"{}", {"x-tenantry-hop": "elsewhere"})  # it gives way too
    assert client.answers == []
    (unread,) = successor.passed
    assert unread.startswith(b"POST /v1/messages HTTP/1.1\r\n")
    assert unread.endswith(json.dumps(ASK).encode())
    assert site.parts.population.served == set()


def test_what_the_store_gives_back_to_this_gateway_goes_to_who_has_taken_its_place(site: Site) -> None:
    client = site.client()
    client.ask(ASK)
    site.connecting[0].failed()
    successor = Successor(site)
    site.answer()
    site.own(TENANT)
    site.said()
    assert client.answers == []
    assert len(successor.passed) == 1


def test_a_request_of_which_a_part_had_come_when_this_gateway_gave_way_goes_back_to_who_passed_it_on(
    site: Site,
) -> None:
    site.own(TENANT)
    passing, asked = Passing(site), request_bytes(ASK, x_tenantry_client="203.0.113.9")
    passing.connection.data_received(asked)
    site.turn()
    site.connecting[0].made()
    site.sent[-1].whole(200, b"{}")
    passing.connection.data_received(asked[:20])
    Successor(site)
    passing.connection.data_received(asked[20:])
    assert passing.answers[0] == "answer 200"
    assert all(b"\r\nx-tenantry-hop: elsewhere" in one for one in passing.said[1:])


@pytest.mark.parametrize("sends_away", [True, False])
def test_a_gateway_that_ends_refuses_who_waits_for_another_one_where_there_is_none(
    site: Site, *, sends_away: bool
) -> None:
    async def work() -> None:
        client = site.client()
        client.ask(ASK)
        site.connecting[0].failed()
        ending = asyncio.create_task(site.process.drain(600, sends_away=sends_away))
        await asyncio.sleep(0)
        if not sends_away:
            site.answer()
            site.is_at("c")
            site.said()
            site.connecting[0].made()
            site.sent[-1].whole(200, b"{}")
        await ending
        assert client.answers == ["answer 503" if sends_away else "answer 200"]

    asyncio.run(work())
