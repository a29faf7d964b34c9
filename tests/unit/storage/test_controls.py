"""Control processes that share a PostgreSQL: who lives, who leads, and what is taken from who was stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, insert, select, text, update
from sqlalchemy.exc import OperationalError

from tenantry.storage.cell_tables import gateways
from tenantry.storage.columns import now_utc
from tenantry.storage.control_tables import controls, leaders
from tenantry.storage.controls import ControlRecord, ControlStore, Renewal
from tenantry.storage.database import open_store
from tenantry.storage.server import Lock, copy_rows, end_frozen, take_turn
from tenantry.storage.tables import journals
from tests import postgresql
from tests.stack import wait_for

# Each takes a server's database for itself: no test here is to be run on two stores.
pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.skipif(postgresql.binaries() is None, reason="PostgreSQL is not installed"),
]


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = open_store(postgresql.DATABASES.take())
    yield made
    made.dispose()
    postgresql.DATABASES.give_back()


@pytest.fixture
def store(engine: Engine) -> ControlStore:
    made = ControlStore(engine)
    for number, machine in enumerate(("web-1", "web-1", "web-2")):
        made.join(
            ControlRecord(f"ctl_{number}", machine, 100 + number, "http://localhost:1", number, True, False, False)
        )
    return made


def renew(store: ControlStore, number: int, *runs: str, is_booking: bool = True) -> Renewal | None:
    return store.renew(f"ctl_{number}", runs, is_booking=is_booking, at_us=1)


def lapse(engine: Engine, number: int) -> None:
    """Its lease has run out."""
    with engine.begin() as connection:
        connection.execute(update(controls).where(controls.c.control_id == f"ctl_{number}").values(lease_until_us=0))


def test_the_first_that_books_leads_and_all_know_how_many_live(store: ControlStore) -> None:
    assert renew(store, 1, is_booking=False) == Renewal(False, 3)
    assert renew(store, 0) == Renewal(True, 3)
    assert renew(store, 2) == Renewal(False, 3)
    assert renew(store, 0) == Renewal(True, 3)
    told = {one.control_id: (one.is_booking, one.is_leading) for one in store.list_controls()}
    assert told == {"ctl_0": (True, True), "ctl_1": (False, False), "ctl_2": (True, False)}


def test_another_leads_once_the_lease_of_the_leader_has_run_out_and_it_does_not_when_it_wakes(
    engine: Engine, store: ControlStore
) -> None:
    assert renew(store, 0) == Renewal(True, 3)
    lapse(engine, 0)
    assert renew(store, 2) == Renewal(True, 2)
    assert renew(store, 0) == Renewal(False, 3)
    assert [one.control_id for one in store.list_controls() if one.is_leading] == ["ctl_2"]


def test_a_leader_that_nobody_followed_leads_on(engine: Engine, store: ControlStore) -> None:
    renew(store, 0)
    lapse(engine, 0)
    assert renew(store, 0) == Renewal(True, 3)


def test_who_leaves_or_books_no_more_is_followed_at_once(store: ControlStore) -> None:
    renew(store, 0)
    assert renew(store, 0, is_booking=False) == Renewal(False, 3)
    assert renew(store, 2) == Renewal(True, 3)
    store.leave("ctl_2")
    assert renew(store, 0) == Renewal(True, 2)
    assert [one.control_id for one in store.list_controls() if not one.is_live] == ["ctl_2"]


def test_of_many_that_ask_at_once_one_leads(store: ControlStore) -> None:
    found: list[Renewal | None] = []
    threads = [threading.Thread(target=lambda number=number: found.append(renew(store, number))) for number in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sum(one is not None and one.is_leading for one in found) == 1


def test_a_row_that_is_gone_is_told(engine: Engine, store: ControlStore) -> None:
    with engine.begin() as connection:
        connection.execute(controls.delete())
    assert renew(store, 0) is None
    with engine.connect() as connection:
        assert connection.execute(select(leaders)).first() is None


def test_a_machine_with_a_journal_that_nobody_books_is_told(engine: Engine, store: ControlStore) -> None:
    with engine.begin() as connection:
        for run, machine, forgotten in (
            ("a", "web-1", None),
            ("b", "web-2", None),
            ("c", "web-3", None),
            ("d", "x", 1),
        ):
            row = {"gateway_id": run, "machine": machine, "forgotten_at_us": forgotten}
            connection.execute(insert(gateways).values(address="", boot="", since_us=1, lease_until_us=1, **row))
    renew(store, 0, "a")
    renew(store, 1, "b", is_booking=False)
    assert store.list_unbooked_machines([]) == ["web-2", "web-3"]
    assert store.list_unbooked_machines(["b"]) == ["web-3"]
    with engine.begin() as connection:
        done = {"file_number": 1, "offset": 0, "seq": 0, "head_hash": "", "damaged_lines": 0, "closed_at": now_utc()}
        connection.execute(insert(journals).values(run_id="c", **done))
    assert store.list_unbooked_machines([]) == ["web-2"]
    lapse(engine, 0)
    assert store.list_unbooked_machines([]) == ["web-1", "web-2"]


def test_a_gateway_that_grants_by_itself_beside_those_of_other_machines_is_told(
    engine: Engine, store: ControlStore
) -> None:
    def told() -> list[tuple[str, str]]:
        return store.list_lone_gateways()

    renew(store, 0, "gateway-1", "gateway-2")
    assert told() == []  # nobody is beside it
    renew(store, 2, "gateway-3")
    assert told() == [("web-1", "gateway-2"), ("web-2", "gateway-3")]
    with engine.begin() as connection:
        row = {"gateway_id": "gateway-2", "address": "", "machine": "web-1", "boot": ""}
        connection.execute(insert(gateways).values(since_us=1, lease_until_us=1, **row))
    assert told() == [("web-2", "gateway-3")]
    renew(store, 2)
    assert told() == []


@pytest.mark.parametrize("where", ["between two statements", "in a COPY"])
def test_who_is_stopped_while_others_wait_for_it_is_ended(where: str, engine: Engine) -> None:
    got, entered, go_on, failed = (threading.Event() for _ in range(4))

    def rows() -> Iterator[tuple[str, str]]:
        yield "x", "1"
        entered.set()
        go_on.wait()

    def stopped() -> None:
        try:
            with engine.begin() as connection:
                take_turn(connection, Lock.BOOKING)
                if where == "in a COPY":
                    copy_rows(connection, "meta", ("name", "value"), rows())  # pyright: ignore[reportArgumentType] -- it only goes through them
                else:
                    entered.set()
                    go_on.wait()
                    connection.execute(text("SELECT 1"))
        except OperationalError:
            failed.set()

    def waits() -> None:
        with engine.begin() as connection:
            take_turn(connection, Lock.BOOKING)
        got.set()

    threads = [threading.Thread(target=stopped)]
    threads[0].start()
    entered.wait()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert end_frozen(connection, 0) == []  # nobody waits for it
        threads.append(threading.Thread(target=waits))
        threads[1].start()
        wait_for(lambda: end_frozen(connection, 0), what="somebody being found to wait")
    wait_for(got.is_set, what="the turn of who waited")
    go_on.set()
    for one in threads:
        one.join()
    assert failed.is_set()
