"""A cell goes from one gateway to another: what is said of it, and what the next owner counts."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from tenantry.domain.cells import Component
from tenantry.domain.directory import Change, GatewayKey, Tenant
from tenantry.domain.doubts import Doubt, Taken
from tenantry.domain.envelopes import STEP_AHEAD_NANOS
from tenantry.domain.opening import Opening
from tenantry.domain.owners import At
from tenantry.gateway.asking import Asking
from tenantry.gateway.balancing import SETTLE_SECONDS, SOUND_SECONDS, Balancer
from tenantry.gateway.claiming import Claimer
from tenantry.gateway.leftovers import Books, Leftovers
from tenantry.gateway.moving import Mover
from tenantry.gateway.peers.calling import NotAPeer, Peers
from tenantry.gateway.peers.listening import Called
from tenantry.gateway.peers.places import Place, machine_mark
from tenantry.gateway.peers.proofs import MOVES, derive_peer_key, whom
from tenantry.gateway.peers.talking import MESSAGE_BYTES_MAX, CellEstate, Given, Kept, Said, Talk
from tenantry.gateway.raising import Raiser
from tenantry.gateway.receiving import Receiver
from tenantry.gateway.upstream import Pools
from tenantry.ledger.takeover import Takeover
from tenantry.storage.cells import CellStore
from tenantry.storage.leases import Lease
from tests.stack import until
from tests.template import new_store
from tests.unit.gateway.playbook import OPEN, Connection, World, end_events, message, start_event
from tests.unit.gateway.test_live import taken

LIMITED = replace(OPEN, requests_per_minute=60)
KEY = derive_peer_key(b"p" * 32)
ESTATE = CellEstate("gw-a", {"org-1": 2}, 5.0, "here", ["acme"], [], [], [])


class Hearing:
    """A gateway that is called about moves; `takes`: it knows of them."""

    def __init__(self, *, takes: bool = True) -> None:
        self.heard: list[Said] = []
        self.was_told = asyncio.Event()
        self.ended = asyncio.Event()
        self.talks: list[Talk] = []
        hear = self._hear if takes else None
        self._called: Any = lambda: Called(KEY, whom("gw-b", self.address), _refuse_requests, {}, hear)

    def _hear(self, transport: asyncio.Transport, unread: bytes) -> None:
        talk = Talk(transport)
        self.talks.append(talk)
        talk.on_message, talk.on_end = self._on_message, self.ended.set
        talk.begin(unread)

    def _on_message(self, message: Said) -> None:
        self.heard.append(message)
        self.was_told.set()

    async def __aenter__(self) -> Hearing:
        self._server = await asyncio.get_running_loop().create_server(self._called, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def address(self) -> str:
        return Place("127.0.0.1", self._server.sockets[0].getsockname()[1], False, machine_mark()).text()

    async def connect(self) -> asyncio.Transport:
        return await Peers(Pools(), KEY).introduce("gw-b", self.address, MOVES)

    async def call(self) -> Talk:
        talk = Talk(await self.connect())
        talk.begin(b"")
        return talk


def run(work: Callable[[], Any]) -> Any:
    return asyncio.run(work())


def test_what_is_said_comes_whole_and_in_order() -> None:
    async def work() -> tuple[list[Said], bool]:
        async with Hearing() as hearing:
            talk = await hearing.call()
            talk.say(ESTATE)
            talk.say(Given())
            talk.close()
            await hearing.ended.wait()
            return hearing.heard, hearing.talks[0].is_open

    assert run(work) == ([ESTATE, Given()], False)


def test_who_is_told_answers() -> None:
    async def work() -> Said:
        async with Hearing() as hearing:
            talk, answer = await hearing.call(), asyncio.get_running_loop().create_future()
            talk.on_message = answer.set_result
            talk.say(ESTATE)
            await hearing.was_told.wait()
            hearing.talks[0].say(Kept())
            said = await answer
            talk.close()
            await hearing.ended.wait()
            return said

    assert run(work) == Kept()


def test_a_gateway_of_a_release_that_knows_no_moves_is_not_one_to_move_to() -> None:
    async def work() -> None:
        async with Hearing(takes=False) as hearing:
            with pytest.raises(NotAPeer):
                await hearing.call()
            await asyncio.sleep(0)  # for both ends to be told

    run(work)


@pytest.mark.parametrize("said", [(MESSAGE_BYTES_MAX + 1).to_bytes(4, "big"), b"\0\0\0\x02hi"])
def test_who_says_what_is_no_message_is_heard_no_more(said: bytes) -> None:
    async def work() -> bool:
        async with Hearing() as hearing:
            transport, ended = await hearing.connect(), asyncio.Event()
            talk = Talk(transport)
            talk.begin(b"")
            talk.on_end = ended.set
            transport.write(said)
            await ended.wait()
            return talk.is_open

    assert run(work) is False


LEASE_US = 600_000_000


def _refuse_requests(_transport: asyncio.Transport, _unread: bytes) -> None:
    raise AssertionError("it is not about requests")


class Side:
    """One gateway over the store that it shares with the other one."""

    def __init__(self, folder: Path, engine: Engine, name: str, **fields: Any) -> None:
        (folder / name).mkdir()
        self.name = name
        self.world = world = World(folder / name, is_one_of_several=True, **fields)
        cells, peers = world.parts.cells, world.parts.peers
        assert cells is not None
        assert peers is not None
        self.engine, self.cells, self.store, self.asking = engine, cells, CellStore(engine), Asking()
        books = Books(engine, folder / "journal", world.parts.prices)
        self.raiser = Raiser(world.parts, cells, self.store, name, self.asking)
        self.leftovers = Leftovers(world.parts, cells, self.store, books, self.raiser, self.asking, name)
        self.claimer = Claimer(world.parts, cells, self.store, books, name, self.asking, self.raiser, self.leftovers)
        guests = self.leftovers.guests
        self.mover = Mover(world.parts, cells, self.store, self.claimer, guests, self.raiser, self.asking, name)
        self.balancer = Balancer(world.parts, cells, self.store, self.claimer, self.mover, self.asking, name)
        self.receiver = Receiver(world.parts, cells, self.leftovers, peers.machine)
        self.claimer.taken = self.receiver.taken
        self.receiver.pass_on, self.mover.pass_back = self.mover.ask_owner, self.receiver.pass_back
        self._peers = peers

    async def listen(self) -> None:
        def hear(transport: asyncio.Transport, unread: bytes) -> None:
            talk = Talk(transport)
            self.talks.append(talk)
            self.receiver.hear(talk)
            talk.begin(unread)

        self.talks: list[Talk] = []

        def called() -> Any:
            return Called(self._peers.key, whom(self.name, self.address), _refuse_requests, {}, hear)

        self._server = await asyncio.get_running_loop().create_server(called, "127.0.0.1", 0)
        self.address = Place("127.0.0.1", self._server.sockets[0].getsockname()[1], False, machine_mark()).text()
        self.store.join(Lease(self.name, LEASE_US), self.address, "here", 0)

    def own(self, slug: str = "acme") -> None:
        """It has claimed the cell, and opened its tenant."""
        tenant_id, cell = f"tnt_{slug}", f"crd_{slug}"
        assert self.store.claim(self.name, tenant_id, Component({tenant_id: cell}, (cell,)), 0) is not None
        self.world.own(tenant_id)
        self.cells.tenure.pins[tenant_id] = cell

    def stream(self) -> Connection:
        self.world.client().ask(message(stream=True, max_tokens=50_000))
        self.world.turn()
        self.world.connecting[0].made()
        connection = self.world.sent[-1]
        connection.head(200, {"content-type": "text/event-stream"})
        connection.body(start_event())
        self.world.turn()
        return connection

    def listen_no_more(self) -> None:
        self._server.close()

    async def close(self) -> None:
        self.mover.close()
        self.receiver.close()
        self.asking.close()
        self._server.close()
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def two(folder: Path, **fields: Any) -> AsyncGenerator[tuple[Side, Side]]:
    engine = new_store(folder / "store.db")
    sides = Side(folder, engine, "gw-a", **fields), Side(folder, engine, "gw-b", **fields)
    for side in sides:
        await side.listen()
    sides[0].own()
    try:
        yield sides
    finally:
        for side in sides:
            await side.close()
        engine.dispose()


def test_sessions_that_stay_count_at_the_next_owner_until_they_end(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path) as (a, b):
            connection = a.stream()
            assert await a.mover.move(["crd_acme"], "gw-b", b.address) == ""
            assert b.store.owner_of("tnt_acme") == ("gw-b", b.address)
            assert not a.cells.may_grant("tnt_acme", "crd_acme")
            assert isinstance(a.cells.owner_of("tnt_acme"), At)
            b.receiver.taken({"crd_acme": 1})
            assert b.world.parts.lanes.in_flight() == 0  # not in that epoch
            b.receiver.taken({"crd_acme": 2})
            in_flight = b.world.parts.lanes.in_flight()
            assert in_flight == a.world.parts.lanes.in_flight() > 0
            connection.body(end_events())
            connection.end()
            a.world.turn()
            a.mover.tell_now()
            await until(lambda: b.world.parts.lanes.in_flight() == 0)
            assert not b.cells.guests

    run(work)


def test_a_tenant_that_has_moved_is_told_as_one_for_whom_others_grant(tmp_path: Path) -> None:
    async def work() -> list[bool]:
        async with two(tmp_path) as (a, b):
            a.stream()
            before = taken(a.world)["tnt_acme"].grants
            assert await a.mover.move(["crd_acme"], "gw-b", b.address) == ""
            return [before, taken(a.world)["tnt_acme"].grants]

    assert run(work) == [True, False]


def test_an_estate_of_a_gift_that_never_was_is_not_entered(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path) as (a, b):
            a.stream()
            b.store.end(["gw-b"])
            problem = await a.mover.move(["crd_acme"], "gw-b", b.address)
            assert problem == "gateway gw-b does not live, or they are not this gateway's any more"
            assert a.store.owner_of("tnt_acme") == ("gw-a", a.address)
            await asyncio.sleep(0.05)
            b.receiver.taken({"crd_acme": 2})
            assert not b.cells.guests

    run(work)


def _level(side: Side) -> float:
    """What is left of the tenant's requests a minute."""
    tenant = side.world.parts.latest.snapshot.tenants["tnt_acme"]
    bucket = side.world.parts.lanes.register.tenant_lane(tenant, True, side.world.time.now).requests
    assert bucket is not None
    return bucket.level


