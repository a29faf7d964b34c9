"""What the clock and the directory cost beside ten thousand tenants in use: counted in calls, never in time."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tenantry.domain.directory import Change, Credential, TenantStatus, Upstream
from tenantry.gateway.health import NAMED_MAX, Health
from tenantry.gateway.process import COLLECT_OBJECTS
from tests.unit.domain.test_lanes_cost import calls_of
from tests.unit.gateway.playbook import OPEN, World
from tests.unit.gateway.test_playbooks_of_isolation import sent, served

MANY = 10_000


def in_use(tmp_path: Path, count: int) -> World:
    """A gateway that has served so many tenants, and rests."""
    world = World(tmp_path, limits=replace(OPEN, requests_per_minute=60, request_burst=10))
    parts, snapshot = world.parts, world.parts.latest.snapshot
    [acme], [key] = snapshot.tenants.values(), snapshot.keys.values()
    tenants = dict(snapshot.tenants)
    for number in range(count):
        credential = Credential(f"crd_{number}", str(number), Upstream(f"ups_{number}", "up", "http://x"), "sandbox-x")
        tenant = replace(acme, tenant_id=f"tnt_{number}", slug=f"t{number}", credential=credential)
        tenants[tenant.tenant_id] = tenant
        its = replace(key, key_id=f"key_{number}", tenant_id=tenant.tenant_id, digest=b"%d" % number)
        way = parts.lanes.resolve(tenant, its, credential)
        parts.lanes.register.tell(way.tenant)
        parts.till.accounts_of(tenant, its)
        parts.health.of(credential)
    parts.latest.snapshot = replace(snapshot, tenants=tenants)
    assert served(world, "acme") == "answer 200"
    for _ in world.process.live.take():
        pass
    return world


def a_second(world: World) -> None:
    """What the clock does in a second."""
    for _ in range(4):
        world.process.tick()
    for _ in world.process.live.take():
        pass
    world.process.live.head()
    world.process.tell_tallies()


def a_change(world: World) -> None:
    world.change("acme", limits=replace(OPEN, requests_per_minute=600, request_burst=10))


def a_disabling(world: World) -> None:
    world.change("acme", status=TenantStatus.DISABLED)


@pytest.mark.parametrize("what", [a_second, a_change, a_disabling])
def test_what_happens_costs_the_same_with_ten_tenants_in_use_and_with_ten_thousand(
    tmp_path: Path, what: Callable[[World], None]
) -> None:
    few, many = in_use(tmp_path, 10), in_use(tmp_path, MANY)
    assert calls_of(lambda: what(many)) <= calls_of(lambda: what(few)) + 2


def test_a_change_of_all_comes_in_steps(tmp_path: Path) -> None:
    world = in_use(tmp_path, 1000)
    snapshot = world.parts.latest.snapshot
    limits = replace(OPEN, sessions_max=7)
    tenants = {tenant_id: replace(tenant, limits=limits) for tenant_id, tenant in snapshot.tenants.items()}
    steps = sum(1 for _ in world.process.applying(Change(replace(snapshot, tenants=tenants), None, None)))
    assert steps == 4
    register = world.parts.lanes.register
    assert {lane.sessions_max for lane in register.lanes() if lane.limits is limits} == {7}
    assert len([lane for lane in register.lanes() if lane.limits is limits]) == 1001


def test_who_is_cut_off_by_a_change_of_many_is_cut_off_in_its_first_step(tmp_path: Path) -> None:
    world = in_use(tmp_path, 1000)
    client = world.client()
    sent(world, client, "acme")
    snapshot = world.parts.latest.snapshot
    disabled = {one: replace(tenant, status=TenantStatus.DISABLED) for one, tenant in snapshot.tenants.items()}
    next(world.process.applying(Change(replace(snapshot, tenants=disabled), frozenset(disabled), frozenset())))
    world.turn()
    assert client.answers == ["answer 403"]


def test_the_collector_looks_at_what_is_new_not_at_every_tenant_in_use(tmp_path: Path) -> None:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        world = in_use(tmp_path, 1000)
        world.process.collects = True
        assert gc.get_count()[0] > COLLECT_OBJECTS
        world.process.tick()
        assert gc.get_count()[0] < COLLECT_OBJECTS / 10
        assert len(gc.get_objects()) < COLLECT_OBJECTS / 10
        client = world.client()
        sent(world, client, "acme")
        piled_up: list[list[int]] = [[] for _ in range(2 * COLLECT_OBJECTS)]
        world.process.tick()
        assert gc.get_count()[0] > len(piled_up)  # not while a request is in flight
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def test_open_breakers_are_found_without_a_look_at_the_others() -> None:
    clock = [0.0]
    health = Health(lambda: clock[0])
    some = [
        Credential(f"crd_{n}", f"c{n}", Upstream(f"ups_{n}", f"up{n}", "http://x"), "sandbox-x") for n in range(MANY)
    ]
    for credential in some:
        health.of(credential)
    assert calls_of(health.facts) < 20
    breaker = health.of(some[7]).breaker
    for _ in range(5):
        breaker.sent(clock[0])
        breaker.failed(clock[0])
    assert health.facts()["upstreams_down"] == ["up7"]
    clock[0] = 2.0
    breaker.sent(clock[0])
    breaker.answered(clock[0], 200)
    assert health.facts()["upstreams_down"] == []
    assert calls_of(health.facts) < 20


def test_an_upstream_that_serves_one_credential_and_not_another_is_told_with_the_credential() -> None:
    clock = [100.0]
    health = Health(lambda: clock[0])
    upstream = Upstream("ups_1", "up", "http://x")
    good, bad = (Credential(f"crd_{name}", name, upstream, "sandbox-x") for name in ("good", "bad"))
    health.of(good).breaker.answered(clock[0], 200)
    for _ in range(5):
        health.of(bad).breaker.failed(clock[0])
    assert health.facts()["upstreams_down"] == ["up (bad)"]
    clock[0] = 161.0  # nothing was learned of either for so long
    assert health.facts()["upstreams_down"] == []


def test_an_upstream_that_is_down_for_all_is_told_without_a_look_at_each() -> None:
    clock = [100.0]
    health = Health(lambda: clock[0])
    upstream = Upstream("ups_1", "up", "http://x")
    some = [health.of(Credential(f"crd_{n}", f"c{n}", upstream, "sandbox-x")).breaker for n in range(MANY)]
    for breaker in some:
        for _ in range(5):
            breaker.failed(clock[0])
    assert health.facts()["upstreams_down"] == ["up"]
    assert calls_of(health.facts) < 30
    some[3].answered(clock[0], 200)  # it comes back, and not all have found out
    assert len(health.facts()["upstreams_down"]) == NAMED_MAX
    clock[0] = 161.0
    assert health.facts()["upstreams_down"] == []
    assert calls_of(health.facts) < 20
