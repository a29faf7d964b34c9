"""Cells in the store: the storm of `tests/unit/domain/test_cells.py` over real tables, and each promise by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import DBAPIError

from tenantry.domain.cells import Component
from tenantry.domain.doubts import Taken
from tenantry.storage.ceilings import forgotten, taken_of
from tenantry.storage.cell_tables import cells, gateways
from tenantry.storage.cells import CellStore, Claimed, Side, Wish
from tenantry.storage.columns import now_utc
from tenantry.storage.leases import Lease, Loaded, Renewed
from tenantry.storage.server import Lock, take_turn
from tenantry.storage.tables import journals, upstreams
from tests.template import new_store
from tests.unit.domain.test_cells import GATEWAYS, LEASE, TENANTS, Store, storm

LEASE_US = int(LEASE * 1_000_000)
TURNED = pytest.mark.sqlite  # they turn its clock; a server has its own
ONE = Component({"acme": "org-1"}, ("org-1",))
TWO = Component({"acme": "org-1"}, ("org-1", "org-2"))


class Clock:
    def __init__(self) -> None:
        self.now_us = 1_000_000_000

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    found = new_store(tmp_path / "store.db")
    yield found
    found.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(engine: Engine, clock: Clock) -> CellStore:
    found = CellStore(engine, clock)
    for name in ("gw-a", "gw-b"):
        found.join(Lease(name, LEASE_US), f"{name}:3000", "here", 0)
    return found


def test_who_is_cut_off_in_the_middle_of_a_claim_keeps_nobody_waiting(
    store: CellStore, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("the processes of a machine's file die with their locks")
    monkeypatch.setattr("tenantry.storage.server.SILENCE_MS_MAX", 100)
    found: list[Claimed | None] = []

    def begin_a_claim_that_is_cut_off() -> None:
        with store.deciding(claims=True) as cut_off:
            cut_off.execute(select(gateways).with_for_update())
            found.append(store.claim("gw-b", "acme", ONE, 0))

    with pytest.raises(DBAPIError):
        begin_a_claim_that_is_cut_off()
    assert [one.owner for one in found if one is not None] == ["gw-b"]


def test_who_is_cut_off_behind_a_renewal_keeps_nobody_waiting(store: CellStore, engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("the processes of a machine's file die with their locks")
    with store.at_once() as cut_off:
        cut_off.execute(update(gateways).values(lease_until_us=0))
        found = store.claim("gw-b", "acme", ONE, 0)
        assert found is None  # its own lease has run out: what was written counts, and is waited for by nobody


class RealStore(Store):
    """The storm's store, over tables: what is booked stays in memory."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._cells = CellStore(engine, lambda: int(self.now * 1_000_000))
        for name in GATEWAYS:
            self._cells.join(Lease(name, LEASE_US), "", "", 0)

    def is_live(self, gateway_id: str) -> bool:
        return gateway_id in self._cells.live()

    def renew(self, gateway_id: str) -> bool:
        return self._cells.renew(Lease(gateway_id, LEASE_US)) is not None

    def rejoin(self, gateway_id: str) -> tuple[dict[str, int], dict[str, str]]:
        return self._cells.rejoin(Lease(gateway_id, LEASE_US))

    def claim(
        self, gateway_id: str, tenant_id: str, component: Component
    ) -> tuple[str, dict[str, int], dict[str, str]] | None:
        found = self._cells.claim(gateway_id, tenant_id, component, 0)
        return None if found is None else (found.owner, dict(found.cells), dict(found.pins))

    def take(self, gateway_id: str, tenant_id: str, taken: int) -> bool:
        return bool(self._cells.take([Taken(tenant_id, "", "nanos", gateway_id, taken, 0)]))

    def give(self, gateway_id: str, epochs: Mapping[str, int], to: str, lowered: Mapping[str, int]) -> bool:
        rows = [Taken(tenant_id, "", "nanos", gateway_id, taken, 0) for tenant_id, taken in lowered.items()]
        return self._cells.give(gateway_id, epochs, to, 0, rows)

    def lend(self, owner: str, gateway_id: str, tenant_id: str, taken: int) -> bool:
        return self._cells.lend(owner, Taken(tenant_id, "", "nanos", gateway_id, taken, 0))

    def taken(self) -> dict[tuple[str, str], int]:
        with self._engine.connect() as connection:
            return {(row.gateway_id, row.tenant_id): row.taken for row in taken_of(connection, TENANTS, ())}


