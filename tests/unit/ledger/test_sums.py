"""The roll-up and what is read from it equal the ledger, to the nano-dollar."""

import random
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from alembic import command
from sqlalchemy import Engine, MetaData, Table, delete, insert, update

from tenantry.cli.usage import print_usage
from tenantry.domain.attempts import Outcome
from tenantry.domain.periods import read_period
from tenantry.ledger.rollup import differences
from tenantry.ledger.spending import spent_by_tenant, spent_nanos
from tenantry.ledger.usage import BadMonth, month_bounds_us, month_usage
from tenantry.storage import migrating
from tenantry.storage.database import open_store
from tenantry.storage.migrating import migrate
from tenantry.storage.tables import ledger, usage_rollup
from tests.unit.ledger.books import HOUR_US, START_US, attempt, book, new_store, random_attempts, rows


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("sums")
    made = new_store(folder / "x.db")
    attempts = random_attempts(seed=4, count=1500)
    for start in range(0, 1500, 300):
        book(made, folder, attempts[start : start + 300])
    return made


def total(known: list[dict[str, Any]], start_us: int, end_us: int, **only: str) -> int:
    return sum(
        row["cost_nanos"] or 0
        for row in known
        if start_us <= row["ended_at_us"] < end_us and all(row[name] == value for name, value in only.items())
    )


def test_the_roll_up_equals_the_ledger(engine: Engine) -> None:
    with engine.connect() as connection:
        assert differences(connection, 10) == []


def test_spending_is_exact_for_any_range_however_it_cuts_quarters_of_an_hour(engine: Engine) -> None:
    chance, known = random.Random(11), rows(engine)
    for _ in range(60):
        start_us = START_US + chance.randrange(-HOUR_US, 40 * 24 * HOUR_US)
        end_us = start_us + chance.choice([0, 1, 1000, 10**9, HOUR_US, 9 * HOUR_US, 30 * 24 * HOUR_US])
        assert spent_nanos(engine, "tnt_a", start_us, end_us) == total(known, start_us, end_us, tenant_id="tnt_a")
        assert spent_nanos(engine, "tnt_a", start_us, end_us, "key_2") == total(
            known, start_us, end_us, tenant_id="tnt_a", key_id="key_2"
        )
        by_tenant = spent_by_tenant(engine, start_us, end_us)
        assert by_tenant.get("tnt_b", 0) == total(known, start_us, end_us, tenant_id="tnt_b")
        assert sum(by_tenant.values()) == total(known, start_us, end_us)
    assert spent_nanos(engine, "nobody", 0, 2**60) == 0


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham"])
def test_a_month_of_usage_is_the_sum_of_its_rows_in_every_zone(engine: Engine, zone: str) -> None:
    where = ZoneInfo(zone)
    period = read_period("2026-11", where)
    report = month_usage(engine, "tnt_a", "2026-11", where)
    found = [
        row
        for row in rows(engine)
        if row["tenant_id"] == "tnt_a" and period.start_us <= row["ended_at_us"] < period.end_us
    ]
    assert report.requests == len(found)
    assert report.cost_nanos == sum(row["cost_nanos"] or 0 for row in found)
    assert sum(model.input_tokens for model in report.models) == sum(row["input_tokens"] for row in found)
    assert sum(model.unpriced_requests for model in report.models) == sum(row["cost_nanos"] is None for row in found)
    assert sum(report.outcomes.values()) == len(found)


def test_a_month_is_read_only_as_a_month() -> None:
    assert month_bounds_us("2026-11", ZoneInfo("UTC"))[0] == START_US - 24 * HOUR_US
    for label in ("2026-W47", "2026-11-24", "x", ""):
        with pytest.raises(BadMonth, match="YYYY-MM"):
            month_bounds_us(label, ZoneInfo("UTC"))


def test_rows_that_were_booked_before_the_roll_up_existed_are_in_it(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = open_store(f"sqlite:///{tmp_path / 'old.db'}")
    config = migrating._config()  # pyright: ignore[reportPrivateUsage] -- the only way to an older schema
    with old.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        later = ("adjusts", "saved_nanos", "basis", "held_nanos", "flaws")
        columns = [column for column in ledger.columns if column.name not in later]
        known = [{column.name: row[column.name] for column in columns} for row in rows(engine)]
        connection.execute(insert(Table("ledger", MetaData(), autoload_with=connection)), known)
    migrate(old)
    with old.connect() as connection:
        assert differences(connection, 10) == []
    old.dispose()


def test_a_roll_up_that_was_touched_is_found(tmp_path: Path) -> None:
    engine = new_store(tmp_path / "x.db")
    book(engine, tmp_path, [attempt(1), attempt(2, tenant="tnt_b")])
    for change in (
        update(usage_rollup).where(usage_rollup.c.tenant_id == "tnt_a").values(cost_nanos=1),
        delete(usage_rollup).where(usage_rollup.c.tenant_id == "tnt_b"),
    ):
        with engine.connect() as connection:
            connection.execute(change)
            assert differences(connection, 10) != []
            connection.rollback()
    engine.dispose()


def test_two_drains_of_the_same_journal_add_to_the_sums_once(tmp_path: Path) -> None:
    engine = new_store(tmp_path / "x.db")
    book(engine, tmp_path, [attempt(1), attempt(2)])
    book(engine, tmp_path, [attempt(2), attempt(3)], "other")
    with engine.connect() as connection:
        assert differences(connection, 10) == []
    assert spent_nanos(engine, "tnt_a", 0, 2**60) == 1001 + 1002 + 1003
    engine.dispose()


def test_the_cost_of_orphans_is_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = new_store(tmp_path / "x.db")
    orphan = {"outcome": Outcome.ORPHANED, "basis": "bound"}
    book(engine, tmp_path, [attempt(1, cost_nanos=500), attempt(2, cost_nanos=70, **orphan), attempt(3, **orphan)])
    report = month_usage(engine, "tnt_a", "2026-11", ZoneInfo("UTC"))
    assert (report.cost_nanos, report.orphaned_nanos) == (500 + 70 + 1003, 70 + 1003)
    assert report.as_json("acme")["orphaned_nanos"] == 1073
    print_usage(report.as_json("acme"))
    assert "of it orphaned\t2\t\t\t\t\t\t\t$0.000001073\n" in capsys.readouterr().out