def test_limits_of_what_was_anothers_begin_empty_also_where_the_stores_answer_never_came(tmp_path: Path) -> None:
    async def work() -> float:
        async with two(tmp_path, limits=LIMITED) as (a, b):
            a.store.end(["gw-a"])
            acme = Component({"tnt_acme": "crd_acme"}, ("crd_acme",))
            assert b.store.claim("gw-b", "tnt_acme", acme, 0) is not None  # and the connection broke
            b.world.own()  # it has its lease
            assert await b.claimer.claim_for(["tnt_acme"])
            return _level(b)

    assert run(work) == 0.0


def test_limits_that_come_with_an_estate_go_on_as_they_were(tmp_path: Path) -> None:
    async def work() -> tuple[float, float]:
        async with two(tmp_path, limits=LIMITED) as (a, b):
            a.stream()
            assert await a.mover.move(["crd_acme"], "gw-b", b.address) == ""
            b.world.own()
            assert await b.claimer.claim_for(["tnt_acme"])
            return _level(a), _level(b)

    left, found = run(work)
    assert found == left > 0.0


def test_who_cannot_be_reached_gets_nothing_and_nothing_changes(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path) as (a, b):
            b.listen_no_more()
            problem = await a.mover.move(["crd_acme"], "gw-b", b.address)
            assert problem.startswith("gateway gw-b cannot be reached: ")
            assert a.cells.may_grant("tnt_acme", "crd_acme")

    run(work)


