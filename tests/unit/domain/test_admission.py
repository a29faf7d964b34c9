"""Buckets, lanes and grants under a clock that is passed in."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tenantry.domain.admission import Bucket, Grant, Lane, Obstacle, Scope
from tenantry.domain.limits import Limits

OPEN = Limits(sessions_max=1000, requests_per_minute=None)
CLASSIC = Limits(sessions_max=5, requests_per_minute=60, request_burst=10)


def admit(lanes: list[Lane], input_tokens: int, now: float) -> Grant | None:
    grant = Grant(input_tokens)
    return grant if grant.take(tuple(lanes), now) else None


def granted(lanes: list[Lane], input_tokens: int, now: float) -> Grant:
    grant = admit(lanes, input_tokens, now)
    assert grant is not None
    return grant


def refused(lanes: list[Lane], input_tokens: int, now: float) -> Obstacle:
    assert admit(lanes, input_tokens, now) is None
    found = [obstacle for lane in lanes if (obstacle := lane.obstacle(input_tokens, now)) is not None]
    return max(found, key=lambda obstacle: obstacle.seconds)


def test_a_burst_passes_and_then_one_a_second() -> None:
    lane = Lane(CLASSIC, 100.0)
    for _ in range(10):
        granted([lane], 1, 100.0).release(100.0)
    assert refused([lane], 1, 100.0) == Obstacle("requests_per_minute", 1.0)
    granted([lane], 1, 101.0).release(101.0)
    assert refused([lane], 1, 101.5).seconds == pytest.approx(0.5)


@pytest.mark.parametrize("amount", [1, 59, 60, 600, 10**9])
def test_the_wait_that_is_told_is_true(amount: int) -> None:
    bucket = Bucket(60, 60, 0.0)
    bucket.take(amount)
    seconds = bucket.wait(amount, 0.0)
    if seconds > 0:
        assert bucket.wait(amount, seconds * 0.99) > 0
    assert bucket.wait(amount, seconds + 1e-6) == 0


def test_more_than_a_bucket_passes_when_it_is_full_and_leaves_a_debt() -> None:
    lane = Lane(replace(OPEN, input_tokens_per_minute=600), 0.0)
    granted([lane], 1200, 0.0)
    obstacle = refused([lane], 1, 0.0)
    assert obstacle == Obstacle("input_tokens_per_minute", obstacle.seconds)
    assert obstacle.seconds == pytest.approx(60.1)
    granted([lane], 1, 60.2)


def test_input_is_corrected_when_it_is_known_and_output_counts_as_it_comes() -> None:
    lane = Lane(replace(OPEN, input_tokens_per_minute=600, output_tokens_per_minute=60), 0.0)
    grant = granted([lane], 500, 0.0)
    grant.settle(10, 0)
    assert lane.input_tokens is not None
    assert lane.input_tokens.level == 590
    grant.settle(10, 40)
    grant.settle(10, 100)
    obstacle = refused([lane], 1, 0.0)
    assert obstacle == Obstacle("output_tokens_per_minute", obstacle.seconds)
    assert obstacle.seconds == pytest.approx(41.0)
    grant.settle(10, 30)
    granted([lane], 1, 0.0)


def test_all_or_nothing() -> None:
    key = Lane(replace(OPEN, sessions_max=1), 0.0)
    tenant = Lane(replace(OPEN, requests_per_minute=60, input_tokens_per_minute=100), 0.0)
    granted([tenant, key], 10, 0.0)
    before = (tenant.sessions, tenant.requests.level if tenant.requests else 0)  # the key's session is what lacks
    assert refused([tenant, key], 10, 0.0).limit == "sessions_max"
    assert before == (tenant.sessions, tenant.requests.level if tenant.requests else 0)


def test_a_grant_comes_back_once() -> None:
    lane = Lane(OPEN, 0.0)
    grant = granted([lane], 1, 0.0)
    assert grant.release(5.0)
    assert not grant.release(6.0)
    assert lane.sessions == 0


@pytest.mark.parametrize("jump", [-1e9, -1.0, 0.0, 1e9])
def test_a_clock_that_jumps_neither_blocks_nor_overfills(jump: float) -> None:
    lane = Lane(CLASSIC, 1000.0)
    for _ in range(10):
        granted([lane], 1, 1000.0).release(1000.0)
    admit([lane], 1, 1000.0 + jump)
    later = 1000.0 + jump + 1.0
    admitted = 0
    while (grant := admit([lane], 1, later)) is not None:
        grant.release(later)
        admitted += 1
    assert admitted <= 10
    granted([lane], 1, later + 2.0)


def test_a_lowered_limit_lets_run_what_runs() -> None:
    lane = Lane(OPEN, 0.0)
    grants = [granted([lane], 1, 0.0) for _ in range(20)]
    lane.apply(CLASSIC, 0.0)
    assert refused([lane], 1, 0.0).limit == "sessions_max"
    for grant in grants[:16]:
        grant.release(1.0)
    granted([lane], 1, 2.0)
    assert lane.sessions == 5


def test_what_an_upstream_says_becomes_its_capacity() -> None:
    capacity = Lane(Limits(sessions_max=100, requests_per_minute=None), 0.0, Scope.UPSTREAM)
    capacity.learn("requests", 1000, 2, 0.0)
    granted([capacity], 1, 0.0)
    granted([capacity], 1, 0.0)
    obstacle = refused([capacity], 1, 0.0)
    assert (obstacle.limit, obstacle.is_shared) == ("requests_per_minute", True)
    assert obstacle.seconds == pytest.approx(60 / 1000)
    capacity.learn("requests", 1000, 900, 0.0)  # an older answer that comes late gives nothing back
    refused([capacity], 1, 0.0)
    capacity.close_until(30.0)
    assert refused([capacity], 1, 10.0) == Obstacle("upstream_retry_after", 20.0, Scope.UPSTREAM)


def test_a_told_limit_never_exceeds_the_configured_one() -> None:
    capacity = Lane(Limits(sessions_max=100, requests_per_minute=60, request_burst=5), 0.0, Scope.UPSTREAM)
    capacity.learn("requests", 100_000, 99_999, 0.0)
    assert capacity.requests is not None
    assert (capacity.requests.size, capacity.requests.rate) == (5, 1.0)


@given(st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 400)), max_size=200))
def test_no_minute_gives_more_than_bucket_and_refill(asks: list[tuple[float, int]]) -> None:
    lane = Lane(replace(OPEN, requests_per_minute=60, request_burst=10, input_tokens_per_minute=6000), 0.0)
    now, requests, tokens = 0.0, 0, 0
    for pause, size in asks:
        now += pause
        grant = admit([lane], size, now)
        if grant is not None:
            requests += 1
            tokens += size
            grant.release(now)
    assert requests <= 10 + now + 1e-6
    assert tokens <= 6000 + now * 100 + 400


class Sessions(RuleBasedStateMachine):
    """Whatever happens, sessions in flight are those that were granted and not given back."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.tenant = Lane(replace(CLASSIC, sessions_max=3), 0.0)
        self.key = Lane(replace(OPEN, sessions_max=2), 0.0)
        self.open: list[Grant] = []
        self.done: list[Grant] = []

    @rule(tokens=st.integers(0, 10**6))
    def ask(self, tokens: int) -> None:
        grant = admit([self.tenant, self.key], tokens, self.now)
        if grant is not None:
            self.open.append(grant)

    @rule(which=st.integers(0, 10))
    def end(self, which: int) -> None:
        if self.open:
            grant = self.open.pop(which % len(self.open))
            assert grant.release(self.now)
            self.done.append(grant)

    @rule(which=st.integers(0, 10))
    def end_again(self, which: int) -> None:
        if self.done:
            assert not self.done[which % len(self.done)].release(self.now)

    @rule(seconds=st.floats(-100, 100))
    def clock(self, seconds: float) -> None:
        self.now += seconds

    @rule(sessions=st.integers(1, 5))
    def change_limits(self, sessions: int) -> None:
        self.tenant.apply(replace(CLASSIC, sessions_max=sessions), self.now)

    @invariant()
    def counted(self) -> None:
        assert self.tenant.sessions == self.key.sessions == len(self.open)


TestSessions = Sessions.TestCase
