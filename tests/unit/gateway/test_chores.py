"""What a gateway does by the clock keeps its pace, however long one round of it takes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tenantry.domain.directory import Change, Snapshot
from tenantry.gateway import chores
from tenantry.gateway.chores import DIRECTORY_POLL_SECONDS, follow_directory
from tenantry.gateway.process import GatewayProcess
from tenantry.storage.snapshot import DirectoryWatch, SnapshotLoader
from tests.template import new_store


class Stop(Exception):
    """Enough was seen."""


def test_a_change_that_comes_while_another_is_read_waits_no_longer_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time, slept, took = [100.0], [], [0.25, 0.04, 0.0]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 3:
            raise Stop
        time[0] += seconds

    def follow() -> Change:
        time[0] += took.pop(0)
        return Change(Snapshot(1, {}, {}), frozenset(), frozenset())

    gateway: Any = SimpleNamespace(
        parts=SimpleNamespace(
            clock=SimpleNamespace(now=lambda: time[0]), population=SimpleNamespace(connections={"a client"})
        ),
        applying=lambda change: (),
        live=SimpleNamespace(directory_fault=""),
    )
    watch, loader = SimpleNamespace(changed=lambda: True), SimpleNamespace(follow=follow)
    engine, book = new_store(tmp_path / "x.db"), SimpleNamespace(read=lambda: None)
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
    assert slept == pytest.approx([DIRECTORY_POLL_SECONDS, 0.0, DIRECTORY_POLL_SECONDS - 0.04, DIRECTORY_POLL_SECONDS])
