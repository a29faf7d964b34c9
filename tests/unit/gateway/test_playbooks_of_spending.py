"""A credential whose account upstream is out of money: tried again by one real request in a while, and no more."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tenantry.gateway.exchange import Exchange
from tenantry.gateway.health import PROBE_SPENT_SECONDS
from tests.unit.gateway.playbook import World, message, whole_answer

SPENT = (
    b'{"type":"error","error":{"type":"rate_limit_error","message":"You have reached your API usage limits. '
    b'You will regain access on 2099-01-01 at 00:00 UTC."}}'
)


def asked(world: World, name: str, *, times: int = 1) -> int:
    """How many of these requests went upstream."""
    before = len(world.sent)
    for number in range(times):
        world.client(f"{name}{number}").ask(message())
        world.turn()
        for one in world.connecting:
            one.made()
        world.turn()
    return len(world.sent) - before


def spent(world: World) -> None:
    assert asked(world, "first") == 1
    world.sent[-1].whole(429, SPENT)
    world.turn()
    assert asked(world, "refused", times=3) == 0


def test_it_is_tried_again_by_one_request_in_an_interval(tmp_path: Path) -> None:
    world = World(tmp_path)
    spent(world)
    for number in range(3):
        world.advance(PROBE_SPENT_SECONDS)
        assert asked(world, f"probe{number}", times=3) == 1
        world.sent[-1].whole(429, SPENT)
        world.turn()


def test_it_is_used_again_when_that_request_is_served(tmp_path: Path) -> None:
    world = World(tmp_path)
    spent(world)
    world.advance(PROBE_SPENT_SECONDS)
    assert asked(world, "probe") == 1
    world.sent[-1].whole(200, whole_answer())
    world.turn()
    assert asked(world, "after", times=3) == 3


def test_a_check_by_hand_brings_it_back_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    spent(world)
    credential = world.parts.latest.snapshot.tenants["tnt_acme"].credential
    assert credential is not None
    world.change("acme", credential=replace(credential, checked_at=datetime.now(UTC)))
    assert world.parts.health.facts()["credentials_dead"] == {}
    assert asked(world, "after", times=3) == 3


def test_requests_under_other_credentials_go_the_straight_way_on(tmp_path: Path) -> None:
    world = World(tmp_path, slugs=("acme", "globex"))
    spent(world)
    assert world.parts.health.dead
    world.client("other").ask(message(), key="globex")
    (served,) = world.parts.population.served
    assert isinstance(served, Exchange)
    assert served._tries is None
