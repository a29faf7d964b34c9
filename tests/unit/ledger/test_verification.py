"""Whatever is done to a ledger behind the gateway's back is found, and where."""

# ruff: noqa: S608 -- tampering is what these statements are for

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from tenantry.ledger.adjustments import Scope, book_adjustments
from tenantry.ledger.verification import Verification, verify
from tenantry.storage.tables import ledger
from tests.template import SQLITE, stores_in
from tests.unit.ledger.books import PRICES, attempt, book, new_store, random_attempts, rows

# `entry_id` numbers rows in this database only; that it keeps their order is checked by the swaps.
COLUMNS = [column.name for column in ledger.columns if column.name != "entry_id"]
TAMPERINGS = 1000


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound ledger: three gateway runs and one of adjustments."""
    folder = tmp_path_factory.mktemp("ledger")
    with stores_in(SQLITE):
        engine = new_store(folder / "base.db")
    attempts = random_attempts(seed=5, count=24)
    for start in range(0, 24, 8):
        book(engine, folder, attempts[start : start + 8], f"gateway-{start}")
    assert book_adjustments(engine, PRICES, Scope()) > 5
    assert verify(engine).fault_count == 0
    engine.dispose()
    with closing(sqlite3.connect(folder / "base.db")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    return folder / "base.db"


@cache
def engine_of(path: Path) -> Engine:
    """Opens the file anew for each connection; what it compiles of the statements, it keeps."""
    return create_engine(f"sqlite:///{path}", poolclass=NullPool)


def found_in(path: Path) -> Verification:
    return verify(engine_of(path))


def change_a_value(connection: sqlite3.Connection, chance: random.Random) -> str:
    entry, column = chance.randint(1, 24), chance.choice(COLUMNS)
    [before] = connection.execute(f"SELECT {column} FROM ledger WHERE entry_id = ?", [entry]).fetchone()
    if before is None:
        after: object = chance.choice([0, 1, "x"])
    elif isinstance(before, int):
        after = chance.choice([before + 1, before - 1, before + 10**6, -before - 1])
    else:
        after = chance.choice([before + "0", before[:-1] + "~", "", b"bytes"])
        after = "other" if after == before else after
    connection.execute(f"UPDATE ledger SET {column} = ? WHERE entry_id = ?", [after, entry])
    return f"{column} of {entry}: {before!r} -> {after!r}"


def delete_rows(connection: sqlite3.Connection, chance: random.Random) -> str:
    first = chance.randint(1, 30)
    connection.execute("DELETE FROM ledger WHERE entry_id BETWEEN ? AND ?", [first, first + chance.randint(0, 3)])
    return f"delete from {first}"


def delete_a_whole_run(connection: sqlite3.Connection, chance: random.Random) -> str:
    [run] = chance.choice(connection.execute("SELECT DISTINCT journal_run FROM ledger").fetchall())
    connection.execute("DELETE FROM ledger WHERE journal_run = ?", [run])
    if chance.random() < 0.5:
        connection.execute("DELETE FROM journals WHERE run_id = ?", [run])
    return f"delete run {run}"


def swap_two(connection: sqlite3.Connection, chance: random.Random) -> str:
    column = chance.choice(["entry_id", "journal_seq", "attempt_id"])
    [run] = connection.execute("SELECT journal_run FROM ledger WHERE entry_id = ?", [chance.randint(1, 24)]).fetchone()
    known = connection.execute(f"SELECT {column}, entry_id FROM ledger WHERE journal_run = ?", [run]).fetchall()
    (one, first), (other, second) = chance.sample(known, 2)
    aside = 10**6 if column != "attempt_id" else "aside"
    for value, entry in ((aside, first), (one, second)):
        connection.execute(f"UPDATE ledger SET {column} = ? WHERE entry_id = ?", [value, entry])
        if column == "entry_id":
            first, entry = (10**6, one) if value == aside else (first, entry)
    connection.execute(f"UPDATE ledger SET {column} = ? WHERE entry_id = ?", [other, first])
    return f"swap {column} of {one!r} and {other!r}"


def duplicate(connection: sqlite3.Connection, chance: random.Random) -> str:
    entry = chance.randint(1, 24)
    kept = ", ".join(name for name in COLUMNS if name not in ("attempt_id", "journal_seq"))
    seq = chance.choice([0, -1, "journal_seq + 100", "(SELECT max(journal_seq) + 1 FROM ledger)"])
    connection.execute(
        f"INSERT INTO ledger ({kept}, attempt_id, journal_seq) "
        f"SELECT {kept}, 'again', {seq} FROM ledger WHERE entry_id = {entry}"
    )
    return f"duplicate {entry} as {seq}"


def touch_an_anchor(connection: sqlite3.Connection, chance: random.Random) -> str:
    [run] = chance.choice(connection.execute("SELECT run_id FROM journals").fetchall())
    change = chance.choice(["seq = seq + 1", "seq = seq - 1", "head_hash = 'x'"])
    connection.execute(f"UPDATE journals SET {change} WHERE run_id = ?", [run])
    return f"{change} of {run}"


KINDS: list[Callable[[sqlite3.Connection, random.Random], str]] = [
    *[change_a_value] * 6,
    delete_rows,
    delete_a_whole_run,
    swap_two,
    swap_two,
    duplicate,
    touch_an_anchor,
]


@pytest.mark.sqlite
@pytest.mark.sqlite  # of a copy of a file
def test_every_one_of_a_thousand_random_tamperings_is_found(base: Path, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    path = tmp_path / "tampered.db"
    done = 0
    while done < TAMPERINGS:
        shutil.copyfile(base, path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            try:
                told = chance.choice(KINDS)(connection, chance)
            except sqlite3.IntegrityError:
                continue  # the database itself does not take it
            connection.commit()
        done += 1
        assert found_in(path).fault_count > 0, told


@pytest.mark.sqlite  # of a copy of a file
@pytest.mark.parametrize(
    ("tampering", "what", "seq"),
    [
        ("UPDATE ledger SET cost_nanos = cost_nanos + 1 WHERE entry_id = 3", "changed", 3),
        ("DELETE FROM ledger WHERE entry_id = 4", "missing", 5),
        ("DELETE FROM ledger WHERE entry_id = 8", "missing", 7),
        ("UPDATE ledger SET journal_seq = 9 WHERE entry_id = 8", "missing", 9),
        ("DELETE FROM journals", "anchor", 8),
    ],
)
def test_a_fault_says_where_it_is(base: Path, tmp_path: Path, tampering: str, what: str, seq: int) -> None:
    path = tmp_path / "tampered.db"
    shutil.copyfile(base, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(tampering)
        connection.commit()
    # Runs come in the order of their names: that of the adjustments first.
    fault = next(one for one in found_in(path).faults if one.run.startswith("gateway-0"))
    assert (fault.what, fault.seq) == (what, seq)


def test_the_head_stays_while_nothing_is_booked_and_moves_with_every_row(tmp_path: Path) -> None:
    engine = new_store(tmp_path / "x.db")
    empty = verify(engine)
    assert (empty.rows, empty.fault_count) == (0, 0)
    book(engine, tmp_path, [attempt(1)])
    first = verify(engine).head
    assert verify(engine).head == first != empty.head
    book(engine, tmp_path, [attempt(2)])
    assert verify(engine).head != first
    engine.dispose()


@pytest.mark.sqlite
def test_hashes_of_the_first_schema_still_verify(tmp_path: Path) -> None:
    """A row as the first schema booked it, with the hash that it was given then."""
    engine = new_store(tmp_path / "x.db")
    begun, end = attempt(1, usage=replace(attempt(1)[1].usage, thinking_tokens=3))
    book(engine, tmp_path, [(begun, end)], "gateway")
    [row] = rows(engine)
    engine.dispose()
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        connection.execute("UPDATE ledger SET journal_run = 'gateway-1', basis = NULL")
        connection.execute("UPDATE journals SET run_id = 'gateway-1'")
        hashed = "4a10f958f263915027d6b2e518db7f042c61822e5da4fe1b56f754ad99b0930e"
        connection.execute("UPDATE ledger SET row_hash = ?", [hashed])
        connection.execute("UPDATE journals SET head_hash = ?", [hashed])
        connection.commit()
    assert row["adjusts"] is None
    assert found_in(tmp_path / "x.db").faults == []


@pytest.mark.sqlite  # of a copy of a file
def test_how_much_is_checked_is_told(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenantry.ledger.verification._ROWS_AT_ONCE", 5)
    told: list[float] = []
    verify(engine_of(base), told.append)
    assert told == sorted(told)
    assert 0 < told[0] < told[-1] <= 1