def test_the_storm_finds_nothing_over_real_tables(tmp_path: Path) -> None:
    engines: list[Engine] = []

    def make_store(seed: int) -> Store:
        engines.append(new_store(tmp_path / f"{seed}.db"))
        return RealStore(engines[-1])

    assert storm(8, 200, make_store) > 0
    for one in engines:
        one.dispose()


@TURNED
def test_a_claim_takes_a_cell_when_its_owners_lease_has_run_out_and_in_a_new_epoch(
    store: CellStore, clock: Clock
) -> None:
    first = store.claim("gw-a", "acme", ONE, 5)
    assert first is not None
    assert (first.owner, first.cells, first.pins, first.is_whole) == ("gw-a", {"org-1": 1}, {"acme": "org-1"}, True)
    theirs = store.claim("gw-b", "acme", ONE, 6)
    assert theirs is not None
    assert (theirs.owner, theirs.address, theirs.cells) == ("gw-a", "gw-a:3000", {})
    clock.now_us += LEASE_US // 2
    assert store.renew(Lease("gw-b", LEASE_US))
    clock.now_us += LEASE_US // 2
    taken = store.claim("gw-b", "acme", ONE, 7)
    assert taken is not None
    assert (taken.owner, taken.cells) == ("gw-b", {"org-1": 2})
    assert store.claim("gw-a", "acme", ONE, 8) is None
    assert not store.renew(Lease("gw-a", LEASE_US))
    assert store.rejoin(Lease("gw-a", LEASE_US)) == ({}, {})


@TURNED
def test_who_comes_back_before_anybody_claimed_goes_on_in_its_epoch(store: CellStore, clock: Clock) -> None:
    store.claim("gw-a", "acme", ONE, 5)
    clock.now_us += LEASE_US * 9
    assert store.owner_of("acme") is None
    assert store.rejoin(Lease("gw-a", LEASE_US)) == ({"org-1": 1}, {"acme": "org-1"})
    assert store.owner_of("acme") == ("gw-a", "gw-a:3000")


def test_who_comes_back_is_lost_no_more(store: CellStore, engine: Engine) -> None:
    store.claim("gw-a", "acme", ONE, 0)
    with engine.begin() as connection:
        connection.execute(update(gateways).where(gateways.c.gateway_id == "gw-a").values(forgotten_at_us=5))
    store.rejoin(Lease("gw-a", LEASE_US))
    with engine.connect() as connection:
        assert not forgotten(connection, ["gw-a"])


@TURNED
def test_a_lease_of_before_the_machine_was_started_again_counts_no_more(engine: Engine, clock: Clock) -> None:
    before, now = CellStore(engine, clock, boot="before"), CellStore(engine, clock, boot="now")
    before.join(Lease("gw-a", LEASE_US), "", "", 0)
    assert before.live() == ["gw-a"]
    assert now.live() == []


@TURNED
def test_only_the_owner_of_a_tenant_takes_of_its_budget(store: CellStore, engine: Engine, clock: Clock) -> None:
    mine = Taken("acme", "", "nanos", "gw-a", 10, 0)
    assert store.take([mine]) == []
    store.claim("gw-a", "acme", ONE, 5)
    assert store.take([mine]) == [mine]
    assert store.take([Taken("acme", "", "nanos", "gw-b", 10, 0)]) == []
    clock.now_us += LEASE_US
    assert store.take([Taken("acme", "", "nanos", "gw-a", 20, 0)]) == []
    with engine.connect() as connection:
        assert taken_of(connection, ["acme"], but=("gw-b",)) == [mine]
        assert taken_of(connection, ["acme"], but=("gw-a",)) == []


def test_who_takes_more_has_taken_so_much_in_all(store: CellStore, engine: Engine) -> None:
    store.claim("gw-a", "acme", ONE, 5)
    for taken in (10, 31):
        store.take([Taken("acme", "", "nanos", "gw-a", taken, 0)])
    with engine.connect() as connection:
        assert [one.taken for one in taken_of(connection, ["acme"], but=())] == [31]


