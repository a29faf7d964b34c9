"""Generated traffic through the lanes on a simulated clock: nothing is given twice, nobody is forgotten.

After each step everything that must hold is looked at from outside: what is in use is what is open, and whoever waits
is really refused, or waits behind someone who is. TENANTRY_SEED says which runs, TENANTRY_LANES_RUNS how many.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tenantry.domain import lanes
from tenantry.domain.admission import Bucket, Grant, Lane, Obstacle
from tenantry.domain.asks import Ask, Shared
from tenantry.domain.directory import Change, Credential, GatewayKey, KeyStatus, Snapshot, Tenant, TenantStatus
from tenantry.domain.flows import Flow
from tenantry.domain.lanes import Lanes
from tenantry.domain.limits import Limits
from tenantry.domain.lines import Held, Level
from tests.unit.domain.test_lanes import OPEN, Clock, credential

RUNS = int(os.environ.get("TENANTRY_LANES_RUNS", "150"))
SEED = int(os.environ.get("TENANTRY_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
STEPS = 150
# A timer may be so late: it is not set finer than two milliseconds.
LATE_SECONDS = 0.01

pytestmark = pytest.mark.interpreted  # what waits here is a class of the test


class Failing(Exception):
    """A request fails when its turn comes."""


class Watched(Ask):
    """Counts what it takes, and compares the fast decision with the full one, which names what is in the way."""

    __slots__ = ("simulation",)

    def take(self, lanes: tuple[Lane, ...], now: float) -> bool:
        full = nothing_lacks(lanes, self.input_tokens, now)
        assert super().take(lanes, now) is full, f"the fast decision is not {full}"
        self.simulation.grants += full
        return full


class Simulation:
    """Tenants with keys, two or three capacities, and every request that was made."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.clock = Clock()
        self.lanes = Lanes(self.clock, self.clock.call_later)
        shares = chance.random() < 0.5
        self.credentials = [
            credential(self.some_limits(can_be_many=True), f"crd_{name}", shares and name < "c") for name in "abc"
        ]
        self.version = 1
        self.tenants = [self.tenant(f"t{number}") for number in range(chance.choice((1, 3, 5)))]
        self.keys = [self.key(tenant, name) for tenant in self.tenants for name in "xyz"]
        self.waiting: list[Ask] = []
        self.open: list[Ask] = []
        self.asking: Ask | None = None
        self.steps: list[str] = []
        self.grants = 0

    # What there is

    def some_limits(self, can_be_many: bool = False) -> Limits:
        chance = self.chance
        return replace(
            OPEN,
            sessions_max=chance.choice((1, 2, 3, 5, 20, 1000) if can_be_many else (1, 2, 3, 5, 1000)),
            requests_per_minute=chance.choice((None, None, 60, 600)),
            request_burst=chance.choice((1, 3, 10)),
            input_tokens_per_minute=chance.choice((None, None, 6000, 60_000)),
            output_tokens_per_minute=chance.choice((None, None, None, 6000)),
            queue_depth_max=chance.choice((0, 1, 5, 50)),
            queue_wait_ms_max=chance.choice((0, 1000, 10_000, 10_000, 600_000)),
            weight=chance.choice((1, 1, 2, 7)),
        )

    def tenant(self, slug: str) -> Tenant:
        first, second = self.chance.sample(self.credentials, 2)
        return Tenant(f"tnt_{slug}", slug, slug, TenantStatus.ACTIVE, "t", self.some_limits(), first, second)

    def key(self, tenant: Tenant, name: str) -> GatewayKey:
        limits = self.some_limits() if self.chance.random() < 0.5 else None
        key_id = f"{tenant.slug}-{name}"
        return GatewayKey(key_id, tenant.tenant_id, key_id.encode(), KeyStatus.ACTIVE, limits=limits)

    # What can happen

    def step(self) -> None:
        chance = self.chance
        can = [self.ask] * 8 + [self.release] * 5 + [self.leave] * 2 + [self.pass_time] * 3
        can += [self.correct, self.produce, self.learn, self.move, self.apply, self.sweep]
        what = chance.choice(can)
        self.steps.append(what.__name__)
        what()
        self.clock.advance(0.0)  # what is left to the loop's next round

    def ask(self) -> None:
        chance = self.chance
        key = chance.choice(self.keys)
        tenant = next(tenant for tenant in self.tenants if tenant.tenant_id == key.tenant_id)
        under = chance.choices((tenant.credential, tenant.fallback, None), (6, 2, 1))[0]
        if chance.random() < 0.05:  # it was read under an older directory
            tenant = replace(tenant, limits=replace(tenant.limits, weight=chance.choice((1, 2, 7))))
        tokens = chance.choice((1, 100, 1000, 5000, 100_000))
        ask = Watched(tenant, key, under, chance.choice("mmn"), tokens, lambda _: self.on_grant(ask))
        ask.simulation = self
        before, self.asking = self.asking, ask
        goes_at_once = self.goes_at_once(ask)
        offers = self.offers()
        found = self.lanes.ask(ask)
        self.asking = before
        if not self.lanes._goes_on:  # else it is left to the loop's next round
            assert (isinstance(found, Grant) and self.offers() == offers) is goes_at_once, "it went through the queue"
        if isinstance(found, Grant):
            assert ask.grant is found
            self.open.append(ask)
        elif found is None:
            self.waiting.append(ask)
        else:
            assert isinstance(found, Obstacle)
            assert ask.queue is None
            assert ask.sub is None

    def goes_at_once(self, ask: Ask) -> bool:
        """The full decision: nobody waits for anything that it wants, and no limit is in its way."""
        way, now = self.lanes.resolve(ask.tenant, ask.key, ask.credential), self.clock()
        shared, model = way.shared, way.shared.models.get(ask.model)
        lanes = [lane for lane in (way.tenant, way.key, shared.capacity, model) if lane is not None]
        return (
            not way.flow.waiting
            and not any(flow.stamp for flow in shared.flows.values())
            and not any(lane.line.count for lane in lanes)
            and nothing_lacks(lanes, ask.input_tokens, now)
            and (shared.capacity is None or shared.leaves_room(way.flow, shared.capacity.sessions))
        )

    def offers(self) -> int:
        return sum(shared.offers for shared in self.lanes.register.shared.values())

    def on_grant(self, ask: Ask) -> None:
        assert ask is not self.asking, "told of its turn while it asks"
        self.waiting.remove(ask)
        self.open.append(ask)
        kind = self.chance.random()
        if kind < 0.15:
            self.release(ask)
        elif kind < 0.25:
            self.leave()
        elif kind < 0.3:
            self.release()
        elif kind < 0.4 and len(self.waiting) < 30:
            self.ask()
        elif kind < 0.45:
            raise Failing

    def release(self, ask: Ask | None = None) -> None:
        if self.open:
            ask = ask or self.chance.choice(self.open)
            self.open.remove(ask)
            assert self.lanes.release(ask)
            assert not self.lanes.release(ask)

    def leave(self) -> None:
        if self.waiting:
            ask = self.waiting.pop(self.chance.randrange(len(self.waiting)))
            assert isinstance(self.lanes.leave(ask), Obstacle)
            assert ask.queue is None
            assert ask.grant is None or not ask.grant.is_open

    def pass_time(self) -> None:
        self.clock.advance(self.chance.choice((0.001, 0.1, 1.0, 1.0, 10.0, 100.0, 1000.0)))

    def correct(self) -> None:
        if self.open:
            self.lanes.correct_input(self.chance.choice(self.open), self.chance.choice((0, 10, 2000, 50_000)))

    def produce(self) -> None:
        if self.open:
            self.lanes.produced(self.chance.choice(self.open), self.chance.choice((0, 10, 2000, 20_000)))

    def learn(self) -> None:
        chance = self.chance
        told: dict[bytes, bytes] = {}
        for name in (b"requests", b"input-tokens"):
            if chance.random() < 0.7:
                told[b"anthropic-ratelimit-%b-limit" % name] = str(chance.choice((60, 6000))).encode()
                told[b"anthropic-ratelimit-%b-remaining" % name] = str(chance.choice((0, 1, 50, 6000))).encode()
        pause = chance.choice((None, None, 0.5, 3.0))
        self.lanes.learn(chance.choice(self.credentials), chance.choice("mn"), told, pause)

    def move(self) -> None:
        candidates = [ask for ask in self.open if ask.credential is not None]
        if candidates:
            ask = self.chance.choice(candidates)
            to = self.chance.choice(self.credentials)
            may = self.lanes.may_move(ask, to)
            assert self.lanes.move(ask, to) is may

    def apply(self) -> None:
        self.version += 1
        before = [*self.tenants]
        index = self.chance.randrange(len(self.tenants))
        self.tenants[index] = replace(self.tenants[index], limits=self.some_limits())
        which = self.chance.randrange(len(self.keys))
        self.keys[which] = replace(self.keys[which], limits=self.chance.choice((None, self.some_limits())))
        if self.chance.random() < 0.3:
            self.change_capacity()
        keys = {key.digest: key for key in self.keys}
        snapshot = Snapshot(self.version, keys, {tenant.tenant_id: tenant for tenant in self.tenants})
        changed = [new.tenant_id for old, new in zip(before, self.tenants, strict=True) if new is not old]
        change = Change(snapshot, frozenset(changed), frozenset({self.keys[which].digest}))
        self.lanes.apply(change if self.chance.random() < 0.8 else Change(snapshot, None, None))

    def change_capacity(self) -> None:
        at = self.chance.randrange(len(self.credentials))
        old = self.credentials[at]
        capacity = self.some_limits(can_be_many=True)
        new: dict[str, Credential] = {}
        for one in self.credentials:
            is_same = one is old or (one.upstream.shares_capacity and old.upstream.shares_capacity)
            upstream = replace(one.upstream, capacity=capacity) if is_same else one.upstream
            new[one.credential_id] = replace(one, upstream=upstream)
        self.credentials = list(new.values())
        for index, tenant in enumerate(self.tenants):
            assert tenant.credential
            assert tenant.fallback
            first, second = new[tenant.credential.credential_id], new[tenant.fallback.credential_id]
            self.tenants[index] = replace(tenant, credential=first, fallback=second)

    def sweep(self) -> None:
        self.lanes.sweep()

    # What always holds

    def check(self) -> None:
        lanes = list(self.lanes.register.lanes())
        for lane in lanes:
            given = sum(lane in ask.grant.lanes for ask in self.open if ask.grant)
            assert lane.sessions == given, (lane.scope, lane.name)
        for ask in self.open:
            assert ask.grant
            assert ask.grant.is_open
            assert all(lane in lanes for lane in ask.grant.lanes), "a lane in use was forgotten"
        for ask in self.waiting:
            assert ask.queue is not None
            assert ask.grant is None
        assert self.lanes.waiting() == len(self.waiting) == self.lanes._waits
        by_line = {id(lane.line): lane for lane in lanes}
        for shared in self.lanes.register.shared.values():
            self.check_queue(shared, by_line)
        for lane in lanes:
            self.check_line(lane)
        if not self.waiting:
            assert not [handle for _, _, (handle, _) in self.clock._timers if not handle.cancelled]

    def check_queue(self, shared: Shared, by_line: dict[int, Lane]) -> None:
        weight = 0
        for flow in shared.flows.values():
            mine = [ask for ask in self.waiting if ask.queue is shared and ask.tenant.tenant_id == flow.name]
            assert flow.waiting == len(mine)
            assert flow.held == sum(ask.way is not None and ask.way.flow is flow for ask in self.open)
            weight += flow.weight if flow.waiting or flow.held else 0
            parked = 0
            for branch in flow.branches.values():
                assert branch.waiting == sum(len(sub.items) for sub in branch.subs.values()) > 0
                for sub in branch.subs.values():
                    assert sub.items
                    assert (sub.line is None) == (sub in branch.ready)
                    self.check_lane(sub, by_line, shared)
                    parked += len(sub.items) if sub.line else 0
                assert (branch in flow.ready) == (branch.line is None and bool(branch.ready))
                assert branch.line is None or branch.ready
                parked += branch.waiting if branch.line else 0
                self.check_lane(branch, by_line, shared)
            assert flow.parked == parked
            assert flow.line is None or flow.ready
            assert (flow.stamp != 0) == (flow.line is None and bool(flow.ready)), "a flow that nobody asks"
            self.check_lane(flow, by_line, shared)
        assert shared._weight == weight
        asked = [flow for flow in shared.flows.values() if flow.stamp]
        assert shared.is_contended == bool(asked)
        if asked:
            below = [flow for flow in asked if shared.is_below(flow)]
            if below:
                flow = min(below, key=lambda flow: (flow.tag, flow.stamp))
            else:
                flow = min(asked, key=lambda flow: (flow.held / flow.weight, flow.stamp))
            self.check_refused(flow, shared)

    def check_refused(self, flow: Flow[Ask], shared: Shared) -> None:
        ask = first_of(flow)
        way, capacity = ask.way, shared.capacity
        assert way
        now = self.clock()
        model = shared.models.get(ask.model)
        if capacity is not None and not shared.leaves_room(flow, capacity.sessions):
            return
        lanes = [lane for lane in (way.tenant, way.key, model, capacity) if lane is not None]
        assert not all(clearly_may(lane, ask.input_tokens, now) for lane in lanes), "it waits for nothing"

    def check_lane(self, held: Held, by_line: dict[int, Lane], shared: Shared) -> None:
        for line in (held.line, held.trying):
            if line is not None:
                assert line._rows[shared].count or line._rows[shared].first
        if held.trying is not None:
            assert held.line is None
            assert held.trying._rows[shared].first is held

    def check_line(self, lane: Lane) -> None:
        line = lane.line
        assert line.count == sum(row.count for row in line._rows.values())
        for site, row in line._rows.items():
            valid = [entry[3] for entry in row.entries if line._is_valid(entry)]
            assert len(valid) == row.count == len(set(map(id, valid)))
            if row.first is not None:
                # It is being asked: so it waits for the capacity, or with its whole tenant.
                flow = flow_of(row.first)
                assert flow.stamp or flow.line is not None, "asked again by nobody"
                assert line.level is not Level.BRANCH or flow.line is None, "it holds up other tenants"
            elif row.count:
                ask = first_of(line._top(row)[3])
                others = [
                    other for name, other in line._rows.items() if name is not site and other.count and not other.first
                ]
                if not any(line._top(other)[2] < line._top(row)[2] for other in others):
                    assert not clearly_may(lane, ask.input_tokens, self.clock()), (
                        f"forgotten in the line of {lane.scope} {lane.name}"
                    )

    def rest(self) -> None:
        """Everything ends."""
        for _ in range(10_000):
            if not self.waiting and not self.open:
                break
            self.chance.choice((self.release, self.release, self.leave))()
            self.clock.advance(0.0)
        self.clock.advance(1)
        self.check()
        assert (self.lanes.in_flight(), self.lanes.waiting()) == (0, 0)
        for lane in self.lanes.register.lanes():
            assert (lane.waiting, lane.line.count, len(lane.line._rows)) == (0, 0, 0)


