"""Exports: every row, exact sums, whole files or none, safe in a spreadsheet; on schedule, once."""

import csv
import io
import json
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, delete, insert, select, update

from tenantry.control.exporting import Exporter, due_exports
from tenantry.domain.periods import Period, read_period
from tenantry.ledger.adjustments import Scope, book_adjustments
from tenantry.ledger.exports import COLUMNS, SumsDiffer, Wanted, write_csv, write_exports, write_json
from tenantry.settings import Settings, load_settings
from tenantry.storage.database import open_store
from tenantry.storage.tables import exports, ledger, tenants, usage_rollup
from tests.template import init_from_template
from tests.unit.ledger.books import HOUR_US, PRICES, START_US, attempt, book, random_attempts, rows

NOVEMBER = read_period("2026-11", ZoneInfo("UTC"))
OCTOBER_US = START_US - 5 * 24 * HOUR_US


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path / "data")})
    init_from_template(made)
    return made


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    made = open_store(settings.store_url)
    with made.begin() as connection:
        for slug in ("a", "b"):
            values = {"tenant_id": f"tnt_{slug}", "slug": slug, "name": slug, "status": "active", "tier": "standard"}
            created_at = datetime(2026, 1, 1, tzinfo=UTC)
            connection.execute(insert(tenants).values(**values, limits="{}", created_at=created_at))
    yield made
    made.dispose()


def exported(
    engine: Engine, folder: Path, period: Period = NOVEMBER, tenant_id: str | None = None
) -> list[dict[str, str]]:
    [done] = write_exports(engine, period, [Wanted("x.csv", tenant_id)], folder, write_csv)
    lines = list(csv.DictReader(io.StringIO((folder / "x.csv").read_bytes().decode(), newline="")))
    assert done.row_count == len(lines)
    assert done.cost_nanos == sum(int(line["cost_nanos"] or 0) for line in lines)
    return lines


def test_sums_of_the_files_equal_the_ledger_to_the_nano(engine: Engine, tmp_path: Path) -> None:
    book(engine, tmp_path, random_attempts(seed=8, count=400))
    book_adjustments(engine, PRICES, Scope())
    known = [row for row in rows(engine) if NOVEMBER.start_us <= row["ended_at_us"] < NOVEMBER.end_us]
    for tenant_id in (None, "tnt_a", "tnt_b"):
        mine = [row for row in known if tenant_id in (None, row["tenant_id"])]
        lines = exported(engine, tmp_path, tenant_id=tenant_id)
        assert sum(Decimal(line["cost_usd"] or 0) for line in lines) * 10**9 == sum(
            row["cost_nanos"] or 0 for row in mine
        )
        for name in ("input_tokens", "output_tokens", "thinking_tokens", "cost_nanos"):
            assert sum(int(line[name] or 0) for line in lines) == sum(row[name] or 0 for row in mine)
        assert sorted(line["attempt_id"] for line in lines) == sorted(row["attempt_id"] for row in mine)
        assert [line["ended_at"] for line in lines] == sorted(line["ended_at"] for line in lines)
    adjusted = [line for line in exported(engine, tmp_path) if line["adjusts"]]
    assert {line["outcome"] for line in adjusted} == {"adjusted"}


def test_columns_are_the_documented_ones() -> None:
    text = (Path(__file__).parents[3] / "docs" / "exports.md").read_text()
    documented = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert documented == list(COLUMNS)


@pytest.mark.sqlite
@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "  \t+", "\u00a0-", "\u3000@", "\uff1d"])
def test_no_text_cell_can_start_a_formula_and_numbers_stay_numbers(engine: Engine, tmp_path: Path, start: str) -> None:
    hostile = start + 'HYPERLINK("http://x","y"),1\r\nz'
    book(engine, tmp_path, [attempt(1, model_served=hostile, stop_reason=hostile, upstream_request_id=hostile)])
    [line] = exported(engine, tmp_path)
    for name in ("model_served", "stop_reason", "upstream_request_id"):
        assert line[name] == "'" + hostile
    with engine.begin() as connection:  # a negative cost, as adjustments have
        connection.execute(update(ledger).values(cost_nanos=-5))
        connection.execute(update(usage_rollup).values(cost_nanos=-5))
    [line] = exported(engine, tmp_path)
    assert (line["cost_nanos"], line["cost_usd"]) == ("-5", "-0.000000005")


