"""What gateways tell of themselves, read back; and refusals summed over runs."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from tenantry.domain.limits import Limits
from tenantry.ledger import live
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.live import (
    LIVE_FILE,
    LiveBucket,
    LiveFile,
    LiveHead,
    LiveHealth,
    LiveSpent,
    LiveSums,
    LiveTenant,
    LiveUse,
    encode_line,
    read_health,
    read_live,
    sum_live,
)
from tenantry.ledger.tallies import list_refusals
from tenantry.storage.tables import refusals
from tests.template import new_store

NOW = 1_795_000_000.0
USE = {"sessions": 2, "waiting": 1, "requests": [10.0, 60.0, 10.0], "output_tokens": [-5.0, 0.0, 100.0]}


@pytest.fixture
def gateways(tmp_path: Path) -> Iterator[list[JournalWriter]]:
    writers = [JournalWriter(tmp_path, f"gw{number}") for number in range(2)]
    yield writers
    for writer in writers:
        writer.close()


def read_lanes(folder: Path, now: float | None = None) -> LiveSums:
    return sum_live(read_live(folder, now))


def write(writer: JournalWriter, *lines: object) -> None:
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    (writer.folder / LIVE_FILE).write_text(text)


def head(at: float = NOW) -> dict[str, Any]:
    return {"line": "head", "at": at, "health": {}}


def tenant(tenant_id: str, **use: Any) -> dict[str, Any]:
    return {"line": "tenant", "tenant_id": tenant_id, "at": NOW - 1, **(use or USE)}


def test_the_use_of_all_gateways_is_summed(tmp_path: Path, gateways: list[JournalWriter]) -> None:
    write(gateways[0], tenant("tnt_1"), tenant("tnt_2"), head(NOW - 1))
    write(gateways[1], tenant("tnt_1"), head() | {"more": "of a later version"})
    now = read_lanes(tmp_path, NOW)
    assert now.gateways == 2
    assert now.tenants == {"tnt_1": LiveUse(4, 2, 20, None, 0), "tnt_2": LiveUse(2, 1, 10, None, 0)}


def test_a_tenant_is_told_by_who_grants_for_it_and_else_by_who_did_last(
    tmp_path: Path, gateways: list[JournalWriter]
) -> None:
    """Of several gateways, one that has given a tenant away: what it is in the middle of counts at the next one too."""
    full = {"requests": [60, 60, 60]}
    moved = tenant("tnt_1", sessions=2, requests=[50, 0, 60]) | {"grants": False}
    write(gateways[0], moved, tenant("tnt_2", sessions=7, **full) | {"grants": False}, head())
    last = tenant("tnt_2", sessions=3, **full) | {"grants": False, "at": NOW - 0.5}
    write(gateways[1], tenant("tnt_1", sessions=5, requests=[20, 0, 60]), last, head())
    assert read_lanes(tmp_path, NOW).tenants == {"tnt_1": LiveUse(5, 0, 20), "tnt_2": LiveUse(3, 0, 60)}
    write(gateways[0], tenant("tnt_1", sessions=5, requests=[20, 0, 60]), head())
    write(gateways[1], moved, head())
    assert read_lanes(tmp_path, NOW).tenants == {"tnt_1": LiveUse(5, 0, 20)}


def test_a_gateway_that_ended_or_fell_silent_says_nothing(tmp_path: Path, gateways: list[JournalWriter]) -> None:
    write(gateways[0], tenant("tnt_1"), head())
    write(gateways[1], tenant("tnt_1"), head(NOW - 11))
    assert read_lanes(tmp_path, NOW).gateways == 1
    gateways[0].close()
    now = read_lanes(tmp_path, NOW)
    assert (now.gateways, now.tenants) == (0, {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]\n",
        "[" * 100_000 + "\n",
        "\xff\n",
        '{"at":1795000000,"tenants":{},"health":{}}\n',
        '{"line":"head","at":1795000000}\n',
        '{"line":"head","at":"x","health":{}}\n',
        '{"line":"head","at":1795000000,"health":{}}',
        '{"line":"tenant","tenant_id":"t","at":1795000000}\n',
        '{"line":"tenant","tenant_id":"t","at":1,"sessions":"2"}\n{"line":"head","at":1795000000,"health":{}}\n',
        '{"line":"tenant","tenant_id":"t","at":1,"ses\n{"line":"head","at":1795000000,"health":{}}\n',
        "\0\n",
    ],
)
def test_a_file_that_is_not_whole_says_nothing(tmp_path: Path, gateways: list[JournalWriter], text: str) -> None:
    write(gateways[0], text)
    write(gateways[1], head())
    assert read_lanes(tmp_path, NOW).gateways == 1


def test_what_is_written_is_read_back_and_a_last_line_that_is_torn_is_passed_over(
    tmp_path: Path, gateways: list[JournalWriter]
) -> None:
    line = LiveTenant("tnt_1", NOW, 2, 1, LiveBucket(10, 60, 10), None, None, 700, {"month": LiveSpent(9000, 2**60)}, 3)
    health = LiveHealth(["anthropic"], {"acme": None}, journal_works=False)
    path = gateways[0].folder / LIVE_FILE
    file = LiveFile(path)
    file.write(LiveHead(NOW, health), {"tnt_1": encode_line(line)})
    file.close()
    for torn in ("", '{"line":"head","at":17'):
        with path.open("a") as text:
            text.write(torn)
        found, silent = read_live(tmp_path, NOW + 2)
        assert found.told is not None
        assert (found.told.at, found.told.lines, found.told.health) == (NOW, {"tnt_1": line}, health)
        assert (found.run_id, found.age_seconds, found.is_fresh) == (gateways[0].run_id, 2.0, True)
        assert (silent.told, silent.age_seconds, silent.is_fresh) == (None, None, False)
    assert line.use(NOW) == LiveUse(2, 1, 10, None, None, 700, {"month": 9000}, 3)
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_later_version_adds_to_the_record_is_passed_over(tmp_path: Path, gateways: list[JournalWriter]) -> None:
    lines = (
        '{"line":"weather","at":1,"rain":true}',
        '{"line":"tenant","tenant_id":"t","at":1,"sessions":2,"mood":"good"}',
        '{"line":"head","at":1795000000,"health":{"pulse":60},"more":{}}',
    )
    write(gateways[0], "".join(f"{line}\n" for line in lines))
    told = read_live(tmp_path, 1795000000)[0].told
    assert told is not None
    assert (told.at, told.lines["t"].sessions, told.health) == (1795000000, 2, LiveHealth())


@pytest.mark.parametrize("after", ["", '{"line":"head","at":1,"hea', '{"line":"tenant","tenant_id":"t"'])
def test_how_a_gateway_is_does_not_cost_more_with_more_tenants(
    tmp_path: Path, gateways: list[JournalWriter], monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    sick = head(NOW + 1) | {"health": {"upstreams_down": ["up"]}}
    write(gateways[0], head(), *[tenant(f"tnt_{number}") for number in range(5000)], sick, after)
    told = {one.run_id: one.told for one in read_live(tmp_path)}[gateways[0].run_id]
    found = {one.run_id: one.told for one in read_health(tmp_path)}[gateways[0].run_id]
    assert told is not None
    assert found is not None
    assert (found.at, found.health) == (told.at, told.health) == (NOW + 1, LiveHealth(["up"]))
    if not after:
        monkeypatch.setattr(live, "_FILE_BYTES_MAX", 0)  # nothing is found by reading everything
        assert [one.told is not None for one in read_health(tmp_path)].count(True) == 1


def test_a_bucket_fills_and_a_period_ends_though_nothing_is_written() -> None:
    end_us = int((NOW + 60) * 1_000_000)
    line = LiveTenant("tnt_1", NOW, requests=LiveBucket(0.5, 60, 10), spent={"day": LiveSpent(7, end_us)})
    assert line.use(NOW).requests_remaining == 0
    assert line.use(NOW + 1).requests_remaining == 1
    assert line.use(NOW + 59).requests_remaining == 10
    assert line.use(NOW - 5).requests_remaining == 0
    assert line.use(NOW + 59).spent_nanos == {"day": 7}
    assert line.use(NOW + 60).spent_nanos == {"day": 0}
    # At rest it is what a tenant is of whom nothing is told.
    limits = Limits(requests_per_minute=60, request_burst=10)
    assert line.use(NOW + 59).requests_remaining == LiveUse.idle(limits).requests_remaining


def test_only_what_changed_is_added_and_a_file_that_has_grown_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / LIVE_FILE
    file = LiveFile(path)
    many = {f"tnt_{number}": encode_line(LiveTenant(f"tnt_{number}", NOW, 1)) for number in range(10_000)}
    file.write(LiveHead(NOW, LiveHealth()), many)
    whole = path.stat().st_size
    one = {"tnt_7": encode_line(LiveTenant("tnt_7", NOW + 1, 2))}
    file.write(LiveHead(NOW + 1, LiveHealth()), one)
    head_bytes = len(encode_line(LiveHead(NOW + 1, LiveHealth())))
    assert path.stat().st_size - whole == len(one["tnt_7"]) + head_bytes
    inode = path.stat().st_ino
    written = 0
    while path.stat().st_ino == inode:
        file.write(LiveHead(NOW + 2, LiveHealth()), many)
        written += 1
    assert written >= 2
    assert path.stat().st_size <= whole + 10
    file.close()


def test_what_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    path = tmp_path / "folder" / LIVE_FILE
    file = LiveFile(path)
    lines = {"tnt_1": encode_line(LiveTenant("tnt_1", NOW, 1))}
    with pytest.raises(OSError, match="No such file"):
        file.write(LiveHead(NOW, LiveHealth()), lines)
    path.parent.mkdir()
    file.write(LiveHead(NOW, LiveHealth()), {})
    assert b"tnt_1" in path.read_bytes()
    os.close(file._file)  # the disk refuses
    with pytest.raises(OSError, match="descriptor"):
        file.write(LiveHead(NOW, LiveHealth()), {"tnt_2": encode_line(LiveTenant("tnt_2", NOW, 1))})
    file.write(LiveHead(NOW, LiveHealth()), {})
    assert b"tnt_2" in path.read_bytes()
    file.close()


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
