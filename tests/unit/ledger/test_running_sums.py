"""Sums that run along are what would be counted anew: what alerts on budgets see is what budgets count."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, delete

from tenantry.domain.attempts import Outcome
from tenantry.domain.periods import DAY, MONTH, WEEK, period_of
from tenantry.ledger.adjustments import Scope, book_adjustments
from tenantry.ledger.counted import NOTHING, counted_by_holder
from tenantry.ledger.running_sums import RunningSums
from tenantry.storage.database import reading
from tenantry.storage.tables import quarantine
from tests.unit.ledger.books import HOUR_US, MODEL, START_US, Attempt, attempt, book, new_store, random_attempts
from tests.unit.ledger.test_adjustments import table

ZONE = ZoneInfo("Europe/Berlin")
RAW = '{"input_tokens": 1000, "output_tokens": 10}'


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = new_store(tmp_path / "x.db")
    yield made
    made.dispose()


def some_attempts(chance: random.Random, count: int) -> list[Attempt]:
    """Some of them without a price, and some that no column takes."""
    made: list[Attempt] = []
    for begun, end in random_attempts(chance.randrange(10**6), count):
        if end.outcome is Outcome.UNPRICED:
            end = replace(end, held_nanos=chance.randrange(10**9), model_served="claude-new-1", usage_raw=RAW)
        elif chance.random() < 0.1:
            begun, end = replace(begun, bound_nanos=chance.randrange(10**9)), replace(end, status=-1)
        made.append((begun, end))
    return made


def test_sums_that_run_along_equal_those_made_anew(engine: Engine, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    running, attempts = RunningSums(engine, ZONE), some_attempts(chance, 400)
    at_us, booked, rates = START_US, 0, 1
    for _ in range(20):
        more = chance.choice([0, 1, 60])
        book(engine, tmp_path, attempts[booked : booked + more])
        booked += more
        at_us += chance.choice([0, 0, HOUR_US, 30 * HOUR_US, -20 * HOUR_US])
        if chance.random() < 0.2:
            rates += 1
            book_adjustments(engine, table(f"v{rates}", rates, **{"claude-new-1": MODEL}), Scope())
        if chance.random() < 0.1:
            with engine.begin() as connection:
                connection.execute(delete(quarantine))
        running.follow(at_us)
        with reading(engine) as connection:
            for kind in (DAY, WEEK, MONTH):
                period = period_of(kind, at_us, ZONE)
                assert running.period(kind) == period
                counted = counted_by_holder(connection, period.start_us, period.end_us)
                for holder in (("tnt_a", ""), ("tnt_a", "key_1"), ("tnt_a", "key_2"), ("tnt_b", ""), ("tnt_c", "")):
                    assert running.of(kind, *holder) == counted.get(holder, NOTHING).nanos, (kind, holder)


def test_those_whose_sums_have_changed_are_named(engine: Engine, tmp_path: Path) -> None:
    running = RunningSums(engine, ZONE)
    assert running.follow(START_US) is None
    assert running.follow(START_US) == set()
    book(engine, tmp_path, [attempt(1)])
    assert running.follow(START_US) == {("tnt_a", ""), ("tnt_a", "key_1")}
    assert running.follow(START_US) == set()
