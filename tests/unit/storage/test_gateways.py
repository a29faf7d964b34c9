"""Gateways and cells in the directory: what is asked of them is written and audited in one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tenantry.domain.cells import Component
from tenantry.storage import audit
from tenantry.storage.cells import CellStore
from tenantry.storage.directory import Directory, DirectoryError
from tenantry.storage.directory.gateways import LIVES
from tenantry.storage.leases import Lease
from tenantry.storage.vault import Vault
from tests.template import new_store

HOUR_US = 3_600_000_000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = new_store(tmp_path / "tenantry.db")
    yield engine
    engine.dispose()


def test_a_move_is_asked_for_and_audited_or_neither(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    store, directory = CellStore(engine), Directory(engine, Vault(bytes(32)), "test")
    directory.seed_tiers()
    directory.create_tenant("acme", "Acme", "standard")
    acme = directory.get_tenant("acme").tenant_id
    for name in ("gw-a", "gw-b"):
        store.join(Lease(name, HOUR_US), "", "here", 0)
    assert store.claim("gw-a", acme, Component({acme: "org-1"}, ("org-1",)), 0) is not None

    def fail(_chain: audit.Chain) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(audit.Chain, "flush", fail)
        with pytest.raises(OSError, match="full"):
            directory.move_cell("org-1", "gw-b")
    assert directory.get_cell("org-1").moves_to is None
    assert directory.move_cell("org-1", "gw-b").moves_to == "gw-b"
    assert directory.get_cell("org-1").moves_to == "gw-b"


def test_a_gateway_that_comes_back_meanwhile_is_not_declared_lost(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, directory = CellStore(engine), Directory(engine, Vault(bytes(32)), "test")
    store.join(Lease("gw-a", HOUR_US), "", "here", 0)
    store.end(["gw-a"])
    ended = directory.get_gateway("gw-a")
    store.rejoin(Lease("gw-a", HOUR_US))
    with monkeypatch.context() as patched:
        patched.setattr(Directory, "get_gateway", lambda *_: ended)
        with pytest.raises(DirectoryError, match="lives"):
            directory.forget_gateway("gw-a")
    assert directory.get_gateway("gw-a").state == LIVES
