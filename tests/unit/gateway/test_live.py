"""What a gateway tells people of its tenants: what changed, once, and nothing where nothing happens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tenantry.domain.budgets import Budget, Cap
from tenantry.domain.directory import Change
from tenantry.ledger.live import LiveCapacity, LiveSpent, LiveTenant
from tests.unit.gateway.playbook import OPEN, World, message
from tests.unit.gateway.test_playbooks_of_isolation import sent, served

MONTH = Budget((Cap("month", 10**12, ()),), "hard")
LIMITED = replace(OPEN, requests_per_minute=60, request_burst=10)
_DECODER = msgspec.json.Decoder(LiveTenant | LiveCapacity)


def taken(world: World) -> dict[str, LiveTenant]:
    """What is told now of tenants, by internal id."""
    lines = [_DECODER.decode(line) for some in world.process.live.take() for line in some.values()]
    return {line.tenant_id: line for line in lines if isinstance(line, LiveTenant)}


def test_a_tenant_that_was_served_is_told_once_as_it_is_then(tmp_path: Path) -> None:
    world = World(tmp_path, slugs=("acme", "globex"), limits=LIMITED, budget_nanos=10**12)
    assert taken(world) == {}
    assert served(world, "acme") == "answer 200"
    found = taken(world)
    assert set(found) == {"tnt_acme"}
    line = found["tnt_acme"]
    assert (line.sessions, line.waiting, line.held_nanos) == (0, 0, 0)
    assert line.requests is not None
    assert line.requests.remaining(0) == 9
    assert line.spent["month"].nanos > 0
    assert taken(world) == {}
    world.advance(5)
    assert taken(world) == {}


def test_what_is_in_flight_is_told_when_it_changes_until_it_is_back(tmp_path: Path) -> None:
    world = World(tmp_path, limits=LIMITED, budget_nanos=10**12)
    client = world.client()
    sent(world, client, "acme", stream=True)
    [line] = taken(world).values()
    assert line.sessions == 1
    assert line.held_nanos > 0
    assert taken(world) == {}
    other = world.client()
    sent(world, other, "acme")
    assert taken(world)["tnt_acme"].sessions == 2
    world.sent[-1].broken()
    world.sent[0].broken()
    world.turn()
    world.stop()
    world.turn()
    assert taken(world)["tnt_acme"].sessions == 0
    assert taken(world) == {}


def test_who_only_waits_is_told(tmp_path: Path) -> None:
    patient = replace(OPEN, requests_per_minute=1, request_burst=1, queue_depth_max=9, queue_wait_ms_max=60_000)
    world = World(tmp_path, limits=patient)
    assert served(world, "acme") == "answer 200"
    assert taken(world)["tnt_acme"].waiting == 0
    waits = world.client()
    waits.ask(message())
    world.turn()
    assert taken(world)["tnt_acme"].waiting == 1
    waits.leave()
    world.turn()
    assert taken(world)["tnt_acme"].waiting == 0


def test_a_tenant_that_was_told_is_told_again_when_its_limits_or_its_money_are_others(tmp_path: Path) -> None:
    world = World(tmp_path, slugs=("acme", "globex"), limits=LIMITED)
    served(world, "acme")
    assert taken(world)["tnt_acme"].spent == {}
    world.change("globex", limits=OPEN)  # nobody has heard of it yet
    assert taken(world) == {}
    world.change("acme", limits=replace(LIMITED, request_burst=3), budget=MONTH)
    line = taken(world)["tnt_acme"]
    assert line.requests is not None
    assert line.requests.size == 3
    spent = line.spent["month"].nanos
    world.process.correct("tnt_acme", "key_acme", world.wall_us(), 7)
    assert taken(world)["tnt_acme"].spent["month"] == LiveSpent(spent + 7, line.spent["month"].end_us)
    snapshot = world.parts.latest.snapshot
    world.process.apply(Change(snapshot, None, None))
    assert set(taken(world)) == {"tnt_acme"}


def test_a_tenant_whose_lane_was_forgotten_is_told_as_one_at_rest(tmp_path: Path) -> None:
    world = World(tmp_path, limits=LIMITED)
    served(world, "acme")
    taken(world)
    world.advance(4000)
    assert not list(world.parts.lanes.register.lanes())
    world.change("acme", limits=replace(LIMITED, request_burst=4))
    line = taken(world)["tnt_acme"]
    assert line.requests is not None
    assert line.requests.remaining(0) == 4


def test_limits_that_an_upstream_announces_are_told_with_the_model(tmp_path: Path) -> None:
    world = World(tmp_path)
    told = {"anthropic_ratelimit_requests_limit": "50", "anthropic_ratelimit_requests_remaining": "49"}
    for _ in range(2):
        served(world, "acme", **told)
    lines = [_DECODER.decode(line) for some in world.process.live.take() for line in some.values()]
    model = message()["model"]
    assert [one for one in lines if isinstance(one, LiveCapacity)] == [
        LiveCapacity("crd_acme", {model: {"requests_per_minute": 50}})
    ]


@pytest.mark.parametrize("streams", [1, 40])
def test_lines_come_in_steps_of_some_tenants(tmp_path: Path, streams: int) -> None:
    slugs = tuple(f"t{number}" for number in range(streams))
    world = World(tmp_path, slugs=slugs)
    for slug in slugs:
        served(world, slug)
    assert [len(some) for some in world.process.live.take()] == ([1] if streams == 1 else [16, 16, 8])