def nothing_lacks(lanes: Sequence[Lane], tokens: int, now: float) -> bool:
    """The full decision. What looking refills is as it was afterwards."""
    before = [(bucket, bucket.level, bucket.at) for lane in lanes for bucket in lane.buckets]
    found = all(lane.obstacle(tokens, now) is None for lane in lanes)
    for bucket, level, at in before:
        bucket.level, bucket.at = level, at
    return found


def flow_of(held: Held) -> Flow[Ask]:
    found: Any = held
    while not isinstance(found, Flow):
        found = found.branch if hasattr(found, "branch") else found.flow
    return found


def first_of(held: Held) -> Ask:
    found: Any = held
    while hasattr(found, "ready"):
        found = next(iter(found.ready))
    return next(iter(found.items))


def clearly_may(lane: Lane, tokens: int, now: float) -> bool:
    """Whether a lane could have given for longer than a timer may be late; nothing is changed."""
    then = now - LATE_SECONDS
    if lane.sessions >= lane.sessions_max or then < lane.closed_until:
        return False
    for bucket, amount in ((lane.requests, 1), (lane.input_tokens, tokens), (lane.output_tokens, 1)):
        if bucket is not None and level(bucket, then) < min(amount, bucket.size):
            return False
    return True


def level(bucket: Bucket, then: float) -> float:
    return min(bucket.size, bucket.level + (then - bucket.at) * bucket.rate)


@pytest.mark.parametrize("shard", range(2))
def test_whatever_happens_nobody_is_forgotten_and_nothing_is_given_twice(
    shard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(f"TENANTRY_SEED={SEED} shard {shard}")
    if shard == 1:  # rounds of the loop that end before all is done
        monkeypatch.setattr(lanes, "OFFERS_MAX", 2)
        monkeypatch.setattr(lanes, "TOLD_MAX", 1)
    grants = 0
    for run in range(RUNS):
        simulation = Simulation(random.Random(f"{SEED}-{shard}-{run}"))
        for _ in range(STEPS):
            try:
                simulation.step()
                simulation.check()
            except AssertionError as error:
                raise AssertionError(f"run {run} after {simulation.steps[-6:]}: {error}") from error
        simulation.rest()
        grants += simulation.grants
    assert grants > RUNS * 10