def test_json_and_parquet_hold_the_same_rows(engine: Engine, tmp_path: Path) -> None:
    import pyarrow.parquet

    from tenantry.ledger.parquet import write_parquet

    book(engine, tmp_path, [*random_attempts(seed=9, count=50), attempt(99, model_served="=1")])
    lines = exported(engine, tmp_path)
    write_exports(engine, NOVEMBER, [Wanted("x.json", None)], tmp_path, write_json)
    write_exports(engine, NOVEMBER, [Wanted("x.parquet", None)], tmp_path, write_parquet)
    document = json.loads((tmp_path / "x.json").read_text("utf-8"))
    read: list[dict[str, Any]] = pyarrow.parquet.read_table(tmp_path / "x.parquet").to_pylist()
    assert list(document["rows"][0]) == list(read[0]) == list(COLUMNS)
    assert (document["period"], document["end"]) == ("2026-11", "2026-12-01T00:00:00.000000Z")
    for line, one, other in zip(lines, document["rows"], read, strict=True):
        assert line["attempt_id"] == one["attempt_id"] == other["attempt_id"]
        assert line["ended_at"] == one["ended_at"] == f"{other['ended_at']:%Y-%m-%dT%H:%M:%S.%f}Z"
        assert (
            line["cost_usd"] == (one["cost_usd"] or "") == ("" if other["cost_usd"] is None else f"{other['cost_usd']}")
        )
        assert one["cost_nanos"] == other["cost_nanos"]
    assert document["rows"][-1] is not None
    assert "=1" in {one["model_served"] for one in document["rows"]} & {one["model_served"] for one in read}


def test_an_empty_period_has_the_columns_alone(engine: Engine, tmp_path: Path) -> None:
    assert exported(engine, tmp_path) == []
    assert (tmp_path / "x.csv").read_bytes().decode() == ",".join(COLUMNS) + "\r\n"


def test_a_file_is_whole_or_not_there_and_for_its_owner_only(engine: Engine, tmp_path: Path) -> None:
    book(engine, tmp_path, [attempt(1)])
    folder = tmp_path / "out"

    def fail(file: IO[bytes], _period: Period, _rows: Iterator[dict[str, Any]]) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_exports(engine, NOVEMBER, [Wanted("x.csv", None)], folder, fail)
    assert list(folder.iterdir()) == []
    exported(engine, folder)
    before = (folder / "x.csv").read_bytes()
    with pytest.raises(OSError, match="No space"):
        write_exports(engine, NOVEMBER, [Wanted("x.csv", None)], folder, fail)
    assert [path.name for path in folder.iterdir()] == ["x.csv"]
    assert (folder / "x.csv").read_bytes() == before
    assert (folder / "x.csv").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_rows_that_contradict_the_sums_are_not_exported(engine: Engine, tmp_path: Path) -> None:
    book(engine, tmp_path, [attempt(1), attempt(2)])
    with engine.begin() as connection:
        connection.execute(delete(ledger).where(ledger.c.attempt_id == "att_2"))
    with pytest.raises(SumsDiffer, match="ledger verify"):
        write_exports(engine, NOVEMBER, [Wanted("x.csv", None)], tmp_path / "out", write_csv)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_month_is_streamed_not_held(engine: Engine, tmp_path: Path) -> None:
    book(engine, tmp_path, [attempt(number, usage_raw="x" * 5000) for number in range(6000)])
    tracemalloc.start()
    write_exports(engine, NOVEMBER, [Wanted("x.csv", None)], tmp_path, write_csv)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "x.csv").stat().st_size > 1_500_000
    assert peak < 6_000_000


# On schedule


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def names(settings: Settings) -> list[str]:
    return sorted(path.name for path in (settings.data_dir / "exports").iterdir())


