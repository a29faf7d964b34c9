"""Remembered days: always what the roll-up holds, also when a journal is booked late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from tenantry.control.figures.days import DaySums, by_holder, selected, total, unpriced
from tenantry.control.figures.time import DAY_US, days_between
from tenantry.domain.periods import MONTH, period_of
from tenantry.ledger.adjustments import Scope, book_adjustments
from tenantry.ledger.series import Selection, Sums, sum_of
from tenantry.ledger.spending import spent_by_holder
from tenantry.storage.database import reading
from tests.unit.ledger.books import HOUR_US, PRICES, START_US, attempt, book, new_store, random_attempts

BERLIN = ZoneInfo("Europe/Berlin")
NOW_US = START_US + 30 * DAY_US + 9 * HOUR_US


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = new_store(tmp_path / "store.db")
    yield made
    made.dispose()


def month_of(engine: Engine, days: DaySums) -> Sums:
    month = period_of(MONTH, START_US, BERLIN)
    with reading(engine) as connection:
        found = days.between(connection, month.start_us, month.end_us, NOW_US)
        assert by_holder(found) == spent_by_holder(connection, month.start_us, month.end_us)
        assert total(found) == sum_of(connection, Selection(month.start_us, month.end_us))
    return total(found)


def test_a_month_of_remembered_days_is_the_month_of_the_roll_up(engine: Engine, tmp_path: Path) -> None:
    book(engine, tmp_path, random_attempts(seed=3, count=500))
    book_adjustments(engine, PRICES, Scope())
    days = DaySums(BERLIN)
    first = month_of(engine, days)
    assert first.rows > 100
    assert month_of(engine, days) == first


def test_a_row_that_is_booked_late_is_in_the_day_to_which_it_belongs(engine: Engine, tmp_path: Path) -> None:
    days = DaySums(BERLIN)
    book(engine, tmp_path, [attempt(1, START_US + HOUR_US)])
    before = month_of(engine, days)
    book(engine, tmp_path, [attempt(2, START_US + 2 * HOUR_US), attempt(3, NOW_US)], "later")
    after = month_of(engine, days)
    assert (before.attempts, after.attempts) == (1, 2)  # the third is of the next month
    assert after.cost_nanos > before.cost_nanos


def test_late_rows_of_several_days_are_in_each_of_them(engine: Engine, tmp_path: Path) -> None:
    days = DaySums(BERLIN)
    moments = [START_US + number * DAY_US + HOUR_US for number in range(3)]
    book(engine, tmp_path, [attempt(number, at_us) for number, at_us in enumerate(moments)])
    assert month_of(engine, days).attempts == 3
    book(engine, tmp_path, [attempt(10 + number, at_us) for number, at_us in enumerate(moments)], "later")
    assert month_of(engine, days).attempts == 6


def test_today_is_never_remembered(engine: Engine, tmp_path: Path) -> None:
    days = DaySums(BERLIN)
    today = days_between(NOW_US, NOW_US + 1, BERLIN)
    for count in (1, 2):
        book(engine, tmp_path, [attempt(count, NOW_US + count)], f"run{count}")
        with reading(engine) as connection:
            assert total(days.of_days(connection, today, NOW_US)).attempts == count


def test_a_selection_with_ends_within_days_is_summed_exactly(engine: Engine, tmp_path: Path) -> None:
    book(engine, tmp_path, random_attempts(seed=4, count=300))
    days = DaySums(BERLIN)
    quarter_us = HOUR_US // 4
    for of in (
        Selection(START_US + 5 * quarter_us, START_US + 9 * DAY_US + 7 * quarter_us),
        Selection(START_US + quarter_us, START_US + 20 * DAY_US, ["tnt_a"], "key_1"),
        Selection(START_US, START_US + 12 * DAY_US, None, None, "claude-sonnet-5-5", "settled"),
    ):
        with reading(engine) as connection:
            assert days.sum_of(connection, of, NOW_US) == sum_of(connection, of)


def test_models_without_a_price_are_named_the_most_used_first(engine: Engine, tmp_path: Path) -> None:
    book(engine, tmp_path, random_attempts(seed=5, count=300))
    days = DaySums(BERLIN)
    with reading(engine) as connection:
        found = days.between(connection, START_US, START_US + 20 * DAY_US, NOW_US)
    counts = [selected(found, Selection(0, 0, None, None, model)).unpriced for model in unpriced(found)]
    assert counts
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("read", [0, 3])
def test_what_is_read_beforehand_is_not_read_on_once_the_process_ends(engine: Engine, read: int) -> None:
    days, asked = DaySums(BERLIN), 0

    def is_wanted() -> bool:
        nonlocal asked
        asked += 1
        return asked <= read

    days.warm(engine, NOW_US, is_wanted)
    assert asked == read + 1