def test_a_cell_of_which_nobody_has_asked_for_anything_since_it_came_moves_on(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path) as (a, b):
            assert await a.mover.move(["crd_acme"], "gw-b", b.address) == ""
            assert "crd_acme" not in b.cells.tenure.cells
            b.store.wish("crd_acme", "gw-a")
            b.world.own()  # it has its lease
            await b.mover.grant_wishes()
            assert a.store.owner_of("tnt_acme") == ("gw-a", a.address)
            assert not b.cells.tenure.cells

    run(work)


def test_a_cell_that_no_tenant_draws_on_stays_and_is_asked_for_no_more(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path) as (a, b):
            assert a.store.claim("gw-a", "tnt_gone", Component({"tnt_gone": "crd_gone"}, ("crd_gone",)), 0) is not None
            a.store.wish("crd_gone", b.name)
            await a.mover.grant_wishes()
            assert a.store.wishes("gw-a") == []

    run(work)


def test_a_gateway_that_does_not_answer_in_time_is_called_too_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def says_nothing(*_: object) -> Talk:
        raise TimeoutError

    async def work() -> None:
        async with two(tmp_path) as (a, b):
            monkeypatch.setattr(a.mover, "_call", says_nothing)
            problem = await a.mover.move(["crd_acme"], "gw-b", b.address)
            assert problem == "gateway gw-b cannot be reached: too slow"

    run(work)


