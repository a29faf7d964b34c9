"""What is held in memory for clients: bodies that come or wait, and connections, by tenant and of all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tenantry.domain.errors import NoRoomForBodies, TooManyBodies
from tenantry.gateway.exchange import Exchange
from tenantry.gateway.foresight import Foresight
from tenantry.gateway.hop import Hop
from tenantry.gateway.population import (
    BODY_BYTES_MAX,
    SMALL_HOLDING_BYTES,
    SPARE_BODY_BYTES,
    TENANT_BODY_BYTES_MAX,
    Population,
    Served,
)
from tests.unit.gateway.playbook import OPEN, World, message, request_bytes

MB = 1024 * 1024


def test_a_tenant_is_refused_for_what_it_holds_and_all_together_are_for_theirs() -> None:
    population = Population()
    assert population.make_room("a", TENANT_BODY_BYTES_MAX) is None
    assert isinstance(population.make_room("a", 1), TooManyBodies)
    for name in "bcd":
        assert population.make_room(name, TENANT_BODY_BYTES_MAX) is None
    assert population.body_bytes == BODY_BYTES_MAX
    assert isinstance(population.make_room("e", SMALL_HOLDING_BYTES + 1), NoRoomForBodies)
    for number in range(SPARE_BODY_BYTES // SMALL_HOLDING_BYTES):
        assert population.make_room(f"small{number}", SMALL_HOLDING_BYTES) is None
    assert isinstance(population.make_room("e", 1), NoRoomForBodies)
    population.let_go("a", TENANT_BODY_BYTES_MAX)
    assert population.make_room("e", SMALL_HOLDING_BYTES) is None


def large(size: int) -> bytes:
    """The head of a request whose body is to come."""
    head = request_bytes(message()).partition(b"\r\n\r\n")[0].split(b"\r\n")
    lines = [line for line in head if not line.startswith(b"content-length")]
    return b"\r\n".join([*lines, b"content-length: %d" % size]) + b"\r\n\r\n"


def test_a_body_is_counted_by_its_head_and_refused_before_it_comes(tmp_path: Path) -> None:
    world = World(tmp_path)
    clients = [world.client(f"c{number}") for number in range(6)]
    for client in clients:
        client.connection.data_received(large(32 * MB))
    assert [client.answers for client in clients] == [[], [], [], [], ["answer 429"], ["answer 429"]]
    clients[0].leave()
    assert world.parts.population.body_bytes == 3 * 32 * MB


def test_a_body_that_waits_for_its_turn_is_counted_until_it_has_it(tmp_path: Path) -> None:
    world = World(tmp_path, limits=replace(OPEN, sessions_max=1, queue_wait_ms_max=600_000))
    first, second = world.client("a"), world.client("b")
    bodies = [large(20_000), large(20_000)]
    text = request_bytes(message()).partition(b"\r\n\r\n")[2]
    for client, head in zip((first, second), bodies, strict=True):
        client.connection.data_received(head)
        client.connection.data_received(text + b" " * (20_000 - len(text)))
        world.turn()
    held = world.parts.population.body_bytes
    assert 20_000 <= held < 21_000  # the second alone: the first has its turn
    world.connecting[0].made()
    world.turn()
    world.sent[0].broken()
    world.advance(5)
    first.leave()
    world.advance(40)
    assert world.parts.population.body_bytes == 0


def test_a_tenant_s_connections_are_bounded_and_those_of_others_are_not_touched(tmp_path: Path) -> None:
    world = World(tmp_path, slugs=("acme", "globex"))
    settings = replace(world.parts.settings, connections_per_tenant_max=2)
    world.parts = replace(world.parts, settings=settings)
    clients = [world.client(f"c{number}") for number in range(3)]
    for client in clients:
        client.connection.data_received(request_bytes({}, path="/v1/messages"))
    assert [client.answers for client in clients] == [["answer 400"], ["answer 400"], ["answer 429"]]
    world.advance(3)
    assert [client.is_open for client in clients] == [True, True, False]
    other = world.client("other")
    other.connection.data_received(request_bytes({}, "globex"))
    assert other.answers == ["answer 400"]
    clients[0].leave()
    again = world.client("again")
    again.connection.data_received(request_bytes({}))
    assert again.answers == ["answer 400"]


@pytest.mark.parametrize("kind", [Exchange, Foresight, Hop])
def test_whoever_is_served_can_be_told_all_that_there_is_to_tell(kind: type[Served]) -> None:
    told = {name for name in vars(Served) if not name.startswith("_") and name != "principal"}
    assert {name for name in told if getattr(kind, name) is getattr(Served, name)} == set()
