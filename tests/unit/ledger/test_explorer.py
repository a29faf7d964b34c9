"""Rows of the ledger by page: each row once, whatever is booked meanwhile, and never too much looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tenantry.ledger import explorer
from tenantry.ledger.explorer import Place, Wanted, list_rows, percentiles, speed_of
from tenantry.storage.database import reading
from tests.unit.ledger.books import HOUR_US, START_US, attempt, book, new_store, random_attempts, rows

DAY_US = 24 * HOUR_US


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = new_store(tmp_path / "store.db")
    book(made, tmp_path, random_attempts(seed=11, count=400))
    yield made
    made.dispose()


def all_pages(engine: Engine, wanted: Wanted, most: int = 17) -> list[int]:
    found, behind = list[int](), None
    while True:
        with reading(engine) as connection:
            page = list_rows(connection, wanted, behind, most)
        found += [row.entry_id for row in page.rows]
        if page.next is None:
            return found
        behind = page.next


def expected(engine: Engine, keep: Any) -> list[int]:
    kept = [row for row in rows(engine) if keep(row)]
    return [row["entry_id"] for row in sorted(kept, key=lambda row: (-row["ended_at_us"], -row["entry_id"]))]


FILTERS: list[tuple[Wanted, Any]] = [
    (Wanted(), lambda row: True),
    (Wanted(["tnt_a"]), lambda row: row["tenant_id"] == "tnt_a"),
    (Wanted(["tnt_a", "tnt_b"]), lambda row: True),
    (Wanted([]), lambda row: False),
    (Wanted(key_id="key_2"), lambda row: row["key_id"] == "key_2"),
    (Wanted(outcome="estimated"), lambda row: row["outcome"] == "estimated"),
    (Wanted(model="x" * 128), lambda row: row["model_served"] == "x" * 300),
    (Wanted(model="claude-haiku-5-5"), lambda row: row["model_served"] in (None, "claude-haiku-5-5")),
    (Wanted(status=529), lambda row: False),
    (Wanted(cost_nanos_min=5 * 10**9), lambda row: (row["cost_nanos"] or -1) >= 5 * 10**9),
    (Wanted(cost_nanos_max=10**9), lambda row: row["cost_nanos"] is not None and row["cost_nanos"] <= 10**9),
    (
        Wanted(["tnt_b"], start_us=START_US + DAY_US, end_us=START_US + 9 * DAY_US),
        lambda row: row["tenant_id"] == "tnt_b" and START_US + DAY_US <= row["ended_at_us"] < START_US + 9 * DAY_US,
    ),
]


@pytest.mark.parametrize("number", range(len(FILTERS)))
def test_pages_together_are_the_rows_that_are_meant(engine: Engine, number: int) -> None:
    wanted, keep = FILTERS[number]
    assert all_pages(engine, wanted) == expected(engine, keep)


@pytest.mark.parametrize("number", range(len(FILTERS)))
def test_a_page_looks_at_a_bounded_part_and_the_pages_are_the_same(
    engine: Engine, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explorer, "LOOKED_AT_MAX", 23)
    wanted, keep = FILTERS[number]
    assert all_pages(engine, wanted) == expected(engine, keep)


def test_rows_of_one_moment_are_each_on_one_page(engine: Engine, tmp_path: Path) -> None:
    at_us = START_US + 100 * DAY_US
    book(engine, tmp_path, [attempt(1000 + number, at_us) for number in range(40)], "same")
    found = all_pages(engine, Wanted(start_us=at_us), 7)
    assert len(found) == len(set(found)) == 40


def test_what_is_booked_meanwhile_moves_no_page(engine: Engine, tmp_path: Path) -> None:
    with reading(engine) as connection:
        first = list_rows(connection, Wanted(), None, 20)
    book(engine, tmp_path, [attempt(2000, START_US + 90 * DAY_US)], "new")
    with reading(engine) as connection:
        second = list_rows(connection, Wanted(), first.next, 20)
    ids = [row.entry_id for row in (*first.rows, *second.rows)]
    assert ids == expected(engine, lambda row: row["attempt_id"] != "att_2000")[:40]


def test_a_page_behind_the_last_row_is_empty(engine: Engine) -> None:
    with reading(engine) as connection:
        page = list_rows(connection, Wanted(), Place(0, 0))
    assert (page.rows, page.next) == ([], None)


def test_speed_is_that_of_the_newest_answers(engine: Engine, tmp_path: Path) -> None:
    begun, end = attempt(
        3000, START_US + 80 * DAY_US, tenant="tnt_c", first_byte_at_us=START_US + 80 * DAY_US - 500_000
    )
    waited = replace(begun, queue_wait_us=40_000)
    unanswered = attempt(3001, START_US + 80 * DAY_US + 1, tenant="tnt_c", status=None)
    book(engine, tmp_path, [(waited, end), unanswered], "speed")
    with reading(engine) as connection:
        found = speed_of(connection, "tnt_c")
        assert speed_of(connection, "tnt_nobody").whole_us is None
    assert (found.attempts, found.whole_us, found.first_byte_us) == (1, (1_500_000,) * 2, (1_000_000,) * 2)
    assert (found.waited, found.waited_us) == (1, (40_000, 40_000))


def test_percentiles_are_values_that_were_there() -> None:
    assert percentiles([]) is None
    assert percentiles([7]) == (7, 7)
    assert percentiles(list(range(1, 101))) == (50, 95)
