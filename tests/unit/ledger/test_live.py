"""What gateways tell of themselves, read back; and refusals summed over runs."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert

from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.live import (
    LIVE_FILE,
    Live,
    LiveHealth,
    LiveSums,
    LiveUse,
    read_live,
    sum_live,
    write_live,
)
from tenantry.ledger.tallies import list_refusals
from tenantry.storage.tables import refusals
from tests.template import new_store

NOW = 1_795_000_000.0
USE = {
    "sessions": 2,
    "waiting": 1,
    "requests_remaining": 10,
    "input_tokens_remaining": None,
    "output_tokens_remaining": -5,
}


@pytest.fixture
def gateways(tmp_path: Path) -> Iterator[list[JournalWriter]]:
    writers = [JournalWriter(tmp_path, f"gw{number}") for number in range(2)]
    yield writers
    for writer in writers:
        writer.close()


def read_lanes(folder: Path, now: float | None = None) -> LiveSums:
    return sum_live(read_live(folder, now))


def write(folder: Path, writer: JournalWriter, text: object) -> None:
    (folder / writer.run_id / LIVE_FILE).write_text(text if isinstance(text, str) else json.dumps(text))


def test_the_use_of_all_gateways_is_summed(tmp_path: Path, gateways: list[JournalWriter]) -> None:
    write(tmp_path, gateways[0], {"at": NOW - 1, "tenants": {"tnt_1": USE, "tnt_2": USE}, "health": {}})
    write(tmp_path, gateways[1], {"at": NOW, "tenants": {"tnt_1": USE}, "health": {}, "more": "of a later version"})
    now = read_lanes(tmp_path, NOW)
    assert now.gateways == 2
    assert now.tenants == {"tnt_1": LiveUse(4, 2, 20, None, -10), "tnt_2": LiveUse(2, 1, 10, None, -5)}


def test_a_gateway_that_ended_or_fell_silent_says_nothing(tmp_path: Path, gateways: list[JournalWriter]) -> None:
    write(tmp_path, gateways[0], {"at": NOW, "tenants": {"tnt_1": USE}, "health": {}})
    write(tmp_path, gateways[1], {"at": NOW - 11, "tenants": {"tnt_1": USE}, "health": {}})
    assert read_lanes(tmp_path, NOW).gateways == 1
    gateways[0].close()
    now = read_lanes(tmp_path, NOW)
    assert (now.gateways, now.tenants) == (0, {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        "\xff",
        '{"at":1,"tenants":{"t":{"sessions":1}},"budgets":{}}',
        '{"at":1}',
        '{"at":"x","tenants":{}}',
        '{"at":1795000000,"tenants":{"t":{"sessions":"2"}}}',
        "\0",
    ],
)
def test_a_file_that_is_not_whole_says_nothing(tmp_path: Path, gateways: list[JournalWriter], text: str) -> None:
    write(tmp_path, gateways[0], text)
    write(tmp_path, gateways[1], {"at": NOW, "tenants": {}, "health": {}})
    assert read_lanes(tmp_path, NOW).gateways == 1


def test_what_is_written_is_read_back_whole(tmp_path: Path, gateways: list[JournalWriter]) -> None:
    use = LiveUse(2, 1, 10, None, -5, 700, {"month": 9000}, 3)
    record = Live(NOW, {"tnt_1": use}, LiveHealth(["anthropic"], {"acme": None}, False))
    write_live(gateways[0].folder / LIVE_FILE, record)
    told, silent = read_live(tmp_path, NOW + 2)
    assert (told.run_id, told.told, told.age_seconds, told.is_fresh) == (gateways[0].run_id, record, 2.0, True)
    assert (silent.told, silent.age_seconds, silent.is_fresh) == (None, None, False)
    assert (gateways[0].folder / LIVE_FILE).stat().st_mode & 0o777 == 0o600


def test_without_a_journal_there_is_no_gateway(tmp_path: Path) -> None:
    assert read_lanes(tmp_path / "missing").gateways == 0


def test_refusals_are_summed_over_runs(tmp_path: Path) -> None:
    engine = new_store(tmp_path / "tenantry.db")
    rows = [
        ("run-1", "tnt_1", "sessions_max", 3, 1_000_000),
        ("run-2", "tnt_1", "sessions_max", 4, 5_000_000),
        ("run-1", "tnt_1", "model_not_allowed", 100, 2_000_000),
        ("run-1", "tnt_2", "sessions_max", 9, 9_000_000),
    ]
    columns = ("run_id", "tenant_id", "reason", "count", "last_at_us")
    with engine.begin() as connection:
        connection.execute(insert(refusals), [dict(zip(columns, row, strict=True)) for row in rows])
    found = list_refusals(engine, "tnt_1")
    assert [(one.reason, one.count) for one in found] == [("model_not_allowed", 100), ("sessions_max", 7)]
    assert found[1].last_at == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
    assert list_refusals(engine, "tnt_3") == []
    engine.dispose()
