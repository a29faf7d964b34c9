"""Queues and lanes of a gateway on a clock that the test moves: nothing is lost, nothing is given twice."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tenantry.domain.admission import Grant, Obstacle, Scope
from tenantry.domain.directory import (
    Change,
    Credential,
    GatewayKey,
    KeyStatus,
    Snapshot,
    Tenant,
    TenantStatus,
    Upstream,
)
from tenantry.domain.lanes import Ask, Lanes
from tenantry.domain.limits import Limits

OPEN = Limits(sessions_max=1000, requests_per_minute=None, queue_wait_ms_max=60_000, queue_depth_max=1000)


class Clock:
    """Time, and the timers that it sets off."""

    def __init__(self) -> None:
        self.now = 100.0
        self._timers: list[tuple[float, int, Any]] = []
        self._count = 0

    def __call__(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        class Handle:
            cancelled = False

            def cancel(self) -> None:
                self.cancelled = True

        handle = Handle()
        self._count += 1
        heapq.heappush(self._timers, (self.now + seconds, self._count, (handle, callback)))
        return handle  # type: ignore[return-value]

    def next_round(self) -> None:
        """What is due now, but not what that sets off."""
        due = [heapq.heappop(self._timers) for _ in range(len(self._timers)) if self._timers[0][0] <= self.now]
        for _, _, (handle, callback) in due:
            if not handle.cancelled:
                callback()

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            self.now, _, (handle, callback) = heapq.heappop(self._timers)
            if not handle.cancelled:
                callback()
        self.now = end


def credential(capacity: Limits = OPEN, name: str = "crd_1", shares: bool = False) -> Credential:
    upstream = Upstream("ups_1", "up", "http://127.0.0.1:1", capacity=capacity, shares_capacity=shares)
    return Credential(name, name, upstream, "sandbox-secret")


class World:
    """Some tenants, what they were granted, and who waits."""

    def __init__(self, limits: Limits = OPEN, capacity: Limits = OPEN) -> None:
        self.clock = Clock()
        self.lanes = Lanes(self.clock, self.clock.call_later)
        self.credential = credential(capacity)
        self.limits = limits
        self.granted: list[Ask] = []

    def ask(
        self,
        slug: str = "a",
        model: str = "m",
        tokens: int = 1,
        key: str = "",
        key_limits: Limits | None = None,
        **own: Any,
    ) -> tuple[Ask, Any]:
        limits = replace(self.limits, **own)
        tenant = Tenant(f"tnt_{slug}", slug, slug, TenantStatus.ACTIVE, "t", limits, self.credential)
        name = f"key_{slug}{key}"
        held = GatewayKey(name, tenant.tenant_id, name.encode(), KeyStatus.ACTIVE, limits=key_limits)
        ask = Ask(tenant, held, self.credential, model, tokens, lambda _: self.granted.append(ask))
        found = self.lanes.ask(ask)
        if isinstance(found, Grant):
            self.granted.append(ask)
        return ask, found


def test_a_session_that_ends_serves_the_next_in_line_at_once() -> None:
    world = World(replace(OPEN, sessions_max=1))
    first, _ = world.ask()
    waiting = [world.ask()[0] for _ in range(3)]
    assert world.granted == [first]
    for ask in waiting:
        assert world.lanes.release(world.granted[-1])
        assert world.granted[-1] is ask
    assert not world.lanes.release(first)
    assert world.lanes.release(waiting[-1])
    assert (world.lanes.in_flight(), world.lanes.waiting()) == (0, 0)


def test_time_alone_serves_who_waits_for_a_bucket() -> None:
    world = World(replace(OPEN, requests_per_minute=60, request_burst=1))
    world.ask()
    for _ in range(3):
        assert world.ask()[1] is None
    world.clock.advance(2.05)
    assert len(world.granted) == 3
    world.clock.advance(1)
    assert len(world.granted) == 4


def test_a_wait_that_is_too_long_is_refused_at_once_and_its_time_is_true() -> None:
    world = World(replace(OPEN, requests_per_minute=60, request_burst=1, queue_wait_ms_max=3000))
    world.ask()
    for _ in range(3):
        assert world.ask()[1] is None
    _, obstacle = world.ask()
    assert isinstance(obstacle, Obstacle)
    assert (obstacle.limit, obstacle.scope, round(obstacle.seconds, 3)) == ("requests_per_minute", Scope.TENANT, 4.0)
    world.clock.advance(obstacle.seconds)
    assert isinstance(world.ask()[1], Grant)


def test_nobody_overtakes_a_queue_of_the_same_tenant() -> None:
    world = World(replace(OPEN, requests_per_minute=60, request_burst=1))
    world.ask()
    early, _ = world.ask()
    world.clock.advance(0.999)
    late, found = world.ask()
    assert found is None
    world.clock.advance(0.01)
    assert world.granted[-1] is early
    assert late not in world.granted


def test_an_upstreams_pause_holds_back_its_model_only() -> None:
    world = World()
    world.lanes.learn(world.credential, "opus", {}, 30.0)
    assert world.ask("a", "opus")[1] is None
    assert isinstance(world.ask("b", "haiku")[1], Grant)
    assert world.ask("c", "opus")[1] is None
    world.clock.advance(29.9)
    assert len(world.granted) == 1
    world.clock.advance(1)
    assert len(world.granted) == 3


def test_dated_and_undated_ids_share_what_an_upstream_said() -> None:
    world = World()
    world.lanes.learn(world.credential, "claude-haiku-4-5-20251001", {}, 5.0)
    assert world.ask("a", "claude-haiku-4-5")[1] is None


def test_quota_fields_become_the_capacity_and_nonsense_is_passed_over() -> None:
    world = World()
    fields = {b"anthropic-ratelimit-requests-limit": b"60", b"anthropic-ratelimit-requests-remaining": b"1"}
    world.lanes.learn(world.credential, "m", fields, None)
    assert isinstance(world.ask()[1], Grant)
    assert world.ask()[1] is None
    nonsense = {b"anthropic-ratelimit-requests-limit": b"-1", b"anthropic-ratelimit-requests-remaining": b"x"}
    world.clock.advance(1)
    world.lanes.learn(world.credential, "n", nonsense, None)
    assert isinstance(world.ask("b", "n")[1], Grant)


def announced(limit: int, remaining: int) -> dict[bytes, bytes]:
    told = {b"limit": limit, b"remaining": remaining}
    return {b"anthropic-ratelimit-requests-%b" % name: b"%d" % number for name, number in told.items()}


def test_a_capacity_that_is_declared_is_obeyed_though_less_is_announced() -> None:
    world = World(capacity=replace(OPEN, requests_per_minute=600, request_burst=100))
    for remaining in range(9, -1, -1):
        world.lanes.learn(world.credential, "m", announced(10, remaining), None)
        world.clock.advance(0.1)
    assert all(isinstance(world.ask()[1], Grant) for _ in range(100))


def test_after_a_refusal_what_is_left_of_a_declared_capacity_is_what_the_upstream_tells() -> None:
    world = World(capacity=replace(OPEN, requests_per_minute=60, request_burst=100))
    world.lanes.learn(world.credential, "m", announced(10, 2), 0.5)
    world.clock.advance(0.6)
    assert [isinstance(world.ask()[1], Grant) for _ in range(4)] == [True, True, False, False]
    world.clock.advance(30)  # it fills as it is declared
    assert len(world.granted) == 4
    assert all(isinstance(world.ask()[1], Grant) for _ in range(26))


def test_what_was_announced_ends_when_a_capacity_is_declared() -> None:
    world = World(capacity=OPEN)
    world.lanes.learn(world.credential, "m", announced(1, 0), None)
    waiting, found = world.ask()
    assert found is None
    declared = credential(replace(OPEN, requests_per_minute=600, request_burst=100))
    tenant = replace(waiting.tenant, credential=declared)
    change = Change(Snapshot(2, {}, {tenant.tenant_id: tenant}), frozenset({tenant.tenant_id}), frozenset())
    world.lanes.apply(change)
    assert world.granted == [waiting]
    world.credential = declared
    assert all(isinstance(world.ask()[1], Grant) for _ in range(99))


def test_an_announced_limit_that_holds_requests_back_is_logged_once_with_its_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    for number in (60, 60, 30):
        world.clock.advance(1)
        world.lanes.learn(world.credential, "m", announced(number, 0), None)
        for _ in range(3):
            world.ask()
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "upstream up announces requests_per_minute = 60 to credential crd_1 for m",
        "upstream up announces requests_per_minute = 30 to credential crd_1 for m",
    ]


def test_credentials_of_one_organization_share_its_capacity_when_that_is_declared() -> None:
    clock = Clock()
    lanes = Lanes(clock, clock.call_later)
    capacity = replace(OPEN, sessions_max=1)
    for shares, expected in ((True, None), (False, Grant)):
        asks = []
        for name in (f"one-{shares}", f"two-{shares}"):
            held = credential(capacity, name, shares)
            tenant = Tenant(f"tnt_{name}", name, name, TenantStatus.ACTIVE, "t", OPEN, held)
            key = GatewayKey(name, tenant.tenant_id, b"d", KeyStatus.ACTIVE)
            asks.append(Ask(tenant, key, held, "m", 1, lambda _: None))
        assert isinstance(lanes.ask(asks[0]), Grant)
        found = lanes.ask(asks[1])
        assert found is None if expected is None else isinstance(found, expected)


def test_a_raised_limit_serves_those_who_wait_and_a_lowered_one_lets_run_what_runs() -> None:
    world = World(replace(OPEN, sessions_max=1))
    asks = [world.ask()[0] for _ in range(4)]
    tenant = replace(asks[0].tenant, limits=replace(OPEN, sessions_max=3))
    world.lanes.apply(Change(Snapshot(2, {}, {tenant.tenant_id: tenant}), None, None))
    assert len(world.granted) == 3
    lower = replace(tenant, limits=replace(OPEN, sessions_max=1))
    world.lanes.apply(Change(Snapshot(3, {}, {tenant.tenant_id: lower}), frozenset({tenant.tenant_id}), frozenset()))
    assert world.lanes.release(world.granted[0])
    assert len(world.granted) == 3


def test_another_credential_takes_a_granted_request_over() -> None:
    world = World()
    ask, _ = world.ask()
    spare = credential(replace(OPEN, sessions_max=1), "crd_2")
    assert world.lanes.move(ask, spare)
    other, _ = world.ask("b")
    assert not world.lanes.move(other, spare)  # it is full
    assert world.lanes.release(ask)
    assert world.lanes.move(other, spare)
    assert world.lanes.release(other)
    assert world.lanes.in_flight() == 0


def test_who_waits_for_input_tokens_is_served_when_they_come_back() -> None:
    world = World(replace(OPEN, input_tokens_per_minute=6000))
    first, _ = world.ask(tokens=6000)
    waiting, found = world.ask(tokens=3000)
    assert found is None
    world.lanes.correct_input(first, 100)
    assert world.granted == [first, waiting]


def test_those_whom_a_models_pause_holds_back_are_not_ahead_of_another_model() -> None:
    world = World(replace(OPEN, requests_per_minute=60, request_burst=10))
    world.lanes.learn(world.credential, "opus", {}, 50.0)
    for _ in range(80):
        assert world.ask(model="opus")[1] is None
    assert isinstance(world.ask(model="haiku", queue_wait_ms_max=10_000)[1], Grant)


def test_models_that_clients_name_do_not_pile_up() -> None:
    world = World()
    told = {b"anthropic-ratelimit-requests-limit": b"60", b"anthropic-ratelimit-requests-remaining": b"60"}
    for number in range(1000):
        world.lanes.learn(world.credential, f"model-{number}", told, None)
    assert len(world.lanes.register.shared["crd_1"].models) <= 128
    world.clock.advance(1000)
    world.lanes.sweep()
    world.clock.advance(1000)
    world.lanes.sweep()
    assert not world.lanes.register.shared


def test_who_comes_to_stand_first_is_asked_though_another_of_its_tenant_was_refused() -> None:
    world = World(replace(OPEN, input_tokens_per_minute=6000))
    slow = replace(OPEN, requests_per_minute=60, request_burst=1)
    world.ask(tokens=1000, key="slow", key_limits=slow)
    small, found = world.ask(tokens=100, key="slow", key_limits=slow)
    assert found is None
    large, found = world.ask(tokens=6000)  # the whole tenant stands in its line now: it needs a full bucket
    assert found is None
    world.clock.advance(1.01)
    assert world.granted[-1] is small
    world.clock.advance(60)
    assert world.granted[-1] is large


def test_who_waits_at_the_reserve_is_served_when_the_only_other_tenant_is_forgotten() -> None:
    world = World(capacity=replace(OPEN, sessions_max=30))
    world.lanes.release(world.ask("b")[0])
    asks = [world.ask("a", queue_wait_ms_max=600_000)[0] for _ in range(30)]
    assert world.granted[1:] == asks[:27]
    world.clock.advance(1000)
    world.lanes.sweep()
    world.lanes.sweep()
    assert world.granted[1:] == asks


def test_who_waits_at_the_reserve_is_served_when_another_tenant_weighs_less() -> None:
    world = World(capacity=replace(OPEN, sessions_max=10))
    once = {"requests_per_minute": 1, "request_burst": 1, "queue_wait_ms_max": 600_000}
    world.lanes.release(world.ask("a", weight=7, **once)[0])
    assert world.ask("a", weight=7, **once)[1] is None
    held = [world.ask("b", weight=7)[0] for _ in range(10)]
    assert world.granted[1:] == held[:9]
    assert world.ask("a", weight=1, **once)[1] is None
    assert world.granted[1:] == held


class Storm(RuleBasedStateMachine):
    """Requests come, are served, wait, leave and end in any order, while limits and clock change."""

    def __init__(self) -> None:
        super().__init__()
        limits = replace(OPEN, sessions_max=3, requests_per_minute=600, request_burst=5, queue_depth_max=6)
        self.world = World(limits, replace(OPEN, sessions_max=5))
        self.waiting: list[Ask] = []

    @rule(slug=st.sampled_from("abc"), model=st.sampled_from("mn"), tokens=st.integers(0, 10_000))
    def ask(self, slug: str, model: str, tokens: int) -> None:
        ask, found = self.world.ask(slug, model, tokens)
        if found is None:
            self.waiting.append(ask)

    @rule(which=st.integers(0, 20))
    def leave(self, which: int) -> None:
        waiting = [ask for ask in self.waiting if ask.grant is None]
        if waiting:
            ask = waiting[which % len(waiting)]
            self.world.lanes.leave(ask)
            self.waiting.remove(ask)

    @rule(which=st.integers(0, 20))
    def end(self, which: int) -> None:
        if self.world.granted:
            ask = self.world.granted.pop(which % len(self.world.granted))
            assert self.world.lanes.release(ask)
            assert not self.world.lanes.release(ask)

    @rule(seconds=st.floats(0, 3))
    def pass_time(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(seconds=st.floats(0, 2))
    def upstream_pauses(self, seconds: float) -> None:
        self.world.lanes.learn(self.world.credential, "m", {}, seconds)

    @rule()
    def sweep(self) -> None:
        self.world.lanes.sweep()

    @invariant()
    def sessions_are_those_granted_and_no_more_than_allowed(self) -> None:
        granted = self.world.granted
        # Each holds a session of its tenant's lane, of the capacity, and of its model's lane where there is one.
        assert 2 * len(granted) <= self.world.lanes.in_flight() <= 3 * len(granted)
        by_tenant = [sum(ask.tenant.slug == slug for ask in granted) for slug in "abc"]
        assert max(by_tenant) <= 3
        assert len(granted) <= 5
        assert len(set(map(id, granted))) == len(granted)

    @invariant()
    def who_waits_is_in_the_queue_once(self) -> None:
        assert self.world.lanes.waiting() == sum(ask.grant is None for ask in self.waiting)

    def teardown(self) -> None:
        for ask in self.waiting:
            if ask.grant is None:
                self.world.lanes.leave(ask)
        while self.world.granted:
            self.world.lanes.release(self.world.granted.pop())
        assert (self.world.lanes.in_flight(), self.world.lanes.waiting()) == (0, 0)


TestStorm = Storm.TestCase
