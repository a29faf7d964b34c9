"""What PostgreSQL alone has: notices, locks, COPY, and a connection that has died."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from tenantry.storage.database import open_store
from tenantry.storage.many import ManyRows
from tenantry.storage.server import DriverMissing, Lock, take_turn
from tenantry.storage.snapshot import DirectoryWatch
from tenantry.storage.tables import meta
from tenantry.storage.versions import CHANNEL, VERSION_NAME, move_version, tenant_touched
from tests import postgresql
from tests.stack import wait_for

pytestmark = pytest.mark.skipif(postgresql.binaries() is None, reason="PostgreSQL is not installed")


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = open_store(postgresql.DATABASES.take())
    yield made
    made.dispose()


def move(engine: Engine, tenant: str = "tnt_1") -> None:
    with engine.begin() as connection:
        move_version(connection, 1, tenant_touched(tenant))


def test_a_change_of_the_directory_is_told_and_told_once(engine: Engine) -> None:
    watch = DirectoryWatch(engine)
    assert not watch.changed()
    move(engine)
    wait_for(watch.changed, what="the change being told")
    assert not watch.changed()
    watch.forget()
    assert watch.changed()
    watch.close()


def test_what_moves_nothing_wakes_nobody(engine: Engine) -> None:
    watch = DirectoryWatch(engine)
    with engine.begin() as connection:
        connection.execute(text(f"NOTIFY {CHANNEL}"))
    move(engine)
    wait_for(watch.changed, what="the change being told")  # what was told before it has been looked at, too
    assert not watch.changed()
    watch.close()


def test_a_change_whose_notice_is_lost_is_found_by_asking(engine: Engine) -> None:
    move(engine)
    watch = DirectoryWatch(engine)
    with engine.begin() as connection:  # as behind a pooler: the version moves, and nobody is told
        connection.execute(meta.update().where(meta.c.name == VERSION_NAME).values(value="99"))
    wait_for(watch.changed, what="the change being found")
    watch.close()


def test_a_connection_that_is_cut_is_told_as_a_fault_and_made_again(engine: Engine) -> None:
    watch = DirectoryWatch(engine)
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        )
    faults: list[Exception] = []

    def fault() -> bool:
        try:
            watch.changed()
        except OperationalError as error:
            faults.append(error)
        return bool(faults)

    move(engine)
    wait_for(fault, what="the cut being told")
    watch.forget()
    move(engine, "tnt_2")
    wait_for(watch.changed, what="the next change being told")
    watch.close()


def test_rows_get_their_numbers_in_the_order_of_their_commits(engine: Engine) -> None:
    """The second waits for the first: who reads up to a number has read all that are smaller."""
    begun, order = threading.Event(), list[str]()

    def second() -> None:
        begun.wait()
        with engine.begin() as connection:
            take_turn(connection, Lock.BOOKING)
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with engine.begin() as connection:
        take_turn(connection, Lock.BOOKING)
        begun.set()
        with engine.connect() as looking:
            waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            wait_for(lambda: looking.execute(waiting).scalar(), what="the second one waiting")
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_lock_that_is_never_let_go_is_an_error_and_no_standstill(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as connection, engine.connect() as other:
        take_turn(connection, Lock.BOOKING)
        other.execute(text("SET lock_timeout = 20"))
        with pytest.raises(OperationalError, match="lock timeout"):
            take_turn(other, Lock.BOOKING)


@pytest.mark.parametrize(
    ("rows", "error"), [([("a", "1"), ("a", "2")], IntegrityError), ([("a", "\0")], DataError)], ids=["twice", "NUL"]
)
def test_copied_rows_are_refused_as_inserted_ones_are(
    engine: Engine, rows: list[tuple[str, str]], error: type[Exception]
) -> None:
    many = ManyRows(engine.dialect, insert(meta), ("name", "value"), may_copy=True)
    with pytest.raises(error), engine.begin() as connection:
        many.execute(connection, rows)
    with engine.begin() as connection:
        many.execute(connection, [("a", "tab\there\n\\N"), ("b", "ä")])
    with engine.connect() as connection:
        found = dict(connection.execute(select(meta.c.name, meta.c.value)).all())
    assert (found["a"], found["b"]) == ("tab\there\n\\N", "ä")


def test_a_server_that_was_restarted_is_found_again_by_who_asks(engine: Engine) -> None:
    with engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    with postgresql.as_admin() as admin, admin.connect() as connection:
        connection.execute(text(f"SELECT pg_terminate_backend({pid})"))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar() != pid


def test_the_password_is_in_no_error_and_on_no_command_line(tmp_path: Path) -> None:
    engine = open_store(f"postgresql://{postgresql.GUARDED}@127.0.0.1:{postgresql.port()}/x", password="hunter2")
    with pytest.raises(OperationalError) as caught:
        engine.connect()
    assert "hunter2" not in str(caught.value) + repr(engine) + str(engine.url)


def test_times_come_back_in_utc(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.execute(text("SHOW timezone")).scalar() == "UTC"
        found = connection.execute(text("SELECT now()")).scalar_one()
    assert not found.utcoffset()


def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DriverMissing, match=r"pip install 'tenantry\[postgres\]'"):
        open_store("postgresql://tenantry@127.0.0.1/tenantry")