def test_nothing_is_given_to_a_gateway_whose_place_another_has_taken(tmp_path: Path) -> None:
    """That one would have the cells, and nothing of what was left with them."""

    async def work() -> None:
        async with two(tmp_path) as (a, b):
            b.cells.is_succeeded = True
            assert await a.mover.move(["crd_acme"], "gw-b", b.address) == "gateway gw-b does not take them"
            assert a.store.owner_of("tnt_acme") == ("gw-a", a.address)

    run(work)


def test_claims_of_other_cells_do_not_wait_for_a_next_owner_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is claimed of what it was asked about; who waits for that goes on when it is known to have stayed."""
    monkeypatch.setattr("tenantry.gateway.moving.KEPT_SECONDS_MAX", 3600.0)

    async def work() -> None:
        async with two(tmp_path, slugs=("acme", "bolt")) as (a, b):
            asked = _hangs(b, monkeypatch)
            moving = asyncio.create_task(a.mover.move(["crd_acme"], "gw-b", b.address))
            await until(asked.is_set)
            a.world.client().ask(message())
            assert not await a.claimer.claim_for(["tnt_acme"])
            assert await a.claimer.claim_for(["tnt_bolt"])
            assert not moving.done()
            assert [*a.cells.tenure.cells] == ["crd_bolt"]
            for talk in b.talks:
                talk.close()
            assert await moving == "gateway gw-b does not take them"
            assert a.cells.tenure.cells == {"crd_bolt": 1, "crd_acme": 1}
            assert await a.claimer.claim_for(a.cells.take_sought())
            assert a.cells.may_grant("tnt_acme", "crd_acme")

    run(work)


def _hangs(side: Side, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """It does not say that it has an estate; set when it has been sent one."""
    asked = asyncio.Event()
    monkeypatch.setattr(side.receiver, "_keep", lambda *_: asked.set())
    return asked


def test_what_is_linked_with_cells_on_their_way_is_claimed_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with two(tmp_path, slugs=("acme", "bolt")) as (a, b):
            asked = _hangs(b, monkeypatch)
            moving = asyncio.create_task(a.mover.move(["crd_acme"], "gw-b", b.address))
            await until(asked.is_set)
            a.claimer.links.put("tnt_bolt", ["crd_bolt", "crd_acme"])  # its fallback, as of now
            assert await a.claimer.claim_for(["tnt_bolt"])
            assert [*a.cells.tenure.cells] == ["crd_bolt"]
            assert [*a.claimer.split] == ["tnt_bolt"]
            for talk in b.talks:
                talk.close()
            await moving

    run(work)


def test_a_gift_goes_on_to_its_end_when_nobody_waits_for_it_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store may have been asked: what it says has to be heard."""

    async def work() -> None:
        async with two(tmp_path) as (a, b):
            give, is_asked, may_answer = a.store.give, threading.Event(), threading.Event()

            def answer_late(*told: Any) -> bool:
                is_asked.set()
                may_answer.wait()
                return give(*told)

            monkeypatch.setattr(a.store, "give", answer_late)
            moving = asyncio.create_task(a.mover.move(["crd_acme"], "gw-b", b.address))
            await until(is_asked.is_set)
            moving.cancel()
            await asyncio.gather(moving, return_exceptions=True)
            may_answer.set()
            await until(lambda: isinstance(a.cells.owner_of("tnt_acme"), At))
            assert a.store.owner_of("tnt_acme") == ("gw-b", b.address)

    run(work)


def test_what_the_store_has_not_answered_is_found_by_a_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with two(tmp_path) as (a, b):

            def away(*_: object) -> bool:
                raise OSError("the store is away")

            monkeypatch.setattr(a.store, "give", away)
            with pytest.raises(OSError, match="away"):
                await a.mover.move(["crd_acme"], "gw-b", b.address)
            assert not a.cells.tenure.cells
            assert await a.claimer.claim_for(["tnt_acme"])
            assert a.cells.may_grant("tnt_acme", "crd_acme")

    run(work)


