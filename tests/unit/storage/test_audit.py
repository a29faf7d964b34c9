"""The audit log: who did what, and that nobody can change it unseen."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update

from tenantry.control.site import Site
from tenantry.storage.audit import HEAD_NAME, hash_of
from tenantry.storage.database import open_store
from tenantry.storage.directory import AlreadyThere, Directory
from tenantry.storage.migrating import migrate
from tenantry.storage.tables import audit_log, meta
from tests.unit.control.declared.sites import copy_site, new_site

TAMPERINGS = 200


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = new_site(tmp_path)
    yield made
    made.engine.dispose()


def fill(directory: Directory) -> None:
    directory.create_tenant("acme", "Acme", "standard")
    directory.add_credential("acme-key", "sk-ant-api03-canary-secret", "anthropic")
    directory.bind_credential("acme", "acme-key")
    key = directory.issue_key("acme", "production")
    directory.replace_secret("acme-key", "sk-ant-api03-canary-rotated")
    directory.revoke_key(key.key_id)
    directory.audit("read.usage", "acme", {})


def test_every_change_says_who_from_where_what_before_and_after(site: Site) -> None:
    fill(site.directory.acting_as("api:admin", "192.0.2.7"))
    entries = {entry.action: entry for entry in site.directory.audit_entries("acme")}
    for entry in entries.values():
        assert (entry.actor, entry.origin, entry.tenant) == ("api:admin", "192.0.2.7", "acme")
    assert entries["key.revoke"].detail["before"] == {"status": "active"}
    assert entries["key.revoke"].detail["after"] == {"status": "revoked"}
    assert entries["credential.bind"].detail["after"] == {"credential": "acme-key"}


def test_no_secret_stands_in_the_audit_log(site: Site) -> None:
    fill(site.directory)
    key = site.directory.issue_key("acme", "another").text
    with site.engine.connect() as connection:
        dump = repr(connection.execute(select(audit_log)).all())
    assert "canary" not in dump
    assert key not in dump


def test_who_reads_no_further_leaves_no_cursor_open(site: Site) -> None:
    """On PostgreSQL it was a cursor of the server's, with a warning when it was collected."""
    fill(site.directory)
    assert next(site.directory.audit_entries("acme")).tenant == "acme"
    gc.collect()


def test_a_reading_is_logged_and_does_not_move_the_directory(site: Site) -> None:
    site.directory.create_tenant("acme", "Acme", "standard")
    before = site.directory.version()
    site.directory.audit("read.usage", "acme", {})
    assert site.directory.version() == before
    assert [entry.action for entry in site.directory.audit_entries("acme")][-1] == "read.usage"


def test_changes_of_one_transaction_stand_together_or_not_at_all(site: Site) -> None:
    before = site.directory.version(), site.directory.verify_audit()

    def make_twice() -> None:
        with site.directory.transaction() as directory:
            directory.create_tenant("acme", "Acme", "standard")
            directory.issue_key("acme", "production")
            directory.create_tenant("acme", "Acme", "standard")

    with pytest.raises(AlreadyThere):
        make_twice()
    assert (site.directory.version(), site.directory.verify_audit()) == before
    assert site.directory.list_tenants() == []
    with site.directory.transaction() as directory:
        directory.create_tenant("acme", "Acme", "standard")
        with directory.transaction() as same:
            same.issue_key("acme", "production")
    assert site.directory.version() == before[0] + 2
    assert site.directory.verify_audit() == (before[1][0] + 2, [])


def test_writers_at_the_same_time_make_one_chain(site: Site) -> None:
    def write(number: int) -> None:
        for one in range(10):
            site.directory.create_tenant(f"t{number}-{one}", "T", "standard")

    version = site.directory.version()
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert site.directory.verify_audit()[1] == []
    assert site.directory.version() == version + 40


def _rows(site: Site) -> list[dict[str, Any]]:
    with site.engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(audit_log).order_by(audit_log.c.audit_id)).mappings()]


