"""Backup of a site on PostgreSQL, whose role has a password, and its way back."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from tenantry.control.backup import BackupFailed, RestoreRefused, back_up, check_backup, restore
from tenantry.control.init import init_site
from tenantry.control.site import Site, open_site
from tenantry.ledger.booking import Drain
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.verification import verify
from tenantry.settings import load_settings
from tenantry.storage.database import open_store
from tests import postgresql
from tests.template import init_from_template
from tests.unit.ledger.books import PRICES, attempt, book, rows

pytestmark = [
    pytest.mark.sqlite,  # which makes no store of its own here
    pytest.mark.skipif(postgresql.binaries() is None, reason="PostgreSQL is not installed"),
]
PASSWORD = "it's a:\\secret"
BOOKED = ["att_1", "att_2", "att_3"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Two booked attempts, and one in the journal."""
    name = f"site_{os.getpid()}"
    url = postgresql.guarded_database(name, PASSWORD.replace("'", "''"))
    environ = {"TENANTRY_DATA_DIR": str(tmp_path / "data"), "TENANTRY_STORE_URL": url}
    settings = load_settings(None, environ | {"TENANTRY_STORE_PASSWORD": PASSWORD})
    init_site(settings)
    made = open_site(settings)
    book(made.engine, settings.data_dir, [attempt(1), attempt(2)])
    writer = JournalWriter(settings.journal_dir, "gateway")
    begun, end = attempt(3)
    writer.begin(begun)
    writer.end(end)
    writer.flush()
    writer.close()
    yield made
    made.engine.dispose()
    postgresql.drop_database(name)


def booked(site: Site) -> list[str]:
    Drain(site.engine, site.settings.journal_dir, PRICES).step()
    assert verify(site.engine).fault_count == 0
    return sorted(row["attempt_id"] for row in rows(site.engine))


def schemas(site: Site) -> set[str]:
    return {name for name in inspect(site.engine).get_schema_names() if name.startswith("replaced_")}


def test_a_site_comes_back_with_what_was_booked_and_what_was_not_yet(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    back_up(site, file, with_master_key=True)
    with tarfile.open(file) as archive:
        held = {name.partition("/")[0] for name in archive.getnames()}
    assert held == {"manifest.json", "master.key", "journal", "tenantry.dump"}
    with site.engine.begin() as connection:
        connection.execute(text("DELETE FROM tiers"))
    assert check_backup(site.settings, file).verified.rows == 2
    assert booked(site) == BOOKED
    with pytest.raises(RestoreRefused, match="--yes"):
        restore(site.settings, file, replace=False)
    done = restore(site.settings, file, replace=True)
    assert (done.verified.rows, {done.schema_aside}) == (2, schemas(site))
    assert done.aside is not None
    assert not list(site.settings.data_dir.glob(".part-*"))
    assert booked(site) == BOOKED
    assert site.directory.get_tier("standard")
    back_up(site, tmp_path / "second.tar", with_master_key=False)
    assert (tmp_path / "second.tar").stat().st_size < file.stat().st_size * 2  # without what is aside


def test_what_fails_on_the_way_leaves_the_site_as_it_was(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE ledger SET cost_nanos = cost_nanos + 1 WHERE attempt_id = 'att_1'"))
    back_up(site, file, with_master_key=False)
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE ledger SET cost_nanos = cost_nanos - 1 WHERE attempt_id = 'att_1'"))
    for call in (lambda: check_backup(site.settings, file), lambda: restore(site.settings, file, replace=True)):
        with pytest.raises(RestoreRefused, match="faults"):
            call()
        assert not schemas(site)
    assert booked(site) == BOOKED


def test_a_backup_of_the_other_kind_is_named_and_refused(site: Site, tmp_path: Path) -> None:
    other = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path / "other")})
    init_from_template(other)
    small = open_site(other)
    back_up(small, tmp_path / "sqlite.tar", with_master_key=False)
    back_up(site, tmp_path / "server.tar", with_master_key=False)
    small.engine.dispose()
    with pytest.raises(RestoreRefused, match="a site on SQLite, and store_url here names PostgreSQL"):
        restore(site.settings, tmp_path / "sqlite.tar", replace=True)
    with pytest.raises(RestoreRefused, match="a site on PostgreSQL, and store_url here names SQLite"):
        restore(other, tmp_path / "server.tar", replace=True)
    assert booked(site) == BOOKED


def test_without_the_programs_of_postgresql_it_says_what_to_install(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupFailed, match="there is no pg_dump here: `apt-get install postgresql-client`"):
        back_up(site, tmp_path / "b.tar", with_master_key=False)
    assert not (tmp_path / "b.tar").exists()


def test_the_password_is_on_no_command_line_and_in_no_error(site: Site, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    tool = tools / "pg_dump"
    tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/words\necho no such thing >&2\nexit 1\n')
    tool.chmod(0o700)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{tools}:{before}"
    try:
        with pytest.raises(BackupFailed, match="pg_dump failed: no such thing") as caught:
            back_up(site, tmp_path / "b.tar", with_master_key=False)
    finally:
        os.environ["PATH"] = before
    assert "secret" not in str(caught.value) + (tmp_path / "words").read_text()
    wrong = replace(site.settings, store_password="not-this-one")
    with pytest.raises(Exception, match="password authentication failed") as refused:
        open_store(wrong.store_url, password=wrong.store_password).connect()
    assert "not-this-one" not in str(refused.value)
