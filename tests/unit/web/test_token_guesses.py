"""Guesses at admin tokens: so many for an address, so many for all, in bounded memory."""

from __future__ import annotations

import random

from tenantry.web.token_guesses import (
    ADDRESS_GUESSES,
    ADDRESS_SECONDS_EACH,
    ADDRESSES_MAX,
    ALL_GUESSES,
    ALL_SECONDS_EACH,
    TOLD_AT_ONCE,
    TOLD_SECONDS_EACH,
    TRUSTED_MAX,
    TRUSTED_SECONDS,
    Guesses,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_address_has_its_allowance_and_the_wait_is_honest() -> None:
    clock = Clock()
    guesses = Guesses(clock)
    assert [guesses.take("a") for _ in range(ADDRESS_GUESSES)] == [0] * ADDRESS_GUESSES
    wait = guesses.take("a")
    assert wait == int(ADDRESS_SECONDS_EACH)
    clock.now += wait - 0.1
    assert guesses.take("a") == 1
    clock.now += 0.1
    assert guesses.take("a") == 0
    assert guesses.take("a") > 0
    assert guesses.take("b") == 0


def test_a_right_one_costs_nothing_however_often() -> None:
    guesses = Guesses(Clock())
    for _ in range(10 * ALL_GUESSES):
        assert guesses.take("a") == 0
        guesses.was_right("a")


def test_all_addresses_together_have_an_allowance_and_who_was_right_lately_is_not_locked_out() -> None:
    clock = Clock()
    guesses = Guesses(clock)
    assert guesses.take("admin") == 0
    guesses.was_right("admin")
    taken = sum(guesses.take(f"guesser-{number}") == 0 for number in range(10 * ALL_GUESSES))
    assert taken == ALL_GUESSES
    assert guesses.take("another") == int(ALL_SECONDS_EACH)
    assert [guesses.take("admin") for _ in range(ADDRESS_GUESSES + 1)] == [0] * ADDRESS_GUESSES + [6]
    clock.now += TRUSTED_SECONDS
    assert sum(guesses.take(f"guesser-{number}") == 0 for number in range(10 * ALL_GUESSES)) == ALL_GUESSES
    assert guesses.take("admin") > 0


def test_over_an_hour_no_more_gets_through_than_was_said() -> None:
    seed = random.randrange(1 << 30)
    chance, clock = random.Random(seed), Clock()
    guesses, taken = Guesses(clock), 0
    for _ in range(36_000):
        clock.now += 0.1
        taken += guesses.take(str(chance.randrange(3000))) == 0
    assert taken <= ALL_GUESSES + 3600 / ALL_SECONDS_EACH + 1, seed


def test_memory_is_bounded_whatever_addresses_are_made_up() -> None:
    guesses = Guesses(Clock())
    for number in range(5 * ADDRESSES_MAX):
        guesses.take("x" * 10_000 + str(number) if number % 2 else str(number))
        guesses.was_right(str(number))
    assert len(guesses) <= ADDRESSES_MAX + TRUSTED_MAX


def test_one_network_of_ipv6_is_one_address() -> None:
    guesses = Guesses(Clock())
    taken = sum(guesses.take(f"2001:db8::{number:x}") == 0 for number in range(100))
    assert taken == ADDRESS_GUESSES
    assert guesses.take("2001:db8:1::1") == 0


def test_the_audit_log_is_told_of_some_and_the_next_line_counts_the_rest() -> None:
    clock = Clock()
    guesses = Guesses(clock)
    assert [guesses.to_tell() for _ in range(TOLD_AT_ONCE + 7)] == [1] * TOLD_AT_ONCE + [0] * 7
    clock.now += TOLD_SECONDS_EACH
    assert guesses.to_tell() == 8
