"""What a gateway that took over does not know of the one before it is held, and no longer than that is so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, event, update

from tenantry.domain.cells import Component
from tenantry.domain.doubts import Taken
from tenantry.domain.prices import load_default_prices
from tenantry.domain.usage import Usage
from tenantry.ledger.booking import Drain
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.takeover import Looked, look_again, open_tenants
from tenantry.storage.cell_tables import gateways
from tenantry.storage.cells import CellStore
from tenantry.storage.leases import Lease
from tenantry.storage.tables import journals
from tests.template import new_store
from tests.unit.ledger.books import attempt, book, rows

UTC = ZoneInfo("UTC")
NOON_US = 1_795_608_000_000_000
TAKEN = Taken("acme", "", "nanos", "gw-a", 1_000, NOON_US)
PRICES = load_default_prices()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    found = new_store(tmp_path / "store.db")
    yield found
    found.dispose()


def test_what_a_gateway_that_lives_has_let_go_is_in_doubt_no_longer(engine: Engine, tmp_path: Path) -> None:
    store = CellStore(engine)
    store.join(Lease("gw-a", 30_000_000), "", "there", 0)
    store.claim("gw-a", "acme", Component({"acme": "org-1"}, ("org-1",)), 0)
    assert store.take([TAKEN]) == [TAKEN]
    doubts = open_tenants(engine, tmp_path, PRICES, UTC, NOON_US, ["acme"], ("gw-b",)).doubts
    assert [one.nanos for one in doubts] == [1_000]
    store.lower([replace(TAKEN, taken=200)])
    assert [one.nanos for one in look_again(engine, tmp_path, PRICES, UTC, NOON_US, doubts, {})[0]] == [200]


def test_what_many_tenants_are_in_doubt_about_is_asked_for_together(engine: Engine, tmp_path: Path) -> None:
    names = [f"client-{number}" for number in range(50)]
    store = CellStore(engine)
    store.join(Lease("gw-a", 30_000_000), "", "there", 0)
    store.claim("gw-a", names[0], Component(dict.fromkeys(names, "org-1"), ("org-1",)), 0)
    store.take([replace(TAKEN, tenant_id=name) for name in names])
    asked: list[object] = []
    event.listen(engine, "before_cursor_execute", lambda *told: asked.append(told))
    doubts = open_tenants(engine, tmp_path, PRICES, UTC, NOON_US, names, ("gw-b",)).doubts
    assert [one.nanos for one in doubts] == [1_000] * 50
    asked.clear()
    assert len(look_again(engine, tmp_path, PRICES, UTC, NOON_US, doubts, {})[0]) == 50
    assert len(asked) < 20


def test_what_was_booked_is_summed_again_where_more_was_booked(engine: Engine, tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "there", "gateway")
    drain, store = Drain(engine, tmp_path / "there", PRICES), CellStore(engine)
    store.join(Lease(writer.run_id, 30_000_000), "", "there", 0)
    store.claim(writer.run_id, "acme", Component({"acme": "org-1"}, ("org-1",)), 0)
    store.take([replace(TAKEN, gateway_id=writer.run_id, taken=10_000)])
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    looked, doubts = Looked(), open_tenants(engine, tmp_path, PRICES, UTC, NOON_US, ["acme"], ("gw-b",)).doubts
    for number in (1, 2):
        _write(writer, number)
        drain.step()
        asked.clear()
        doubts, _ = look_again(engine, tmp_path, PRICES, UTC, NOON_US, doubts, {}, looked)
        assert _sums(asked) == 1
        again, _ = look_again(engine, tmp_path, PRICES, UTC, NOON_US, doubts, {}, looked)
        assert (_sums(asked), again) == (1, doubts)
    assert [(one.nanos, one.known["month"]) for one in doubts] == [(10_000 - 2_003, 2_003)]
    writer.close()


def _write(writer: JournalWriter, number: int) -> None:
    begun, end = attempt(number, NOON_US, "acme")
    writer.begin(begun)
    writer.end(end)
    writer.flush()


def _sums(asked: list[str]) -> int:
    return len([one for one in asked if "sum(" in one])


def test_what_a_lost_machine_has_spent_is_found_when_its_journal_is(engine: Engine, tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "there", "gateway")
    drain, store = Drain(engine, tmp_path / "there", PRICES), CellStore(engine)
    store.join(Lease(writer.run_id, 30_000_000), "", "there", 0)
    store.claim(writer.run_id, "acme", Component({"acme": "org-1"}, ("org-1",)), 0)
    store.take([replace(TAKEN, gateway_id=writer.run_id, taken=10_000)])
    with engine.begin() as connection:
        connection.execute(update(gateways).values(forgotten_at_us=NOON_US))

    def rest() -> list[tuple[int, int]]:
        doubts = open_tenants(engine, tmp_path, PRICES, UTC, NOON_US, ["acme"], ("gw-b",)).doubts
        return [(one.rest, one.known["month"]) for one in doubts]

    assert rest() == [(10_000, 0)]
    _write(writer, 1)
    drain.step()
    assert rest() == [(10_000 - 1_001, 1_001)]
    writer.close()
    drain.step()
    assert rest() == []


@pytest.mark.parametrize("folder", ["there", "elsewhere"])
def test_what_is_in_quarantine_is_known(engine: Engine, tmp_path: Path, folder: str) -> None:
    writer = JournalWriter(tmp_path / "there", "gateway")
    drain, store = Drain(engine, tmp_path / "there", PRICES), CellStore(engine)
    store.join(Lease(writer.run_id, 30_000_000), "", "there", 0)
    store.claim(writer.run_id, "acme", Component({"acme": "org-1"}, ("org-1",)), 0)
    store.take([replace(TAKEN, gateway_id=writer.run_id, taken=10_000)])
    at_us = time.time_ns() // 1000
    begun, end = attempt(1, at_us, "acme", usage=Usage(input_tokens=1 << 70), cost_nanos=4_000)
    doubts = open_tenants(engine, tmp_path / folder, PRICES, UTC, at_us, ["acme"], ("gw-b",)).doubts
    writer.begin(begun)
    writer.end(end)
    writer.flush()
    drain.step()
    looked, _ = look_again(engine, tmp_path / folder, PRICES, UTC, at_us, doubts, {})
    assert [(one.nanos, one.known["month"]) for one in looked] == [(6_000, 4_000)]
    writer.close()
    drain.step()
    looked, _ = look_again(engine, tmp_path / folder, PRICES, UTC, at_us, looked, {})
    assert [(one.is_over, one.known["month"]) for one in looked] == [(True, 4_000)]


def test_tokens_that_were_used_before_a_plan_counted_them_are_not_of_what_was_taken(
    engine: Engine, tmp_path: Path
) -> None:
    earlier, later = NOON_US - 60_000_000, NOON_US + 60_000_000
    book(engine, tmp_path / "journals", [attempt(1, earlier, "acme"), attempt(2, later, "acme")])
    run, store = rows(engine)[0]["journal_run"], CellStore(engine)
    with engine.begin() as connection:
        connection.execute(update(journals).values(closed_at=None))  # it lives
    store.join(Lease(run, 30_000_000), "", "there", 0)
    store.claim(run, "acme", Component({"acme": "org-1"}, ("org-1",)), 0)
    of_tokens = replace(TAKEN, unit="tokens", gateway_id=run, taken=1_300)
    assert store.take([of_tokens]) == [of_tokens]
    found = open_tenants(engine, tmp_path / "elsewhere", PRICES, UTC, later, ["acme"], ("gw-b",)).doubts
    assert [(one.nanos, one.known["month"]) for one in found] == [(1_300 - 1_010, 1_010)]
