"""A breaker under a clock that is passed in."""

import random

from hypothesis import given
from hypothesis import strategies as st

from tenantry.domain.breaker import Breaker


def opened(now: float = 10.0) -> Breaker:
    breaker = Breaker()
    for _ in range(5):
        assert breaker.may_send(now)
        breaker.sent(now)
        breaker.failed(now)
    assert breaker.is_open(now)
    return breaker


def test_looking_spends_no_probe_and_a_probe_without_an_end_holds_nothing_up() -> None:
    breaker = opened()
    assert not breaker.may_send(10.9)
    assert all(breaker.may_send(11.1) for _ in range(100))
    breaker.sent(11.1)  # its client goes: nothing is told
    assert not breaker.may_send(12.0)
    assert breaker.may_send(12.2)


def test_one_good_answer_closes_it_and_the_past_is_forgotten() -> None:
    breaker = opened()
    breaker.sent(11.5)
    breaker.answered(11.6, 200)
    assert not breaker.is_open(11.6)
    breaker.failed(11.7)
    assert not breaker.is_open(11.7)


def test_failures_among_more_good_answers_open_nothing() -> None:
    breaker = Breaker()
    for step in range(1000):
        now = step / 50
        if step % 20 < 9:
            breaker.failed(now)
        else:
            breaker.answered(now, 200)
    assert not breaker.is_open(20.0)


def test_answers_of_5xx_open_it_only_when_they_last() -> None:
    breaker = Breaker()
    for _ in range(50):
        breaker.answered(5.0, 529)
    assert not breaker.is_open(5.0)
    breaker.answered(6.1, 529)
    assert breaker.is_open(6.1)


def test_429_and_400_are_answers_of_an_upstream_that_works() -> None:
    breaker = opened()
    breaker.answered(11.0, 429)
    assert not breaker.is_open(11.0)


def test_what_was_learned_a_minute_ago_says_nothing_about_now() -> None:
    breaker = opened()
    assert not breaker.is_open(71.0)
    assert breaker.may_send(71.0)


@given(st.integers(0, 2**32))
def test_an_open_breaker_never_lets_more_than_a_probe_a_second_through(seed: int) -> None:
    print(f"seed {seed}")
    chance, breaker, now, probes = random.Random(seed), opened(0.0), 0.0, 0
    while now < 30:
        now += chance.random() / 10
        if breaker.may_send(now):
            probes += 1
            breaker.sent(now)
            if chance.random() < 0.5:
                breaker.failed(now)
    assert 1 <= probes <= 30
