"""A store of an older version, with a site in it, brought up to date."""

import json
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Engine, MetaData, Table, insert, select, text

from tenantry.domain.directory import TenantStatus
from tenantry.domain.limits import Limits
from tenantry.domain.plans import Terms
from tenantry.storage.custody import settle_seals
from tenantry.storage.database import open_store
from tenantry.storage.directory import Directory
from tenantry.storage.migrating import migrate
from tenantry.storage.schema import Fit, look
from tenantry.storage.snapshot import SnapshotLoader
from tenantry.storage.tables import metadata
from tenantry.storage.vault import Vault
from tests import postgresql
from tests.template import POSTGRESQL, SQLITE

AT = "2026-10-01 12:00:00.000000"
VAULT = Vault(bytes(32))
KEY = "sk-proxy-acme-DUMMY"


@pytest.fixture(params=[SQLITE, POSTGRESQL])
def engine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An empty store of each kind."""
    if request.param == SQLITE:
        made = open_store(f"sqlite:///{tmp_path / 'tenantry.db'}")
        yield made
        made.dispose()
        return
    if postgresql.binaries() is None:
        pytest.skip("PostgreSQL is not installed")
    name = f"empty_{os.getpid()}"
    made = open_store(postgresql.new_database(name))
    yield made
    made.dispose()
    postgresql.drop_database(name)


@pytest.fixture
def old_store(engine: Engine) -> Engine:
    """The first schema, with tiers, an upstream, a credential, a tenant and a key."""
    migrate(engine, "0001")
    sealed = VAULT.seal("sandbox-canary-old", "crd_1")
    rows: dict[str, list[dict[str, Any]]] = {
        "meta": [{"name": "directory_version", "value": "7"}],
        "tiers": [
            {"name": "standard", "sessions_max": 5, "created_at": AT},
            {"name": "gold", "sessions_max": 33, "created_at": AT},
        ],
        "upstreams": [{"upstream_id": "ups_1", "name": "anthropic", "base_url": "https://a.example", "created_at": AT}],
        "credentials": [
            {
                "credential_id": "crd_1",
                "name": "acme",
                "upstream_id": "ups_1",
                "shared": False,
                "fingerprint": VAULT.fingerprint("sandbox-canary-old"),
                "master_key_id": sealed.master_key_id,
                "wrapped_key": sealed.wrapped_key,
                "ciphertext": sealed.ciphertext,
                "hint": "...-old",
                "created_at": AT,
            }
        ],
        "tenants": [
            {
                "tenant_id": "tnt_1",
                "slug": "acme",
                "name": "Acme GmbH",
                "status": "active",
                "tier": "gold",
                "credential_id": "crd_1",
                "user_profile_id": "uprof_1",
                "created_at": AT,
            },
            {
                "tenant_id": "tnt_2",
                "slug": "idle",
                "name": "Idle",
                "status": "disabled",
                "tier": "standard",
                "created_at": AT,
            },
        ],
        "gateway_keys": [
            {
                "key_id": "key_1",
                "tenant_id": "tnt_1",
                "label": "first",
                "digest": b"digest",
                "hint": "...UMMY",
                "status": "active",
                "created_at": AT,
            }
        ],
    }
    for name, values in rows.items():
        for row in values:
            _insert(engine, name, row)
    return engine


def _insert(engine: Engine, table: str, row: dict[str, Any]) -> None:
    """Columns without a type: values go in as they stand, for the classes of that time are gone."""
    with engine.begin() as connection:
        connection.execute(insert(Table(table, MetaData(), *[Column(column) for column in row])).values(row))


def test_everything_is_kept(old_store: Engine) -> None:
    migrate(old_store)
    assert look(old_store) is Fit.CURRENT
    settle_seals(old_store, VAULT)
    snapshot = SnapshotLoader(old_store, VAULT).load()
    acme, idle = snapshot.tenants["tnt_1"], snapshot.tenants["tnt_2"]
    assert (acme.slug, acme.name, acme.tier, acme.user_profile_id) == ("acme", "Acme GmbH", "gold", "uprof_1")
    assert acme.limits == Limits(sessions_max=33)
    assert acme.credential is not None
    assert acme.credential.secret == "sandbox-canary-old"
    assert acme.credential.upstream.base_url == "https://a.example"
    assert (acme.credential.upstream.connect_seconds, acme.credential.upstream.answer_seconds) == (5, 600)
    assert (idle.status, idle.limits.sessions_max, idle.credential) == (TenantStatus.DISABLED, 5, None)
    assert snapshot.keys[b"digest"].tenant_id == "tnt_1"
    assert snapshot.keys[b"digest"].limits is None
    assert snapshot.version == 7


def test_a_store_that_was_brought_up_to_date_can_be_changed(old_store: Engine) -> None:
    migrate(old_store)
    settle_seals(old_store, VAULT)
    directory = Directory(old_store, VAULT, "test")
    directory.set_tier("gold", {"requests_per_minute": 90})
    assert directory.get_tier("gold").limits == Limits(sessions_max=33, requests_per_minute=90)
    assert directory.issue_key("acme", "second").key_id in {row.key_id for row in directory.list_keys("acme")}
    if old_store.dialect.name == SQLITE:
        with old_store.connect() as connection:
            assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_a_plan_counts_from_its_beginning_and_a_tenants_plan_from_when_it_was_made(tmp_path: Path) -> None:
    engine = open_store(f"sqlite:///{tmp_path / 'older.db'}")
    migrate(engine, "0013")
    made = {"declared": False, "created_at": "2026-03-05 12:00:00.000000"}
    acme = {"tenant_id": "tnt_1", "slug": "acme", "name": "Acme", "status": "active", "tier": "standard"}
    _insert(engine, "tiers", {"name": "standard", "limits": "{}", **made})
    _insert(engine, "plans", {"name": "studio", "terms": '{"fee_nanos": 7, "slots": 5}', **made})
    _insert(engine, "tenants", {**acme, "limits": "{}", "plan": "studio", **made})
    migrate(engine)
    directory = Directory(engine, VAULT, "test")
    assert directory.list_plans() == {"studio": Terms(fee_nanos=7, slots=5)}
    (version,) = directory.list_plan_versions("studio")
    assert (version.from_day, version.actor) == (None, "migration")
    (assigned,) = directory.list_tenant_plans("tnt_1")
    assert (assigned.plan, assigned.from_day) == ("studio", date(2026, 3, 5))
    engine.dispose()


def test_again_changes_nothing(old_store: Engine) -> None:
    migrate(old_store)
    before = _dump(old_store)
    migrate(old_store)
    assert _dump(old_store) == before


def test_the_migrations_and_the_tables_are_the_same(old_store: Engine) -> None:
    migrate(old_store)
    with old_store.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_an_upgrade_that_fails_half_way_leaves_the_store_as_it_was(
    old_store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _dump(old_store)
    upgrade = command.upgrade

    def stop_after(config: Any, _revision: str) -> None:
        upgrade(config, "0002")
        raise OSError("the disk is full")

    monkeypatch.setattr(command, "upgrade", stop_after)
    with pytest.raises(OSError, match="disk"):
        migrate(old_store)
    monkeypatch.undo()
    assert _dump(old_store) == before
    migrate(old_store)
    assert look(old_store) is Fit.CURRENT


_SHAPE = {
    SQLITE: "SELECT name, sql FROM sqlite_master ORDER BY name",
    POSTGRESQL: "SELECT table_name, column_name, data_type, column_default FROM information_schema.columns "
    "WHERE table_schema = 'public' UNION ALL SELECT tablename, indexname, indexdef, '' FROM pg_indexes "
    "WHERE schemaname = 'public' ORDER BY 1, 2",
}


def _dump(engine: Engine) -> str:
    """Every table with its rows."""
    found = MetaData()
    with engine.connect() as connection:
        found.reflect(connection)
        rows = {
            name: [[str(cell) for cell in row] for row in connection.execute(select(table))]
            for name, table in found.tables.items()
        }
        shape = [str(row) for row in connection.execute(text(_SHAPE[engine.dialect.name])).all()]
    return json.dumps([shape, rows], sort_keys=True)
