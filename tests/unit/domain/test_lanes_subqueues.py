"""A limit of one key, or of one model, holds up that key or model and nothing else of its tenant, in simulated time."""

from __future__ import annotations

import heapq
import random
from dataclasses import replace

import pytest

from tenantry.domain.admission import Grant
from tenantry.domain.limits import Limits
from tests.unit.domain.test_lanes import OPEN, World

PATIENT = {"queue_wait_ms_max": 600_000}
# One key may have one session, another twelve requests a minute; "free" has no limits of its own.
KEYS: dict[str, Limits | None] = {
    "one-session": replace(OPEN, sessions_max=1),
    "few-requests": replace(OPEN, requests_per_minute=12, request_burst=1),
    "free": None,
}


@pytest.mark.parametrize("is_short", [False, True])
def test_keys_and_models_at_their_limits_hold_up_no_other_key_or_model_of_their_tenant(is_short: bool) -> None:
    """Every key asks for every model ten times a second in all; the model "opus" is paused by its upstream for long."""
    chance = random.Random(5)
    world = World(capacity=replace(OPEN, sessions_max=60 if is_short else 1000))
    ends: list[tuple[float, int]] = []
    waits: dict[str, list[bool]] = {}
    told = 0
    world.lanes.learn(world.credential, "opus", {}, 50.0)
    for number in range(600):
        world.clock.advance(0.1)
        while ends and ends[0][0] <= world.clock.now:
            world.lanes.release(world.granted[heapq.heappop(ends)[1]])
        key, model = chance.choice(list(KEYS)), chance.choice(("opus", "haiku", "sonnet"))
        if is_short:  # another tenant wants all that there is
            world.ask("other", **PATIENT)
        _, found = world.ask("a", model, key=key, key_limits=KEYS[key], **PATIENT)
        if number < 450:  # while the model is paused
            kind = "free" if key == "free" and model != "opus" else f"{key} {model}"
            waits.setdefault(kind, []).append(not isinstance(found, Grant))
        for at in range(told, len(world.granted)):
            heapq.heappush(ends, (world.clock.now + 1.0, at))
        told = len(world.granted)
    assert any(waits["one-session haiku"])
    assert any(waits["few-requests haiku"])
    assert all(waits["free opus"])
    if is_short:
        assert sum(waits["free"]) <= len(waits["free"]) / 20, "it is below its share, so its turn is the next one"
    else:
        assert not any(waits["free"])
    # And what was held back is served once its limit gives again: opus of every key, in the order of its key.
    world.clock.advance(1)
    assert any(ask.model == "opus" and ask.key.key_id == "key_afree" for ask in world.granted)


def test_a_key_at_its_limit_lets_its_own_requests_through_in_their_order() -> None:
    world = World()
    first, _ = world.ask(key="one-session", key_limits=KEYS["one-session"])
    mine = [world.ask(key="one-session", key_limits=KEYS["one-session"])[0] for _ in range(5)]
    others = [world.ask(key="free")[0] for _ in range(5)]
    assert world.granted == [first, *others]
    for ask in mine:
        world.lanes.release(next(one for one in world.granted if one.is_open and one.key.key_id != "key_afree"))
        assert world.granted[-1] is ask
