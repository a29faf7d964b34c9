from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tenantry.domain.cells import AmongOthers
from tenantry.gateway.lone import require_alone
from tenantry.storage.cells import CellStore
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
