"""Guesses counted in the store: so many at once, then one for each while, whoever asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select, update

from tenantry.storage import guesses as module
from tenantry.storage.control_tables import guesses
from tenantry.storage.guesses import Allowance, GuessStore
from tests.template import new_store

# A minute each: none comes back while a test runs.
NAME, OTHER, ALL = Allowance("name ana", 10, 60.0), Allowance("name ben", 10, 60.0), Allowance("all", 15, 60.0)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = new_store(tmp_path / "store.db")
    yield made
    made.dispose()


def age(engine: Engine, seconds: float) -> None:
    """Time goes by."""
    with engine.begin() as connection:
        connection.execute(update(guesses).values(until_us=guesses.c.until_us - int(seconds * 1_000_000)))


def taken(store: GuessStore, *wanted: Allowance, tries: int = 20) -> int:
    return sum(store.take(wanted) == 0 for _ in range(tries))


def test_two_controls_together_have_as_many_as_one_and_the_wait_is_honest(engine: Engine) -> None:
    here, there = GuessStore(engine), GuessStore(engine)
    assert (taken(here, NAME, tries=6), taken(there, NAME)) == (6, 4)
    wait_us = here.take([NAME])
    assert 50_000_000 < wait_us <= 60_000_000
    age(engine, wait_us / 1_000_000)
    assert (taken(there, NAME), taken(here, NAME)) == (1, 0)
    age(engine, 3600)
    assert taken(here, NAME) == 10


def test_of_several_all_are_taken_or_none(engine: Engine) -> None:
    store = GuessStore(engine)
    assert taken(store, NAME, ALL) == 10
    assert taken(store, OTHER, ALL) == 5
    assert taken(store, OTHER) == 5, "those that ALL refused have cost it nothing"


def test_a_right_one_is_given_back(engine: Engine) -> None:
    store = GuessStore(engine)
    for _ in range(30):
        assert store.take([NAME, ALL]) == 0
        store.give_back([NAME, ALL])
    assert taken(store, NAME, ALL) == 10


def test_many_at_once_at_two_controls_get_no_more_than_there_are(engine: Engine) -> None:
    stores, begin, got = (GuessStore(engine), GuessStore(engine)), threading.Barrier(8), list[int]()

    def guess(number: int) -> None:
        begin.wait()
        got.extend(stores[number % 2].take([NAME, ALL]) for _ in range(4))

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(got) == 32
    assert got.count(0) == 10


def test_a_clock_that_was_set_back_locks_nobody_out(engine: Engine) -> None:
    store = GuessStore(engine)
    assert taken(store, NAME) == 10
    age(engine, -3600)
    assert taken(store, NAME) == 1, "and gives nobody more"
    age(engine, 61)
    assert taken(store, NAME) == 1


def test_who_is_known_is_so_for_a_while_and_no_name_stands_in_the_store(engine: Engine) -> None:
    store = GuessStore(engine)
    store.know(["known 192.0.2.1", "known 192.0.2.1 as ana"], 60)
    store.know(["known 192.0.2.1"], 120)
    asked = ["known 192.0.2.1", "known 192.0.2.1 as ana", "known 192.0.2.2"]
    assert store.known(asked) == {*asked[:2]}
    age(engine, 61)
    assert store.known(asked) == {asked[0]}
    with engine.connect() as connection:
        assert not [one for one in connection.execute(select(guesses.c.counted)).scalars() if b"ana" in bytes(one)]


def test_what_says_nothing_any_more_is_deleted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    store = GuessStore(engine)
    for number in range(5):
        store.take([Allowance(f"name {number}", 10, 60.0)])
    monkeypatch.setattr(module, "_CLEARED_EACH_SECONDS", 0.0)
    age(engine, 2 * 3600)
    store.take([NAME])
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(guesses)).scalar() == 1