def tamper(site: Site, chance: random.Random) -> str:
    """One thing that somebody with the database, and without the master key, could do."""
    rows = _rows(site)
    row = chance.choice(rows)
    here = audit_log.c.audit_id == row["audit_id"]
    kind = chance.choice(["change", "change and hash", "remove", "remove last", "swap", "add", "anew", "head"])
    with site.engine.begin() as connection:
        if kind in ("change", "change and hash"):
            column = chance.choice(["actor", "origin", "action", "object", "tenant", "detail", "prev_hash"])
            row[column] = f"{row[column]}x"[-64:]  # PostgreSQL takes no hash that is longer
            values = {column: row[column]}
            if kind == "change and hash":
                values["row_hash"] = hash_of(row)
            connection.execute(update(audit_log).where(here).values(values))
        elif kind == "remove":
            connection.execute(delete(audit_log).where(here))
        elif kind == "remove last":
            last = [one["audit_id"] for one in rows[-chance.randint(1, 3) :]]
            connection.execute(delete(audit_log).where(audit_log.c.audit_id.in_(last)))
        elif kind == "swap":
            other = chance.choice([one for one in rows if one["audit_id"] != row["audit_id"]])
            for target, source in ((row, other), (other, row)):
                values = {name: value for name, value in source.items() if name != "audit_id"}
                connection.execute(update(audit_log).where(audit_log.c.audit_id == target["audit_id"]).values(values))
        elif kind == "add":
            fresh = rows[-1] | {"audit_id": rows[-1]["audit_id"] + 1, "prev_hash": rows[-1]["row_hash"]}
            fresh["row_hash"] = hash_of(fresh)
            connection.execute(insert(audit_log).values(fresh))
        elif kind == "anew":
            _chain_anew(connection, [one for one in rows if one["audit_id"] != row["audit_id"]], row["audit_id"])
        else:
            connection.execute(update(meta).where(meta.c.name == HEAD_NAME).values(value=f"{rows[0]['row_hash']}:"))
    return kind


def _chain_anew(connection: Any, rows: list[dict[str, Any]], removed: int) -> None:
    """Take a row out and compute every hash again, the kept head included: all but its seal."""
    connection.execute(delete(audit_log).where(audit_log.c.audit_id == removed))
    head = "0" * 64
    for row in rows:
        row["prev_hash"] = head
        head = hash_of(row)
        here = audit_log.c.audit_id == row["audit_id"]
        connection.execute(update(audit_log).where(here).values(prev_hash=row["prev_hash"], row_hash=head))
    kept = connection.execute(select(meta.c.value).where(meta.c.name == HEAD_NAME)).scalar_one()
    seal = kept.partition(":")[2]
    connection.execute(update(meta).where(meta.c.name == HEAD_NAME).values(value=f"{head}:{seal}"))


def test_any_tampering_is_found(site: Site, tmp_path: Path) -> None:
    fill(site.directory)
    assert site.directory.verify_audit()[1] == []
    before = _rows(site)
    with site.engine.connect() as connection:
        head = connection.execute(select(meta.c.value).where(meta.c.name == HEAD_NAME)).scalar_one()
    seen: set[str] = set()
    for seed in range(TAMPERINGS):
        kind = tamper(site, random.Random(seed))
        seen.add(kind)
        assert site.directory.verify_audit()[1], f"seed {seed}: {kind} was not found"
        with site.engine.begin() as connection:
            connection.execute(delete(audit_log))
            connection.execute(insert(audit_log), before)
            connection.execute(update(meta).where(meta.c.name == HEAD_NAME).values(value=head))
    assert len(seen) == 8
    assert site.directory.verify_audit()[1] == []


@pytest.mark.sqlite  # from a schema of before: tests/integration/test_upgrade.py has both databases
def test_a_log_from_before_the_chain_is_chained_by_the_migration_and_sealed_by_init(tmp_path: Path) -> None:
    from alembic import command

    from tenantry.control.init import init_site
    from tenantry.control.site import open_site
    from tenantry.settings import load_settings
    from tenantry.storage import migrating

    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path)})
    engine = open_store(settings.store_url)
    with engine.begin() as connection:
        config = migrating._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        for number in range(3):
            connection.execute(
                text(
                    "INSERT INTO audit_log (at, actor, action, object, detail) "
                    "VALUES ('2026-11-01 10:00:00.000000', 'cli', 'tenant.create', :slug, '{}')"
                ),
                {"slug": f"t{number}"},
            )
    migrate(engine)
    engine.dispose()
    init_site(settings)
    site = open_site(settings)
    count, problems = site.directory.verify_audit()
    assert problems == []
    assert count > 3
    with site.engine.begin() as connection:
        connection.execute(update(audit_log).where(audit_log.c.object == "t1").values(object="t9"))
    assert site.directory.verify_audit()[1]
    site.engine.dispose()


@pytest.mark.sqlite  # of a copy of its file
def test_a_copy_of_a_site_verifies_and_another_master_key_does_not(site: Site, tmp_path: Path) -> None:
    site.engine.dispose()
    copy = copy_site(site, tmp_path / "copy")
    assert copy.directory.verify_audit()[1] == []
    other = new_site(tmp_path / "other")
    stranger = Directory(copy.engine, other.vault, "cli")
    assert "master key" in stranger.verify_audit()[1][-1]
    copy.engine.dispose()
    other.engine.dispose()