def test_what_waits_is_refused_nowhere_and_begins_anew(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path, limits=replace(OPEN, sessions_max=1)) as (a, b):
            a.stream()
            waiting = a.world.client("d")
            waiting.ask(message())
            a.world.turn()
            assert a.world.parts.lanes.waiting() == 1
            assert await a.mover.move(["crd_acme"], "gw-b", b.address) == ""
            assert a.world.parts.lanes.waiting() == 0
            assert list(a.cells.sought) == ["tnt_acme"]
            assert not [line for line in a.world.told if line.startswith("d ") and "<<" in line]

    run(work)


def test_what_stays_is_held_by_the_next_owner_which_lends_more(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path, budget_nanos=10 * 10**9) as (a, b):
            client = a.world.client()
            client.ask(message(stream=True, max_tokens=50_000))
            a.world.turn()
            await a.raiser.raise_asked()
            a.cells.answer_for_more()
            a.world.turn()
            a.world.connecting[0].made()
            connection = a.world.sent[-1]
            connection.head(200, {"content-type": "text/event-stream"})
            connection.body(start_event())
            a.world.turn()
            account = a.world.parts.till.accounts_by_name("tnt_acme")["", "nanos"]
            used = account.used_nanos
            assert await a.mover.move(["crd_acme"], "gw-b", b.address) == ""
            assert account.ceiling is not None
            assert account.ceiling.taken == used + STEP_AHEAD_NANOS
            b.claimer.ring()
            b.world.own()
            await b.claimer.claim_for(["tnt_acme"])
            tenant, key = _caller(b.world)
            theirs = b.world.parts.till.accounts_of(tenant, key)[0]
            assert theirs.unknown_nanos == account.ceiling.taken
            before = account.ceiling.taken
            a.cells.asked.append(account.ceiling)
            await a.raiser.raise_asked()
            await until(lambda: account.ceiling is not None and account.ceiling.taken > before)
            assert theirs.unknown_nanos == account.ceiling.taken == used + 2 * STEP_AHEAD_NANOS

    run(work)


def _caller(world: World) -> tuple[Tenant, GatewayKey]:
    snapshot = world.parts.latest.snapshot
    return snapshot.tenants["tnt_acme"], next(iter(snapshot.keys.values()))


def test_who_is_told_no_more_asks_the_journal_and_the_ledger(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path) as (a, b):
            a.stream()
            assert await a.mover.move(["crd_acme"], "gw-b", b.address) == ""
            b.receiver.taken({"crd_acme": 2})
            a.mover.close()
            await until(lambda: bool(b.leftovers.guests.watched()))
            (attempt_id,) = b.leftovers.guests.watched()
            assert b.world.parts.lanes.in_flight() > 0
            b.leftovers.guests.ended({attempt_id})
            assert b.world.parts.lanes.in_flight() == 0

    run(work)


SLUGS = tuple(f"client-{number}" for number in range(12))


def test_who_has_more_to_do_than_its_share_gives_a_cell_to_who_has_less_once_it_is_settled(tmp_path: Path) -> None:
    def use(side: Side) -> None:
        world = side.world
        for slug in SLUGS:
            tenant = world.parts.latest.snapshot.tenants[f"tnt_{slug}"]
            world.parts.lanes.register.tenant_lane(tenant, True, world.time.now).used_at = world.time.now

    async def work() -> int:
        async with two(tmp_path, slugs=("acme", *SLUGS)) as (a, b):
            for slug in SLUGS:
                a.own(slug)
            use(a)
            await a.balancer.balance()
            assert len(a.store.sides([f"crd_{slug}" for slug in SLUGS])) == 1
            a.world.time.now += SETTLE_SECONDS
            use(a)
            await a.balancer.balance()
            assert a.claimer.load() == len(SLUGS)
            return {one.gateway_id: one.tenants for one in a.store.sides([f"crd_{slug}" for slug in SLUGS])}[b.name]

    assert run(work) == 1


def test_linked_cells_of_two_owners_are_joined(tmp_path: Path) -> None:
    async def work() -> tuple[str, str] | None:
        async with two(tmp_path, fallback=True) as (a, b):
            other = Component({"tnt_bolt": "crd_second"}, ("crd_second",))
            assert b.store.claim("gw-b", "tnt_bolt", other, 0) is not None
            del a.cells.tenure.cells["crd_second"]
            a.claimer.apply(Change(a.world.parts.latest.snapshot, None, None))
            assert list(a.claimer.split) == ["tnt_acme"]
            await a.balancer.join()
            assert not a.claimer.split
            return a.store.owner_of("tnt_acme")

    found = run(work)
    assert found is not None
    assert found[0] == "gw-b"


