"""What the journal says of a request beside its money: how long it waited for its turn, and whose trace it is of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.gateway.playbook import OPEN, World, message, whole_answer

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def begins(world: World) -> list[Any]:
    return [event for kind, event in world.disk.events if kind == "begin"]


def answer(world: World) -> None:
    world.turn()
    if world.connecting:
        world.connecting[0].made()
        world.turn()
    world.sent[0].whole(200, whole_answer())
    world.turn()


def test_a_wait_for_a_turn_is_journalled_and_what_did_not_wait_says_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, limits=replace(OPEN, sessions_max=1))
    world.client().ask(message())
    world.turn()
    world.client("d").ask(message())
    world.advance(1.5)
    answer(world)
    answer(world)
    first, second = begins(world)
    assert first.queue_wait_us is None
    assert 1_500_000 <= second.queue_wait_us < 1_600_000
    added = world.parts.tallies.added
    assert sum(added.counts) == 2
    assert added.sum_us < 100_000  # the wait is not the gateway's doing
    assert world.leftovers() == []


@pytest.mark.parametrize("keeps", [False, True])
def test_a_clients_trace_is_journalled_where_traces_are_made(tmp_path: Path, keeps: bool) -> None:
    world = World(tmp_path)
    world.parts = replace(world.parts, settings=replace(world.parts.settings, keeps_traceparents=keeps))
    for traceparent in (TRACEPARENT, "nonsense"):
        world.client().ask(message(), traceparent=traceparent)
        answer(world)
    assert [one.traceparent for one in begins(world)] == [TRACEPARENT if keeps else None, None]
    assert world.leftovers() == []
