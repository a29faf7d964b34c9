"""The bound of fair turns is one that start-time fair queueing keeps, and who is passed over for longer is told of."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tenantry.domain.admission import Lane, Scope
from tenantry.domain.asks import Ask, Shared
from tenantry.domain.limits import Limits
from tenantry.domain.prices import load_default_prices
from tenantry.simulation.promises import COST_MAX, PromiseBroken, Promises, turns_max
from tenantry.simulation.world import World


def waiting() -> tuple[Shared, Any]:
    """A capacity that one tenant waits for, beside two others."""
    shared = Shared("ups", [], Lane(Limits(sessions_max=4), 0.0, Scope.UPSTREAM, "ups"), True, 0.0)
    for name in ("b", "c"):
        shared.flow(name, 1)
    world = World("0", load_default_prices())
    client = world.clients["a"]
    ask = Ask(client.tenant, client.key, client.credential, "m", 10, lambda _grant: None)
    shared.push(shared.flow("a", 1), "m", "k", COST_MAX, ask)
    return shared, Promises(world)


def test_turns_of_others_up_to_the_bound_are_fair_and_one_more_is_not() -> None:
    shared, promises = waiting()
    turns: Counter[str] = Counter({"ups": 100, "a": 3})
    promises.check_turns(turns, shared)
    most = turns_max(shared.flows["a"], shared.flows)
    turns["ups"] += most
    promises.check_turns(turns, shared)
    turns["ups"] += 1
    with pytest.raises(PromiseBroken, match="a waits with nothing in flight"):
        promises.check_turns(turns, shared)


def test_turns_that_others_had_before_it_came_do_not_count() -> None:
    shared, promises = waiting()
    promises.check_turns(Counter({"ups": 10_000}), shared)
    promises.check_turns(Counter({"ups": 10_003}), shared)


def test_a_heavier_tenant_is_passed_over_less() -> None:
    shared, _ = waiting()
    light = turns_max(shared.flows["a"], shared.flows)
    shared.reweigh(shared.flows["a"], 4)
    assert turns_max(shared.flows["a"], shared.flows) < light