def test_what_was_taken_becomes_what_was_used_also_where_that_is_more(store: CellStore, engine: Engine) -> None:
    store.claim("gw-a", "acme", ONE, 5)
    store.take([Taken("acme", "", "nanos", "gw-a", 10, 0)])
    for used in (4, 19):
        store.lower([Taken("acme", "", "nanos", "gw-a", used, 0), Taken("bolt", "", "nanos", "gw-a", used, 0)])
        with engine.connect() as connection:
            found = taken_of(connection, ["acme", "bolt"], but=())
        assert [(one.tenant_id, one.taken) for one in found] == [("acme", used)]


def test_what_is_booked_to_its_end_is_kept_no_longer(store: CellStore, engine: Engine, clock: Clock) -> None:
    store.claim("gw-a", "acme", ONE, 5)
    store.take([Taken("acme", "", "nanos", "gw-a", 10, 0)])
    store.tidy()
    with engine.connect() as connection:
        assert len(taken_of(connection, ["acme"], but=())) == 1
    with engine.begin() as connection:
        anchor = {"file_number": 1, "offset": 0, "seq": 0, "head_hash": "", "damaged_lines": 0}
        connection.execute(insert(journals).values(run_id="gw-a", closed_at=now_utc(), **anchor))
    store.inherit("gw-b", ["gw-a"], 6)
    store.tidy()
    with engine.connect() as connection:
        assert taken_of(connection, ["acme"], but=()) == []
        assert connection.execute(select(gateways.c.gateway_id)).scalars().all() == ["gw-b"]


def test_of_what_the_dead_owned_that_is_forgotten_whose_credential_is_gone(store: CellStore, engine: Engine) -> None:
    store.claim("gw-a", "acme", Component({"acme": "org-1"}, ("org-1",)), 5)
    store.claim("gw-a", "bolt", Component({"bolt": "up-1"}, ("up-1",)), 5)
    store.claim("gw-b", "coil", Component({"coil": "org-2"}, ("org-2",)), 5)
    with engine.begin() as connection:
        up = {
            "name": "one",
            "base_url": "http://127.0.0.1:9",
            "connect_seconds": 1,
            "answer_seconds": 1,
            "created_at": now_utc(),
        }
        connection.execute(insert(upstreams).values(upstream_id="up-1", **up))
    store.end(["gw-a"])
    store.tidy()
    with engine.connect() as connection:
        assert {*connection.execute(select(cells.c.name)).scalars()} == {"org-1", "org-2", "up-1"}, "not booked"
    with engine.begin() as connection:
        anchor = {"file_number": 1, "offset": 0, "seq": 0, "head_hash": "", "damaged_lines": 0}
        connection.execute(insert(journals).values(run_id="gw-a", closed_at=now_utc(), **anchor))
    store.tidy()
    with engine.connect() as connection:
        assert {*connection.execute(select(cells.c.name)).scalars()} == {"org-2", "up-1"}


def test_an_owner_gives_a_cell_to_one_that_lives(store: CellStore, engine: Engine, clock: Clock) -> None:
    store.claim("gw-a", "acme", ONE, 5)
    assert not store.give("gw-a", {"org-1": 1}, "gw-gone", 6)
    assert not store.give("gw-b", {"org-1": 1}, "gw-b", 6)
    assert store.give("gw-a", {"org-1": 1}, "gw-b", 6)
    assert not store.give("gw-a", {"org-1": 1}, "gw-b", 6)
    with engine.connect() as connection:
        assert connection.execute(select(cells)).one() == ("org-1", "gw-b", 2, 6, None)


def test_an_owner_pins_a_tenant_to_another_cell(store: CellStore, clock: Clock) -> None:
    store.claim("gw-a", "acme", ONE, 5)
    store.claim("gw-b", "bolt", Component({"bolt": "org-2"}, ("org-2",)), 5)
    assert not store.repin("gw-b", "acme", "org-1", "org-2")
    assert store.repin("gw-a", "acme", "org-1", "org-2")
    assert store.owner_of("acme") == ("gw-b", "gw-b:3000")


def test_who_takes_the_place_of_another_has_its_cells(store: CellStore, clock: Clock) -> None:
    store.claim("gw-a", "acme", ONE, 5)
    store.inherit("gw-b", ["gw-a"], 6)
    assert store.owner_of("acme") == ("gw-b", "gw-b:3000")
    assert store.live() == ["gw-b"]
    store.end(["gw-b"])
    assert store.live() == []


