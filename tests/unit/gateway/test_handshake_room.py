"""Handshakes that never end take a bounded part of memory, and keep nobody else out."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tenantry.gateway.handshake_room import HANDSHAKES_MAX, HANDSHAKES_PER_PEER_MAX, YIELD_SECONDS, HandshakeRoom


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """More than may shake hands at once. None is connected: they are names."""
    with ExitStack() as stack:
        # Sockets of one descriptor: what is counted is objects.
        base = stack.enter_context(socket.socket())
        made = [socket.socket(fileno=base.fileno()) for _ in range(HANDSHAKES_MAX + 2)]
        yield made
        for one in made:
            one.detach()


def test_an_address_has_a_bound_of_its_own_and_its_oldest_gives_way(sockets: list[socket.socket]) -> None:
    room = HandshakeRoom()
    for one in sockets[:HANDSHAKES_PER_PEER_MAX]:
        assert room.enter(one, "a", 0.0) == (True, None)
    first, late, other = sockets[0], sockets[-1], sockets[-2]
    assert room.enter(late, "a", YIELD_SECONDS / 2) == (False, None)
    assert room.enter(other, "b", YIELD_SECONDS / 2) == (True, None)
    assert room.enter(late, "a", YIELD_SECONDS) == (True, first)
    assert len(room) == HANDSHAKES_PER_PEER_MAX + 1


def test_all_addresses_together_have_one_and_the_oldest_of_all_gives_way(sockets: list[socket.socket]) -> None:
    room = HandshakeRoom()
    for number, one in enumerate(sockets[:HANDSHAKES_MAX]):
        assert room.enter(one, f"peer {number}", number / HANDSHAKES_MAX) == (True, None)
    late = sockets[-1]
    assert room.enter(late, "late", 1.0) == (False, None)
    assert room.enter(late, "late", YIELD_SECONDS) == (True, sockets[0])
    assert len(room) == HANDSHAKES_MAX


def test_whoever_has_ended_makes_room_and_nothing_of_it_is_kept(sockets: list[socket.socket]) -> None:
    room = HandshakeRoom()
    for one in sockets[:HANDSHAKES_PER_PEER_MAX]:
        room.enter(one, "a", 0.0)
    room.leave(sockets[0])
    room.leave(sockets[0])
    assert room.enter(sockets[-1], "a", 0.0) == (True, None)
    for one in sockets:
        room.leave(one)
    assert len(room) == 0
    assert vars(room)["_peers"] == {}