def test_who_gives_up_a_tenant_holds_nothing_of_it_for_others_any_more(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path, budget_nanos=10 * 10**9) as (a, b):
            doubt = Doubt(Taken("tnt_acme", "", "nanos", "gw-c", 500, 0), 500, {}, {})
            a.leftovers.enter(Takeover(Opening(0), [doubt], []), {"tnt_acme"})
            account = a.world.parts.till.accounts_of(*_caller(a.world))[0]
            assert account.unknown_nanos == 500
            assert b.store.claim("gw-b", "tnt_bolt", Component({"tnt_bolt": "crd_b"}, ("crd_b",)), 0) is not None
            a.claimer.links.put("tnt_acme", ["crd_b"])
            assert not await a.claimer.claim_for(["tnt_acme"])
            assert a.store.owner_of("tnt_acme") == ("gw-b", b.address)
            assert account.unknown_nanos == 0

    run(work)


def test_the_sides_of_what_many_tenants_link_are_asked_for_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path) as (a, b):
            names = [f"tnt_client-{number}" for number in range(20)]
            for name in names:
                a.claimer.links.put(name, ("crd_acme", "crd_b"))
                a.claimer.split[name] = None
            assert b.store.claim("gw-b", names[0], Component({names[0]: "crd_b"}, ("crd_b",)), 0) is not None
            asked: list[str] = []
            event.listen(a.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
            await a.balancer.join()
            assert len([one for one in asked if " AS pins" in one]) == 1

    run(work)


def test_a_gateway_that_ends_gives_all_it_has_and_claims_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path, slugs=("acme", *SLUGS)) as (a, b):
            for slug in SLUGS:
                a.own(slug)
            await a.balancer.give_away()
            assert not a.cells.tenure.cells
            assert [one.gateway_id for one in a.store.sides([f"crd_{slug}" for slug in SLUGS])] == [b.name]
            b.store.end(["gw-b"])
            a.cells.is_doubtful("tnt_acme")
            assert not await a.claimer.claim_for(["tnt_acme"])
            assert a.store.owner_of("tnt_acme") is None

    run(work)


def test_a_gateway_that_cannot_write_its_journal_leaves_all_to_others_until_it_can(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path, slugs=("acme", "bolt")) as (a, b):
            a.world.parts.recorder.works = False
            assert await a.balancer.stand_aside()
            assert a.store.owner_of("tnt_acme") == ("gw-b", b.address)
            assert [one.gateway_id for one in a.store.loads()] == ["gw-b"]
            a.cells.is_doubtful("tnt_bolt")
            assert await a.claimer.claim_for(["tnt_bolt"])
            at = a.cells.owner_of("tnt_bolt")
            assert isinstance(at, At)
            assert (at.gateway_id, a.store.owner_of("tnt_bolt")) == ("gw-b", None)
            a.world.parts.recorder.works = True
            assert await a.balancer.stand_aside()  # a nearly full disk takes short lines
            a.world.time.now += SOUND_SECONDS
            assert not await a.balancer.stand_aside()
            assert [one.gateway_id for one in a.store.loads()] == ["gw-a", "gw-b"]
            a.cells.is_doubtful("tnt_bolt")
            await a.claimer.claim_for(["tnt_bolt"])
            assert a.store.owner_of("tnt_bolt") == ("gw-a", a.address)

    run(work)


def test_a_gateway_that_cannot_write_its_journal_and_has_no_other_beside_it_keeps_what_it_has(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path) as (a, b):
            b.store.end(["gw-b"])
            a.world.parts.recorder.works = False
            assert await a.balancer.stand_aside()
            assert a.store.owner_of("tnt_acme") == ("gw-a", a.address)
            assert "crd_acme" in a.cells.tenure.cells

    run(work)


def test_that_a_cell_cannot_move_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with two(tmp_path) as (a, b):
            b.listen_no_more()
            a.world.parts.recorder.works = False
            for _ in range(3):
                await a.balancer.stand_aside()

    run(work)
    assert caplog.text.count("gateway gw-b gets nothing of this one, whose journal cannot be written") == 1
