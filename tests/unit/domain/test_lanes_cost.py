"""What asking, giving back and leaving cost beside ten thousand that wait: counted in calls, never in time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest

from tenantry.domain import lanes
from tenantry.domain.admission import Grant
from tenantry.domain.asks import Ask
from tenantry.domain.directory import Change, Snapshot
from tests.unit.domain.test_lanes import OPEN, World

MANY = 10_000
# Heaps drop entries that no longer count now and then, so one operation is not exactly like another.
SLACK_CALLS = 10
PATIENT = {"queue_depth_max": MANY, "queue_wait_ms_max": 600_000}
ONE_AT_ONCE = PATIENT | {"sessions_max": 1}


def calls_of(what: Callable[[], object]) -> int:
    """How many functions were called, Python's and C's."""
    count = 0

    def seen(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1

    sys.setprofile(seen)
    try:
        what()
    finally:
        sys.setprofile(None)
    return count


def many_tenants_at_a_full_capacity(waiting: int) -> World:
    world = World(capacity=replace(OPEN, sessions_max=1))
    world.ask("first", **PATIENT)
    for number in range(waiting):
        world.ask(f"t{number}", **PATIENT)
    return world


def many_of_one_tenant(waiting: int) -> World:
    world = World(capacity=replace(OPEN, sessions_max=1_000_000))
    for _ in range(waiting + 1):
        world.ask("first", **ONE_AT_ONCE)
    return world


def many_models_of_one_tenant(waiting: int) -> World:
    world = World()
    for number in range(waiting + 1):
        world.ask("first", f"model-{number}", **ONE_AT_ONCE)
    return world


def many_tenants_at_their_own_limits(waiting: int) -> World:
    """And one large prompt that waits for the whole capacity."""
    world = World(capacity=replace(OPEN, sessions_max=1_000_000, input_tokens_per_minute=60_000))
    world.ask("first", **PATIENT)
    for number in range(waiting):
        world.ask(f"t{number}", tokens=0, **ONE_AT_ONCE)
        world.ask(f"t{number}", tokens=0, **ONE_AT_ONCE)
    world.ask("large", tokens=60_000, **PATIENT)
    return world


def costs(world: World) -> dict[str, int]:
    """The most that each operation cost, of several."""
    found: dict[str, int] = {}

    def count(name: str, what: Callable[[], object]) -> None:
        found[name] = max(found.get(name, 0), calls_of(what))

    kept: list[tuple[Ask, Any]] = []
    for number in range(5):
        count("ask", lambda: kept.append(world.ask(f"other{number}", **PATIENT)))  # noqa: B023 -- called here
        ask, found_now = kept[-1]
        if isinstance(found_now, Grant):
            count("give back", lambda: world.lanes.release(ask))  # noqa: B023 -- called here
        else:
            count("leave", lambda: world.lanes.leave(ask))  # noqa: B023 -- called here
        oldest = next(ask for ask in world.granted if ask.is_open)
        count("give back to who waits", lambda: world.lanes.release(oldest))  # noqa: B023 -- called here
        count("a tenth of a second", lambda: world.clock.advance(0.1))
    return found


@pytest.mark.parametrize(
    ("filled", "waiting"),
    [
        (many_tenants_at_a_full_capacity, MANY),
        (many_tenants_at_their_own_limits, MANY),
        (many_of_one_tenant, 1000),
        (many_models_of_one_tenant, 1000),
    ],
)
def test_what_happens_costs_the_same_beside_ten_that_wait_and_beside_thousands(
    filled: Callable[[int], World], waiting: int
) -> None:
    few, many = costs(filled(10)), costs(filled(waiting))
    print(few, many)
    assert few.keys() == many.keys()
    for name, calls in many.items():
        assert calls <= few[name] + SLACK_CALLS, name


def depth_of_stack() -> int:
    frame, depth = sys._getframe(), 0
    while (frame := frame.f_back) is not None:  # type: ignore[assignment]
        depth += 1
    return depth


def test_ten_thousand_turns_one_after_the_other_neither_recurse_nor_hold_the_loop() -> None:
    world = World(capacity=replace(OPEN, sessions_max=1))
    first, _ = world.ask("first", **PATIENT)
    depths: list[int] = []

    def end_at_once(ask: Ask) -> None:
        depths.append(depth_of_stack())
        world.lanes.release(ask)

    for number in range(MANY):
        ask, _ = world.ask(f"t{number % 100}", **PATIENT)
        ask.on_grant = lambda _, ask=ask: end_at_once(ask)
    world.lanes.release(first)
    assert 0 < len(depths) <= lanes.TOLD_MAX
    told = 0
    while world.lanes.waiting():
        before = len(depths)
        world.clock.next_round()
        told = max(told, len(depths) - before)
        assert told > 0
    world.clock.next_round()
    assert len(depths) == MANY
    assert told <= lanes.TOLD_MAX
    assert max(depths) - min(depths) < 10
    assert world.lanes.in_flight() == 0


def test_a_limit_that_is_raised_for_ten_thousand_that_wait_does_not_hold_the_loop() -> None:
    world = many_of_one_tenant(MANY)
    ask = world.granted[0]
    raised = replace(ask.tenant, limits=replace(ask.tenant.limits, sessions_max=2 * MANY))
    world.lanes.apply(Change(Snapshot(2, {}, {raised.tenant_id: raised}), frozenset({raised.tenant_id}), frozenset()))
    waiting = world.lanes.waiting()
    assert MANY - waiting == lanes.OFFERS_MAX
    while waiting:
        world.clock.next_round()
        assert 0 < waiting - world.lanes.waiting() <= lanes.OFFERS_MAX
        waiting = world.lanes.waiting()
    for _ in range(MANY // lanes.TOLD_MAX + 1):
        world.clock.next_round()
    assert len(world.granted) == MANY + 1
