"""Requests that another gateway grants for, without sockets: `>>` and `<<` of the first gateway, and of the second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tenantry.gateway.hop import ASK_SECONDS
from tenantry.gateway.peers.calling import Peers
from tenantry.gateway.peers.client import PeerConnection
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

    def __init__(self, tmp_path: Path) -> None:
        World.__init__(self, tmp_path, is_one_of_several=True)
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
        assert self.cells.take_wanted() == [TENANT]

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
    client.ask(ASK, x_tenantry_client="203.0.113.9", connection="x-own, close", x_own="1")
    site.connecting[0].made()
    lines = site.heads[-1].split(b"\r\n")
    assert [line for line in lines if line.startswith(b"x-tenantry")] == [b"x-tenantry-client: 192.0.2.1"]
    assert b"connection: x-own" in lines
    assert b"x-own: 1" in lines


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
        ClientSocket.__init__(self, world, "p")
        self.connection = PeerConnection(world.parts)
        self.connection.connection_made(self)  # type: ignore[arg-type]


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


def test_a_gateway_that_does_not_say_whose_request_it_passes_on_is_refused(site: Site) -> None:
    passing = Passing(site)
    passing.connection.data_received(request_bytes(ASK))
    assert passing.answers == ["answer 400"]
