"""What `doctor` says of a PostgreSQL server, and how to mend it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tenantry.control import server_check
from tenantry.control.findings import Finding
from tenantry.control.server_check import check_server
from tenantry.storage.database import open_store
from tests import postgresql

pytestmark = [
    pytest.mark.sqlite,  # which has no server
    pytest.mark.skipif(postgresql.binaries() is None, reason="PostgreSQL is not installed"),
]


@pytest.fixture
def guarded() -> Iterator[Engine]:
    name = f"checked_{os.getpid()}"
    made = open_store(postgresql.guarded_database(name, "of-a-test"), password="of-a-test")
    yield made
    made.dispose()
    postgresql.drop_database(name)


def checked(engine: Engine) -> dict[str, Finding]:
    return {one.check: one for one in check_server(engine)}


def test_a_role_that_owns_its_database_is_enough(guarded: Engine) -> None:
    found = checked(guarded)
    assert [name for name, one in found.items() if not one.ok] == ["database commits"]  # the tests' own sync nothing
    assert "fsync" in found["database commits"].found
    assert found["database rights"].found.startswith("guarded owns checked_")


def test_tables_of_another_role_are_told(guarded: Engine) -> None:
    with postgresql.as_admin(str(guarded.url.database)) as engine, engine.connect() as connection:
        connection.execute(text("CREATE TABLE anothers (one int)"))
    found = checked(guarded)["database rights"]
    assert not found.ok
    assert "1 tables are another's" in found.found
    assert "REASSIGN OWNED BY" in found.mend


def test_a_server_that_is_too_old_is_told(guarded: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_check, "SERVER_VERSION_MIN", 990_000)
    found = checked(guarded)["database server"]
    assert not found.ok
    assert found.mend.startswith("a server of version 99 or later")


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("pg_dump (PostgreSQL) 9.6.24", "older than the server"),
        ("no version", "older than the server"),
        (None, "find no pg_dump and pg_restore here"),
    ],
)
def test_programs_that_no_backup_can_be_made_with_are_told(
    guarded: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, found: str
) -> None:
    for name in ("pg_dump", "pg_restore") if said is not None else ():
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / name).chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    told = checked(guarded)["pg_dump"]
    assert not told.ok
    assert found in told.found
    assert "apt-get install postgresql-client" in told.mend


def test_a_database_that_cannot_write_every_text_is_told(guarded: Engine) -> None:
    name = f"latin_{os.getpid()}"
    with postgresql.as_admin() as admin, admin.connect() as connection:
        connection.execute(
            text(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' OWNER guarded")
        )
    engine = open_store(guarded.url.set(database=name, password=None).render_as_string(), password="of-a-test")
    try:
        found = checked(engine)["database encoding"]
    finally:
        engine.dispose()
        postgresql.drop_database(name)
    assert (found.ok, found.found) == (False, "is LATIN1: not every text can be written")
    assert "database encoding" not in checked(guarded)
