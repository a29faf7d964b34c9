"""Shares of a capacity, in simulation with a virtual clock."""

import random
from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import Generic, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.domain.admission import Grant, Lane, Scope
from tenantry.domain.fair_queue import FairQueue as DomainQueue
from tenantry.domain.fair_queue import Sub
from tenantry.domain.limits import Limits
from tenantry.domain.lines import Level, Line

T = TypeVar("T")


class Served(Enum):
    """What came of offering a capacity to an item."""

    TAKEN = 1
    FLOW_BLOCKED = 2
    PART_BLOCKED = 3
    ALL_BLOCKED = 4


class FairQueue(Generic[T]):
    """The queue with a line for each flow and part; those who stand there try again at each serving."""

    def __init__(self) -> None:
        self.real: DomainQueue[T] = DomainQueue([])
        self.lines: dict[str, Line] = {}
        self.parts: dict[str, Line] = {}

    def push(self, name: str, weight: int, cost: int, item: T, part: str = "") -> Sub[T]:
        return self.real.push(self.real.flow(name, weight), part, "", cost, item)

    def depth(self, name: str) -> int:
        return self.real.flow(name, 1).waiting

    def serve(self, offer: Callable[[T], Served]) -> None:
        def answer(item: T, sub: Sub[T]) -> Line | None:
            flow = sub.branch.flow
            own = self.lines.setdefault(flow.name, Line(Level.FLOW))
            part = self.parts.setdefault(sub.branch.name, Line(Level.BRANCH))
            if part.is_closed_to(sub.branch, not self.real.is_below(flow), flow.tag):
                return part
            outcome = offer(item)
            if outcome is Served.TAKEN:
                self.real.give(flow)  # these sessions end at once
                return None
            return {Served.FLOW_BLOCKED: own, Served.PART_BLOCKED: part, Served.ALL_BLOCKED: self.real.line}[outcome]

        for line in (*self.lines.values(), *self.parts.values()):
            line.wake()
        self.real.serve(answer)


def drain(queue: FairQueue[tuple[str, int]], most: int, blocked: frozenset[str] = frozenset()) -> list[str]:
    served: list[str] = []

    def offer(item: tuple[str, int]) -> Served:
        if len(served) >= most:
            return Served.ALL_BLOCKED
        if item[0] in blocked:
            return Served.FLOW_BLOCKED
        served.append(item[0])
        return Served.TAKEN

    queue.serve(offer)
    return served


def filled(flows: dict[str, int], items: int = 100, cost: int = 1000) -> FairQueue[tuple[str, int]]:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for name, weight in flows.items():
        for number in range(items):
            queue.push(name, weight, cost, (name, number))
    return queue


def test_weights_divide_what_there_is() -> None:
    served = Counter(drain(filled({"a": 1, "b": 2, "c": 4}), 70))
    assert served == {"a": 10, "b": 20, "c": 40}


def test_large_requests_count_for_more() -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for number in range(200):
        queue.push("small", 1, 1000, ("small", number))
        queue.push("large", 1, 10_000, ("large", number))
    served = Counter(drain(queue, 110))
    assert served["small"] == pytest.approx(100, abs=10)


def test_within_a_flow_the_first_comes_first() -> None:
    order: list[int] = []
    queue = filled({"a": 1}, 50)
    queue.serve(lambda item: order.append(item[1]) or Served.TAKEN)
    assert order == list(range(50))
    assert not queue.real.waiting


def test_a_flow_that_is_held_by_its_own_limits_is_skipped_and_saves_nothing_up() -> None:
    queue = filled({"a": 1, "b": 1})
    assert set(drain(queue, 40, frozenset({"a"}))) == {"b"}
    served = Counter(drain(queue, 40))
    assert served["a"] == pytest.approx(20, abs=2)


def test_serving_in_small_steps_is_as_fair_as_in_one() -> None:
    queue = filled({"a": 1, "b": 3})
    served: Counter[str] = Counter()
    for _ in range(80):
        served.update(drain(queue, 1))
    assert served == {"a": 20, "b": 60}


