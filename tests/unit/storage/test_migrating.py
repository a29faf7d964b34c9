"""A store that versions of Tenantry use while a later one changes its schema."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect

from tenantry.storage import schema
from tenantry.storage.database import open_store
from tenantry.storage.in_use import StoreUse
from tenantry.storage.migrating import MigrationBlocked, Waiting, migrate, migrate_in_use
from tenantry.storage.notices import DirectoryNotices
from tenantry.storage.schema import (
    Fit,
    MigrationUndeclared,
    StoreLater,
    StoreOutdated,
    applied_revision,
    known_migrations,
    known_revisions,
    look,
    require_current_schema,
)
from tests import postgresql, releases
from tests.releases import CONTRACT, EXPAND, EXPAND_AGAIN
from tests.template import POSTGRESQL, new_store

Become = Callable[..., None]
# As a gateway or control of the version that stands in `src` does.
_USES = """
import sys
from tenantry.storage import schema
from tenantry.storage.database import open_store
from tenantry.storage.in_use import StoreUse
use = StoreUse(open_store(sys.argv[1]))
print("uses", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path, database: str) -> Iterator[Engine]:
    """Of this version. Its tables are changed, so it is none that other tests use again."""
    if database != POSTGRESQL:
        engine = new_store(tmp_path / "tenantry.db")
        yield engine
        engine.dispose()
        return
    name = f"migrating_{os.getpid()}"
    engine = open_store(postgresql.migrated_database(name))
    yield engine
    engine.dispose()
    postgresql.drop_database(name)


@pytest.fixture
def become(tmp_path: Path) -> Iterator[Become]:
    with releases.becoming(tmp_path) as begin:
        yield begin


@contextmanager
def earlier_process(engine: Engine) -> Iterator[None]:
    """A process that uses the store with the schema of `src`. Returns when it is gone."""
    url = engine.url.set(drivername=engine.dialect.name).render_as_string(hide_password=False)
    command = [sys.executable, "-c", _USES, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "uses\n"
        yield
        process.kill()


def applied(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return applied_revision(connection)


def test_a_version_goes_on_where_a_later_one_has_expanded_the_schema(store: Engine, become: Become) -> None:
    become(EXPAND)
    assert migrate_in_use(store) is None
    assert look(store) is Fit.CURRENT
    become()
    assert look(store) is Fit.LATER
    StoreUse(store).close()  # and one that is started anew begins
    migrate(store)  # `tenantry init` of the version before
    assert applied(store) == "9000"
    with pytest.raises(StoreLater, match="Install that version"):
        require_current_schema(store)


def test_what_a_version_would_not_survive_it_refuses_in_words(store: Engine, become: Become) -> None:
    become(EXPAND, CONTRACT)
    migrate(store)
    become()
    assert look(store) is Fit.TOO_LATE
    for use in (migrate, StoreUse, require_current_schema):
        with pytest.raises(StoreLater, match="of a later version of Tenantry"):
            use(store)


def test_a_gateway_that_comes_back_to_a_schema_it_would_not_survive_is_told(store: Engine, become: Become) -> None:
    if store.dialect.name != POSTGRESQL:
        return  # nobody is away from a file, and a step waits for whoever has it open
    become(EXPAND, CONTRACT)
    migrate(store)
    become()
    with pytest.raises(StoreLater):
        DirectoryNotices(store)


def test_a_step_that_contracts_waits_until_no_earlier_version_uses_the_store(store: Engine, become: Become) -> None:
    with earlier_process(store):
        become(EXPAND, CONTRACT)
        waiting = migrate_in_use(store)
        assert isinstance(waiting, Waiting)
        assert waiting.revision == "9001"
        (user,) = waiting.users
        assert user.startswith("a process on 127.0.0.1 (schema" if store.dialect.name == POSTGRESQL else "process ")
        assert (applied(store), look(store)) == ("9000", Fit.WAITING)
        StoreUse(store).close()  # the later version works without it
        become()
        assert look(store) is Fit.LATER
        become(EXPAND, CONTRACT)
        assert (migrate_in_use(store) or waiting).revision == "9001"  # again changes nothing
        assert applied(store) == "9000"
    assert migrate_in_use(store) is None
    assert (applied(store), look(store)) == ("9001", Fit.CURRENT)
    assert "ix_ceilings_gateway_id" not in {one["name"] for one in inspect(store).get_indexes("ceilings")}


def test_a_version_that_needs_what_comes_behind_such_a_step_says_whom_it_waits_for(
    store: Engine, become: Become
) -> None:
    before = applied(store)
    with earlier_process(store):
        become(EXPAND, CONTRACT, EXPAND_AGAIN)
        with pytest.raises(MigrationBlocked, match="would not survive the step 9001"):
            migrate_in_use(store)
        assert (applied(store), look(store)) == (before, Fit.OUTDATED)
        with pytest.raises(StoreOutdated, match="tenantry init"):
            StoreUse(store)
    assert migrate_in_use(store) is None
    assert look(store) is Fit.CURRENT


def test_a_version_whose_contract_this_one_survives_does_not_keep_it_from_going_on(
    store: Engine, become: Become
) -> None:
    become(EXPAND)
    migrate(store)
    become(EXPAND, CONTRACT)
    assert migrate_in_use(store) is None
    become(EXPAND)  # the version in between, which the step says it is compatible with
    assert look(store) is Fit.LATER
    StoreUse(store).close()


@pytest.mark.sqlite
def test_a_migration_that_does_not_say_what_it_is_is_refused(become: Become) -> None:
    become(EXPAND)
    path = schema.MIGRATIONS / "versions" / EXPAND
    path.write_text(path.read_text().replace('kind = "expand"\n', ""))
    releases.forget()
    assert known_revisions()[0] == "9000"
    with pytest.raises(MigrationUndeclared, match=EXPAND):
        known_migrations()