def test_a_gift_is_of_all_cells_or_of_none_and_leaves_what_was_used(store: CellStore, engine: Engine) -> None:
    store.claim("gw-a", "acme", TWO, 5)
    store.take([Taken("acme", "", "nanos", "gw-a", 10, 0)])
    lowered = [Taken("acme", "", "nanos", "gw-a", 4, 0)]
    assert not store.give("gw-a", {"org-1": 1, "org-2": 7}, "gw-b", 6, lowered)
    assert store.owner_of("acme") == ("gw-a", "gw-a:3000")
    assert store.give("gw-a", {"org-1": 1, "org-2": 1}, "gw-b", 6, lowered)
    assert store.owner_of("acme") == ("gw-b", "gw-b:3000")
    with engine.connect() as connection:
        assert [one.taken for one in taken_of(connection, ["acme"], but=())] == [4]


def test_a_gift_tells_also_what_cost_more_than_was_taken_for_it(store: CellStore, engine: Engine) -> None:
    store.claim("gw-a", "acme", ONE, 5)
    store.take([Taken("acme", "", "nanos", "gw-a", 10, 0)])
    assert store.give("gw-a", {"org-1": 1}, "gw-b", 6, [Taken("acme", "", "nanos", "gw-a", 12, 0)])
    with engine.connect() as connection:
        assert [one.taken for one in taken_of(connection, ["acme"], but=())] == [12]


def test_only_the_owner_lends_and_only_more(store: CellStore, engine: Engine) -> None:
    store.claim("gw-a", "acme", ONE, 5)
    store.take([Taken("acme", "", "nanos", "gw-a", 10, 0)])
    store.give("gw-a", {"org-1": 1}, "gw-b", 6)
    more = Taken("acme", "", "nanos", "gw-a", 12, 0)
    assert not store.lend("gw-a", more)
    assert store.lend("gw-b", more)
    assert not store.lend("gw-b", Taken("acme", "", "nanos", "gw-a", 11, 0))
    with engine.connect() as connection:
        assert [one.taken for one in taken_of(connection, ["acme"], but=())] == [12]


def test_what_is_to_move_is_told_with_the_lease_and_is_over_with_the_gift(store: CellStore) -> None:
    store.claim("gw-a", "acme", ONE, 5)
    assert store.renew(Lease("gw-a", LEASE_US)) == Renewed(is_asked_to_move=False)
    store.wish("org-1", "gw-b")
    assert store.renew(Lease("gw-b", LEASE_US)) == Renewed(is_asked_to_move=False)
    assert store.renew(Lease("gw-a", LEASE_US)) == Renewed(is_asked_to_move=True)
    assert store.wishes("gw-a") == [Wish("org-1", "gw-b", "gw-b:3000")]
    assert store.give("gw-a", {"org-1": 1}, "gw-b", 6)
    assert store.wishes("gw-b") == []
    store.wish("org-1", "gw-gone")
    assert store.wishes("gw-b") == [Wish("org-1", "gw-gone", "")]
    store.wish("org-1", None)
    assert store.wishes("gw-b") == []


def test_who_ends_is_given_nothing(store: CellStore) -> None:
    assert store.renew(Lease("gw-b", LEASE_US), 7) is not None
    assert store.loads() == [Loaded("gw-a", "gw-a:3000", 0), Loaded("gw-b", "gw-b:3000", 7)]
    store.take_no_more("gw-b")
    assert store.renew(Lease("gw-b", LEASE_US), 7) is not None
    assert store.loads() == [Loaded("gw-a", "gw-a:3000", 0)]


def test_sides_tell_who_owns_what_is_linked_and_how_many_tenants(store: CellStore) -> None:
    store.claim("gw-a", "acme", ONE, 5)
    store.claim("gw-b", "bolt", Component({"bolt": "org-2"}, ("org-2",)), 5)
    store.claim("gw-b", "cato", Component({"cato": "org-2"}, ("org-2",)), 5)
    assert store.sides(["org-1", "org-2", "org-3"]) == [
        Side("gw-a", "gw-a:3000", ("org-1",), 1),
        Side("gw-b", "gw-b:3000", ("org-2",), 2),
    ]


def test_whose_a_tenant_of_another_living_gateway_is_waits_for_no_turn(store: CellStore, engine: Engine) -> None:
    store.claim("gw-a", "acme", ONE, 0)
    with engine.connect() as other:
        if engine.dialect.name == "sqlite":
            other.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            take_turn(other, Lock.CLAIMS)
        found = store.owner_of("acme")
        other.rollback()
    assert found == ("gw-a", "gw-a:3000")
