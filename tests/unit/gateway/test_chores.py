"""What a gateway does by the clock: at its pace, however long one round takes, and wholly, whatever of it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy.exc import OperationalError

from tenantry.domain.directory import Change, Snapshot
from tenantry.domain.price_terms import BadPriceTable
from tenantry.gateway import chores
from tenantry.gateway.chores import DIRECTORY_POLL_SECONDS, follow_directory
from tenantry.gateway.process import GatewayProcess
from tenantry.storage.snapshot import DirectoryWatch, SnapshotLoader
from tests.template import new_store

NO_CHANGE = Change(Snapshot(1, {}, {}), frozenset(), frozenset())


class Stop(Exception):
    """Enough was seen."""


def follow_three_rounds(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    time: list[float],
    follow: Callable[[], Change],
    read_prices: Callable[[], None],
    corrected: list[tuple[Any, ...]],
    live: Any = None,
) -> list[float]:
    """Look at the directory three times, in which something has changed each time. How long was slept between."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 3:
            raise Stop
        time[0] += seconds

    gateway: Any = SimpleNamespace(
        parts=SimpleNamespace(
            clock=SimpleNamespace(now=lambda: time[0]),
            population=SimpleNamespace(connections={"a client"}),
            till=SimpleNamespace(entry_id=0, opened_entries=dict[str, int]),
        ),
        applying=lambda change: (),
        correct=lambda *told: corrected.append(told),
        live=SimpleNamespace(directory_fault="", tell_closed=lambda closed: None) if live is None else live,
    )
    watch = SimpleNamespace(changed=lambda: True, forget=lambda: None)
    loader, book = SimpleNamespace(follow=follow, closed=[]), SimpleNamespace(read=read_prices)
    engine = new_store(tmp_path / "x.db")
    monkeypatch.setattr(chores, "asyncio", SimpleNamespace(sleep=sleep, to_thread=asyncio.to_thread))
    following = follow_directory(
        cast(DirectoryWatch, watch),
        cast(SnapshotLoader, loader),
        cast(GatewayProcess, gateway),
        engine,
        0,
        cast(Any, book),
    )
    with pytest.raises(Stop):
        asyncio.run(following)
    engine.dispose()
    return slept


def test_a_change_that_comes_while_another_is_read_waits_no_longer_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time, took = [100.0], [0.25, 0.04, 0.0]

    def follow() -> Change:
        time[0] += took.pop(0)
        return NO_CHANGE

    slept = follow_three_rounds(tmp_path, monkeypatch, time, follow, lambda: None, [])
    assert slept == pytest.approx([DIRECTORY_POLL_SECONDS, 0.0, DIRECTORY_POLL_SECONDS - 0.04, DIRECTORY_POLL_SECONDS])


def test_a_correction_that_was_read_is_counted_where_the_prices_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    booked = ("tnt_1", "key_1", 1_000_000, -500)

    def adjustments_since(_engine: object, entry_id: int, _opened: object) -> tuple[int, list[tuple[Any, ...]]]:
        return 7, [booked] if entry_id < 7 else []

    def read_prices() -> None:
        raise BadPriceTable("a change cannot be read")

    monkeypatch.setattr(chores, "adjustments_since", adjustments_since)
    corrected: list[tuple[Any, ...]] = []
    follow_three_rounds(tmp_path, monkeypatch, [100.0], lambda: NO_CHANGE, read_prices, corrected)
    assert corrected == [booked]


def test_a_store_that_is_away_is_one_line_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def follow() -> Change:
        raise OperationalError("SELECT 1", None, Exception("connection refused\nIs the server running?"))

    live = SimpleNamespace()
    follow_three_rounds(tmp_path, monkeypatch, [100.0], follow, lambda: None, [], live)
    assert live.directory_fault == "OperationalError: (builtins.Exception) connection refused"
    assert [(record.levelname, bool(record.exc_info)) for record in caplog.records] == [("ERROR", False)]
    assert caplog.messages[0].endswith("stays in force: (builtins.Exception) connection refused")


def test_a_fault_of_ours_is_shown_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    follow_three_rounds(tmp_path, monkeypatch, [100.0], lambda: cast(Change, 1 // 0), lambda: None, [])
    assert [bool(record.exc_info) for record in caplog.records] == [True]