def test_what_is_removed_is_not_served() -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    items = [("a", number) for number in range(3)]
    subs = [queue.push("a", 1, 1, item) for item in items]
    queue.real.remove(subs[1], items[1])
    with pytest.raises(KeyError):
        queue.real.remove(subs[1], items[1])
    assert queue.depth("a") == queue.real.waiting == 2
    queue.real.remove(subs[0], items[0])
    queue.real.remove(subs[2], items[2])
    assert queue.real.waiting == 0
    assert drain(queue, 5) == []


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 5), min_size=2),
    st.integers(0, 2**32),
    st.integers(1, 30),
)
def test_while_backlogged_no_flow_is_ahead_of_its_share_by_more_than_a_turn(
    flows: dict[str, int], seed: int, step: int
) -> None:
    source = random.Random(seed)
    queue: FairQueue[tuple[str, int, int]] = FairQueue()
    for name, weight in flows.items():
        for number in range(400):
            cost = source.randint(500, 5000)
            queue.push(name, weight, cost, (name, cost, number))
    got: Counter[str] = Counter()
    for _ in range(10):
        left = step

        def offer(item: tuple[str, int, int]) -> Served:
            nonlocal left
            if left == 0:
                return Served.ALL_BLOCKED
            left -= 1
            got[item[0]] += item[1]
            return Served.TAKEN

        queue.serve(offer)
    if any(queue.depth(name) == 0 for name in flows):
        return
    shares = [got[name] / weight for name, weight in flows.items()]
    assert max(shares) - min(shares) <= 2 * 500 + 2 * 5000


def test_nine_normal_tenants_do_not_feel_one_at_a_hundred_times_its_share() -> None:
    """DESIGN 6: a minute of virtual time on a capacity of 600 requests a minute."""
    capacity = Lane(Limits(sessions_max=1000, requests_per_minute=600, request_burst=10), 0.0, Scope.UPSTREAM)
    lanes = {name: Lane(Limits(sessions_max=1000, requests_per_minute=None), 0.0) for name in "abcdefghiN"}
    queue: FairQueue[tuple[str, float]] = FairQueue()
    waits: dict[str, list[float]] = {name: [] for name in lanes}
    asked: Counter[str] = Counter()
    now = 0.0

    def offer(item: tuple[str, float]) -> Served:
        grant = Grant(100)
        if not grant.take((lanes[item[0]], capacity), now):
            return Served.FLOW_BLOCKED if lanes[item[0]].obstacle(100, now) is not None else Served.ALL_BLOCKED
        grant.release(now)
        waits[item[0]].append(now - item[1])
        return Served.TAKEN

    for tick in range(6000):
        now = tick / 100
        for index, name in enumerate("abcdefghi"):
            if tick % 111 == index * 11:  # 0.9 a second: nine tenths of a tenth of the capacity
                asked[name] += 1
                queue.push(name, 1, 100, (name, now))
        if queue.depth("N") < 64:  # the noisy one: 100 a second, as far as its queue goes
            asked["N"] += 1
            queue.push("N", 1, 100, ("N", now))
        queue.serve(offer)
    normal = [len(waits[name]) / asked[name] for name in "abcdefghi"]
    assert min(normal) >= 0.97  # those of the last second may still wait
    assert sum(normal) ** 2 / (9 * sum(share * share for share in normal)) >= 0.95
    every = sorted(wait for name in "abcdefghi" for wait in waits[name])
    assert every[int(len(every) * 0.99)] < 2.0
    assert len(waits["N"]) > 50  # what is left is not wasted


def test_flows_that_wait_for_the_same_part_of_a_capacity_take_turns_at_it() -> None:
    queue: FairQueue[tuple[str, str, int]] = FairQueue()
    for number in range(20):
        queue.push("a", 1, 500, ("a", "opus", number), "opus")
        queue.push("b", 1, 500, ("b", "opus", number), "opus")
        queue.push("c", 1, 500, ("c", "haiku", number), "haiku")
    got: Counter[str] = Counter()
    for _ in range(10):
        left = {"opus": 1, "haiku": 1}

        def offer(item: tuple[str, str, int], left: dict[str, int] = left) -> Served:
            if left[item[1]] == 0:
                return Served.PART_BLOCKED
            left[item[1]] -= 1
            got[item[0]] += 1
            return Served.TAKEN

        queue.serve(offer)
    assert got == {"a": 5, "b": 5, "c": 10}
