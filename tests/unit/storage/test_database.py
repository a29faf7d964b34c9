"""A store whose file is deleted or replaced under it is used no more."""

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, select, text

from tenantry.domain.prices import load_default_prices
from tenantry.ledger.booking import Drain
from tenantry.ledger.journal import JournalWriter
from tenantry.storage.database import StoreMissing, StoreReplaced, open_store
from tenantry.storage.migrating import migrate
from tenantry.storage.schema import MIGRATIONS, StoreLater, known_revisions, require_current_schema
from tenantry.storage.snapshot import DirectoryWatch
from tenantry.storage.tables import ledger
from tests.template import new_store
from tests.unit.ledger.books import attempt


def delete(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def make_anew(path: Path) -> None:
    delete(path)
    new_store(path).dispose()


def move_over(path: Path) -> None:
    other = path.with_name("other.db")
    new_store(other).dispose()
    other.replace(path)
    for end in ("-wal", "-shm"):  # they belong to the one before (sqlite.org/howtocorrupt.html, 1.4)
        path.with_name(path.name + end).unlink(missing_ok=True)


CHANGES: dict[str, Callable[[Path], None]] = {"deleted": delete, "made anew": make_anew, "moved over": move_over}


def rows(engine: Engine) -> int:
    with engine.connect() as connection:
        return len(list(connection.execute(select(ledger.c.entry_id))))


@pytest.mark.sqlite
@pytest.mark.parametrize("how", CHANGES)
def test_nothing_is_booked_into_a_file_that_lost_its_name(tmp_path: Path, how: str) -> None:
    path = tmp_path / "tenantry.db"
    engine = new_store(path)
    drain = Drain(engine, tmp_path / "journal", load_default_prices())
    writer = JournalWriter(tmp_path / "journal", "gateway")
    writer.begin(attempt(1)[0])
    writer.end(attempt(1)[1])
    writer.flush()
    assert drain.step() == 1
    CHANGES[how](path)
    writer.begin(attempt(2)[0])
    writer.end(attempt(2)[1])
    writer.close()  # its folder would go with the booking
    for _ in range(3):
        with pytest.raises(StoreReplaced, match="deleted or replaced while it was in use"):
            drain.step()
        drain.forget()
    assert list((tmp_path / "journal").iterdir()) == [writer.folder]
    assert path.exists() is (how != "deleted")  # and none is made
    engine.dispose()
    if how != "deleted":  # after a restart the file that is there is the store
        engine = open_store(f"sqlite:///{path}")
        assert Drain(engine, tmp_path / "journal", load_default_prices()).step() == 2
        assert rows(engine) == 2
        engine.dispose()


@pytest.mark.sqlite
@pytest.mark.parametrize("how", CHANGES)
def test_a_gateway_does_not_follow_a_file_that_lost_its_name(tmp_path: Path, how: str) -> None:
    path = tmp_path / "tenantry.db"
    engine = new_store(path)
    watch = DirectoryWatch(engine)
    assert not watch.changed()
    CHANGES[how](path)
    for _ in range(2):
        with pytest.raises(StoreReplaced):
            watch.changed()
        watch.forget()
    watch.close()
    engine.dispose()


@pytest.mark.sqlite
def test_a_file_that_comes_back_under_its_name_too_late_is_not_taken_up_without_a_restart(tmp_path: Path) -> None:
    path, away = tmp_path / "tenantry.db", tmp_path / "away.db"
    engine = new_store(path)
    assert rows(engine) == 0
    path.rename(away)
    with pytest.raises(StoreReplaced):
        rows(engine)
    away.rename(path)
    with pytest.raises(StoreReplaced):
        rows(engine)
    engine.dispose()


@pytest.mark.sqlite
def test_what_is_written_to_the_file_itself_is_no_replacement(tmp_path: Path) -> None:
    path = tmp_path / "tenantry.db"
    engine, other = new_store(path), open_store(f"sqlite:///{path}")
    watch = DirectoryWatch(engine)
    with other.begin() as connection:
        connection.execute(text("INSERT INTO meta (name, value) VALUES ('directory_version', '7')"))
    with other.connect() as connection:
        connection.execute(text("VACUUM"))
    assert watch.changed()
    assert not watch.changed()
    watch.close()
    engine.dispose()
    other.dispose()


@pytest.mark.sqlite
def test_a_database_that_is_missing_is_not_made_where_one_must_be(tmp_path: Path) -> None:
    path = tmp_path / "tenantry.db"
    with pytest.raises(StoreMissing, match="tenantry restore"):
        open_store(f"sqlite:///{path}", must_exist=True)
    assert not path.exists()


def test_a_database_of_a_later_version_is_not_migrated_and_says_so(tmp_path: Path) -> None:
    engine = new_store(tmp_path / "tenantry.db")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(text("DELETE FROM meta WHERE name = 'schema_compatible_from'"))
    for use in (migrate, require_current_schema):
        with pytest.raises(StoreLater, match="later version"):
            use(engine)
    engine.dispose()


def test_the_revisions_that_are_known_are_those_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert known_revisions() == [one.revision for one in ScriptDirectory.from_config(config).walk_revisions()]
