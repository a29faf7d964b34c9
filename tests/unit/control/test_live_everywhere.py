"""What the gateways of another machine do now, told through the store by the control that books there."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from tenantry.control import live_everywhere as everywhere
from tenantry.control.live_everywhere import Teller, health_everywhere
from tenantry.control.live_everywhere import live_everywhere as read
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.live import LIVE_FILE, LIVE_SECONDS_MAX, LiveUse, dead_credentials, sum_live
from tenantry.storage.control_tables import controls
from tenantry.storage.controls import ControlRecord, ControlStore
from tenantry.storage.database import open_store
from tests import postgresql
from tests.template import new_store

# Each takes a server's database for itself: no test here is to be run on two stores.
pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.skipif(postgresql.binaries() is None, reason="PostgreSQL is not installed"),
]


class Machine:
    """A machine of its own: a folder of journals, with one gateway, and a control that books them."""

    def __init__(self, engine: Engine, folder: Path, number: int) -> None:
        folder.mkdir()
        self.engine, self.journals, self.control_id = engine, folder, f"ctl_{number}"
        self.gateway = JournalWriter(folder, f"gw{number}")
        self.store, self.now = ControlStore(engine), 1000.0
        address = "http://localhost:1"
        self.store.join(ControlRecord(self.control_id, f"web-{number}", number, address, 1, True, False, False))
        self.store.renew(self.control_id, [self.gateway.folder.name], is_booking=True, at_us=1)
        self.teller = Teller(engine, self.control_id, folder, lambda: self.now)

    def write(self, sessions: int, at: float | None = None, **health: Any) -> None:
        at = time.time() if at is None else at
        tenant = {"line": "tenant", "tenant_id": "tnt_1", "at": at, "sessions": sessions}
        head = {"line": "head", "at": at, "health": health}
        (self.gateway.folder / LIVE_FILE).write_text(f"{json.dumps(tenant)}\n{json.dumps(head)}\n")


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    engine = open_store(postgresql.DATABASES.take())
    found = Machine(engine, tmp_path / "one", 1), Machine(engine, tmp_path / "two", 2)
    yield found
    for one in found:
        one.gateway.close()
    engine.dispose()
    postgresql.DATABASES.give_back()


def seen_at(machine: Machine) -> tuple[int, dict[str, LiveUse]]:
    found = sum_live(read(machine.engine, machine.journals))
    return found.gateways, found.tenants


def test_both_machines_see_what_is_in_flight_at_both_and_nothing_twice(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    one.write(3)
    two.write(4, credentials_dead={"main": None})
    for machine in machines:
        machine.teller.step()
    for machine in machines:
        assert seen_at(machine) == (2, {"tnt_1": LiveUse(7)})
        assert [*dead_credentials(health_everywhere(machine.engine, machine.journals))] == ["main"]


def test_who_tells_nothing_fresh_is_known_to_live_and_counts_nowhere(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    one.write(3)
    two.write(4, time.time() - 2 * LIVE_SECONDS_MAX)
    two.teller.step()
    assert seen_at(one) == (1, {"tnt_1": LiveUse(3)})
    (stale,) = (found for found in read(one.engine, one.journals) if not found.is_fresh)
    assert stale.run_id == two.gateway.folder.name


@pytest.mark.parametrize("value", [{"lease_until_us": 0}, {"is_booking": False}])
def test_a_control_that_has_ended_or_books_no_more_tells_nothing(
    machines: tuple[Machine, Machine], value: dict[str, Any]
) -> None:
    one, two = machines
    two.write(4)
    two.teller.step()
    assert seen_at(one)[0] == 1
    with one.engine.begin() as connection:
        connection.execute(update(controls).where(controls.c.control_id == two.control_id).values(value))
    assert seen_at(one) == (0, {})


NO_TEXT = zlib.compress(b"\x91\x93\xa3\xed\xa0\x80\xc3\xc0")
NO_NAME = zlib.compress(b"\x91\x93\xda\x10\x00" + b"a" * 4096 + b"\xc3\xc4\x01x")


def test_what_another_version_tells_in_words_of_its_own_is_nothing(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    one.write(3)
    for told in (b"", b"no zlib", zlib.compress(b"no msgpack"), zlib.compress(b"\x91\x91\xa3run"), NO_TEXT, NO_NAME):
        two.store.tell_live(two.control_id, told)
        assert seen_at(one) == (1, {"tnt_1": LiveUse(3)})


def test_it_is_written_when_it_has_changed_and_less_often_the_more_it_is(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, two = machines
    written: list[int] = []

    def note(_store: ControlStore, _control_id: str, told: bytes) -> None:
        written.append(len(told))

    monkeypatch.setattr(ControlStore, "tell_live", note)
    two.write(4, 1000.0)
    for _ in range(2):
        two.teller.step()
    assert len(written) == 1
    two.write(5, 1000.0)
    two.teller.step()
    assert len(written) == 2
    monkeypatch.setattr(everywhere, "TOLD_BYTES_A_SECOND", 1)
    two.teller.step()
    two.now += 60
    assert not two.teller.is_due()
    two.now += 600
    assert two.teller.is_due()


def test_on_sqlite_nobody_is_asked_for_other_machines(tmp_path: Path) -> None:
    engine = new_store(tmp_path / "store.db")
    assert read(engine, tmp_path) == []
    engine.dispose()