def test_an_ended_week_is_exported_once_for_each_tenant_and_for_all(
    engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    book(engine, tmp_path, [attempt(1), attempt(2, tenant="tnt_b")])
    exporter = Exporter(engine, settings)
    assert exporter.step(at("2026-11-09T00:59:59")) == 0  # the week has ended, its rows may still come
    assert exporter.step(at("2026-11-09T01:00:01")) == 3
    assert names(settings) == ["usage-2026-W45-a.csv", "usage-2026-W45-b.csv", "usage-2026-W45.csv"]
    kept = {name: (settings.data_dir / "exports" / name).stat().st_ino for name in names(settings)}
    assert exporter.step(at("2026-11-09T01:00:01")) == 0
    assert Exporter(engine, settings).step(at("2026-11-15T01:00:00")) == 0
    assert {name: (settings.data_dir / "exports" / name).stat().st_ino for name in names(settings)} == kept
    with engine.connect() as connection:
        noted = {row.tenant_id: (row.row_count, row.cost_nanos) for row in connection.execute(select(exports))}
    assert noted == {"": (2, 2003), "tnt_a": (1, 1001), "tnt_b": (1, 1002)}


def test_a_control_process_that_was_down_catches_up(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    book(engine, tmp_path, [attempt(1, OCTOBER_US), attempt(2)])
    Exporter(engine, settings).step(at("2026-12-02T00:00:00"))
    labels = {name.removesuffix(".csv") for name in names(settings) if name.count("-") == 2}
    weeks = {f"usage-2026-W{week}" for week in (44, 45, 46, 47, 48)}
    assert labels == weeks | {"usage-2026-10", "usage-2026-11"}


def test_monthly_means_months_alone_and_an_empty_ledger_nothing(
    engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    from dataclasses import replace

    monthly = replace(settings, billing_export_interval="monthly")
    assert due_exports(engine, settings, at("2026-12-02T00:00:00")) == []
    book(engine, tmp_path, [attempt(1)])
    assert [due.period.label for due in due_exports(engine, monthly, at("2026-12-02T00:00:00"))] == ["2026-11"]
    assert due_exports(engine, monthly, at("2026-12-01T00:30:00")) == []


def test_the_agency_s_time_zone_decides_when_a_month_ends(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    from dataclasses import replace

    berlin = replace(settings, billing_export_interval="monthly", time_zone="Europe/Berlin")
    book(engine, tmp_path, [attempt(1)])
    assert due_exports(engine, berlin, at("2026-11-30T23:59:59")) == []
    assert [due.period.label for due in due_exports(engine, berlin, at("2026-12-01T00:00:01"))] == ["2026-11"]


def test_a_tenant_that_came_after_the_period_has_no_file_for_it(
    engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    book(engine, tmp_path, [attempt(1)])
    with engine.begin() as connection:
        connection.execute(update(tenants).where(tenants.c.slug == "b").values(created_at=at("2026-11-20T00:00:00")))
    Exporter(engine, settings).step(at("2026-11-10T00:00:00"))
    assert names(settings) == ["usage-2026-W45-a.csv", "usage-2026-W45.csv"]


def test_several_control_processes_at_once_write_each_file_the_same_and_note_it_once(
    engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    book(engine, tmp_path, random_attempts(seed=3, count=100))
    failed: list[BaseException] = []

    def step() -> None:
        try:
            Exporter(engine, settings).step(at("2026-12-02T00:00:00"))
        except Exception as error:  # noqa: BLE001 -- told to the test below
            failed.append(error)

    threads = [threading.Thread(target=step) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with engine.connect() as connection:
        noted = {row.file_name for row in connection.execute(select(exports))}
    assert sorted(noted) == names(settings)


def test_an_adjustment_of_an_exported_period_is_a_line_of_a_later_one(
    engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    book(engine, tmp_path, [attempt(1)])
    Exporter(engine, settings).step(at("2026-11-09T02:00:00"))
    before = (settings.data_dir / "exports" / "usage-2026-W45.csv").read_bytes()
    assert book_adjustments(engine, PRICES, Scope()) == 1
    Exporter(engine, settings).step(datetime.now(UTC) + timedelta(days=8))
    assert (settings.data_dir / "exports" / "usage-2026-W45.csv").read_bytes() == before
    later = "".join((settings.data_dir / "exports" / name).read_text() for name in names(settings))
    assert ",adjusted," in later


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from tenantry.control import exporting
from tenantry.ledger import exports
from tenantry.settings import load_settings
from tenantry.storage.database import open_store

where, count = sys.argv[1], [0]

def dies(call):
    def calls(*args, **kwargs):
        count[0] += 1
        if count[0] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return calls

if where == "rename":
    exports.os.replace = dies(exports.os.replace)
elif where == "sync":
    exports.os.fsync = dies(exports.os.fsync)
else:
    exporting.Exporter._note = dies(exporting.Exporter._note)
settings = load_settings(None, os.environ)
exporting.Exporter(open_store(settings.store_url), settings).step(datetime(2026, 11, 9, 2, tzinfo=UTC))
"""


@pytest.mark.parametrize("where", ["rename", "sync", "note"])
def test_killed_half_way_the_next_process_finishes(
    engine: Engine, settings: Settings, tmp_path: Path, where: str
) -> None:
    import os

    book(engine, tmp_path, [attempt(1), attempt(2, tenant="tnt_b")])
    environ = os.environ | {
        "TENANTRY_DATA_DIR": str(settings.data_dir),
        "TENANTRY_STORE_URL": settings.store_url,
    }
    done = subprocess.run([sys.executable, "-c", KILLED, where], env=environ, cwd=tmp_path, check=False)
    assert done.returncode == -9
    for path in (settings.data_dir / "exports").glob("usage*"):
        assert path.read_bytes().endswith(b"\r\n")  # what has its name is whole
    Exporter(engine, settings).step(at("2026-11-09T02:00:00"))
    finished = [name for name in names(settings) if not name.startswith(".")]
    assert finished == ["usage-2026-W45-a.csv", "usage-2026-W45-b.csv", "usage-2026-W45.csv"]
    with engine.connect() as connection:
        assert len(list(connection.execute(select(exports)))) == 3


def test_what_a_killed_process_left_is_swept_after_a_day(engine: Engine, settings: Settings) -> None:
    import os

    folder = settings.data_dir / "exports"
    folder.mkdir()
    for name, age in ((".old.part", 90_000), (".new.part", 10)):
        (folder / name).write_text("half")
        stamp = datetime.now(UTC).timestamp() - age
        os.utime(folder / name, (stamp, stamp))
    Exporter(engine, settings).step()
    assert [path.name for path in folder.iterdir()] == [".new.part"]


def test_how_much_is_written_is_told(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenantry.ledger.exports._ROWS_AT_ONCE", 10)
    book(engine, tmp_path, random_attempts(seed=9, count=60))
    told: list[float] = []
    write_exports(engine, NOVEMBER, [Wanted("x.csv", None)], tmp_path, write_csv, told.append)
    assert told == sorted(told)
    assert told
    assert 0 < told[0] < told[-1] <= 1
