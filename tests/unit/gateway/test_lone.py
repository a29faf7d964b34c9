from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tenantry.domain.cells import AmongOthers
from tenantry.gateway.lone import require_alone, require_nobody_alone
from tenantry.storage.cells import CellStore
from tenantry.storage.controls import ControlRecord, ControlStore
from tenantry.storage.leases import Lease
from tests.template import new_store


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    found = new_store(tmp_path / "store.db")
    yield found
    found.dispose()


@pytest.fixture
def other(engine: Engine) -> CellStore:
    store = CellStore(engine)
    store.join(Lease("gateway-b-1", 30_000_000), "10.0.0.6:3100", "b", 0)
    return store


def test_nobody_grants_by_itself_beside_a_gateway_of_another_machine(
    engine: Engine, other: CellStore, tmp_path: Path
) -> None:
    with pytest.raises(AmongOthers, match=r"gateway-b-1 of another machine .*`cluster = true`"):
        require_alone(engine, tmp_path)


def test_those_that_have_ended_and_those_of_this_machine_are_in_nobodys_way(
    engine: Engine, other: CellStore, tmp_path: Path
) -> None:
    other.join(Lease("gateway-a-1", 30_000_000), "10.0.0.5:3100", "a", 0)
    (tmp_path / "gateway-a-1").mkdir()
    other.end(["gateway-b-1"])
    require_alone(engine, tmp_path)


@pytest.fixture
def control(engine: Engine) -> ControlStore:
    """That of another machine, which has the journal of a gateway."""
    if engine.dialect.name == "sqlite":
        pytest.skip("whose file no other machine has")
    store = ControlStore(engine)
    store.join(ControlRecord("ctl-b", "b", 1, "10.0.0.6:3200", 0, True, True, False))
    store.renew("ctl-b", ["gateway-b-1"], is_booking=True, at_us=0)
    return store


def test_nobody_grants_as_one_of_several_beside_one_of_another_machine_that_is_by_itself(
    engine: Engine, control: ControlStore, tmp_path: Path
) -> None:
    with pytest.raises(AmongOthers, match=r"gateway-b-1 of the machine b grants by itself .*`cluster = true`"):
        asyncio.run(require_nobody_alone(engine, tmp_path, 0.0))
    (tmp_path / "gateway-b-1").mkdir()  # it is this machine's, and is replaced
    asyncio.run(require_nobody_alone(engine, tmp_path, 0.0))


def test_one_of_several_waits_for_one_that_is_just_becoming_that(
    engine: Engine, control: ControlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, looked = ControlStore.list_lone_machines, threading.Event()

    def look(store: ControlStore) -> list[tuple[str, str]]:
        found = real(store)
        if not looked.is_set():
            looked.set()
            CellStore(engine).join(Lease("gateway-b-1", 30_000_000), "10.0.0.6:3100", "b", 0)
        return found

    monkeypatch.setattr(ControlStore, "list_lone_machines", look)
    asyncio.run(require_nobody_alone(engine, tmp_path))
    assert looked.is_set()
