"""What answers that stay at the old owner of a cell may still cost: held by the next one, to the nano-dollar."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

from sqlalchemy import select, update

from tenantry.domain.budgets import Budget, Cap
from tenantry.domain.doubts import Taken
from tenantry.domain.envelopes import STEP_AHEAD_NANOS
from tenantry.domain.errors import StoreAway
from tenantry.domain.holds import CEILING, Account, Short
from tenantry.domain.periods import MONTH
from tenantry.storage.cell_tables import ceilings
from tests.stack import until
from tests.unit.gateway.playbook import Connection, World, end_events, message, start_event, text_event
from tests.unit.gateway.test_moves import Side, run, two

USD = 1_000_000_000
LARGE = {"model": "claude-opus-4-8"}


async def raise_all(side: Side) -> None:
    await side.raiser.raise_asked()
    side.cells.answer_for_more()
    side.world.turn()


async def stream(side: Side) -> Connection:
    """A stream whose money is held."""
    side.world.client().ask(message(stream=True, max_tokens=50_000) | LARGE)
    side.world.turn()
    await raise_all(side)
    side.world.connecting[0].made()
    connection = side.world.sent[-1]
    connection.head(200, {"content-type": "text/event-stream"})
    connection.body(start_event().replace(b"claude-haiku-5-5", b"claude-opus-4-8"))
    side.world.turn()
    return connection


async def give(side: Side, to: Side) -> None:
    assert await side.mover.move(["crd_acme"], to.name, to.address) == ""
    to.claimer.ring()
    to.world.own()
    await to.claimer.claim_for(["tnt_acme"])


def account_of(side: Side) -> Account:
    """The tenant's own, which has been used."""
    return side.world.parts.till.accounts_by_name("tnt_acme")["", "nanos"]


def opened(world: World) -> Account:
    snapshot = world.parts.latest.snapshot
    return world.parts.till.accounts_of(snapshot.tenants["tnt_acme"], next(iter(snapshot.keys.values())))[0]


def taken(side: Side) -> int:
    """What it may spend and hold."""
    ceiling = account_of(side).ceiling
    assert ceiling is not None
    return ceiling.taken


async def ask_more(side: Side) -> None:
    ceiling = account_of(side).ceiling
    assert ceiling is not None
    ceiling.ask(0)
    await side.raiser.raise_asked()


def test_the_next_owner_lends_also_where_nobody_has_asked_it_for_anything_of_the_tenant(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path, budget_nanos=10 * USD) as (a, b):
            await stream(a)
            await give(a, b)
            before = taken(a)
            await ask_more(a)
            await until(lambda: taken(a) == before + STEP_AHEAD_NANOS)
            assert account_of(b).unknown_nanos == taken(a)

    run(work)


def test_what_was_let_go_of_since_it_was_lent_is_not_spent(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path, budget_nanos=10 * USD) as (a, b):
            await stream(a)
            await give(a, b)
            real, done = b.leftovers.lend, asyncio.Event()

            async def lend(wanted: Taken) -> Taken | None:
                found = await real(wanted)
                async with a.leftovers.turn:
                    await a.leftovers.lower(["tnt_acme"])
                done.set()
                return found

            b.leftovers.lend = lend  # type: ignore[method-assign]
            before = taken(a)
            await ask_more(a)
            await done.wait()
            await _heard(a)
            await b.leftovers._review()  # pyright: ignore[reportPrivateUsage]
            assert taken(a) == before == account_of(b).unknown_nanos

    run(work)


async def _heard(side: Side) -> None:
    """It has looked up what was lent to it."""
    real, heard = side.store.taken_by, asyncio.Event()
    loop = asyncio.get_running_loop()

    def taken_by(*what: Any) -> list[Taken]:
        loop.call_soon_threadsafe(heard.set)
        return real(*what)

    side.store.taken_by = taken_by  # type: ignore[method-assign]
    await heard.wait()
    async with side.claimer.turn:
        pass


def test_a_look_at_the_store_that_began_before_something_was_lent_does_not_forget_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path, budget_nanos=10 * USD) as (a, b):
            await stream(a)
            await give(a, b)
            real, is_asked, may_go = b.store.lend, Event(), Event()

            def lend(owner: str, row: Taken) -> bool:
                is_asked.set()
                may_go.wait()
                return real(owner, row)

            b.store.lend = lend  # type: ignore[method-assign]
            before = taken(a)
            await ask_more(a)
            await until(is_asked.is_set)
            await b.leftovers._review()  # pyright: ignore[reportPrivateUsage]
            may_go.set()
            await until(lambda: taken(a) > before)
            await b.leftovers._review()  # pyright: ignore[reportPrivateUsage]
            assert account_of(b).unknown_nanos == taken(a)

    run(work)


def end_dearly(side: Side, connection: Connection) -> int:
    """The answer ends, and has cost more than was held for it: how much more than the store has."""
    before = taken(side)
    connection.body(end_events(50_000))
    connection.end()
    side.world.turn()
    more = account_of(side).used_nanos - before
    assert more > 0
    return more


def test_what_an_answer_that_stayed_cost_beyond_its_hold_is_held_before_it_is_booked(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path, budget_nanos=100 * USD) as (a, b):
            connection = await stream(a)
            await give(a, b)
            end_dearly(a, connection)
            await a.raiser.raise_asked()
            await until(lambda: b.world.parts.till.accounts_by_name("tnt_acme") != {})
            await until(lambda: account_of(b).unknown_nanos == account_of(a).used_nanos)
            await until(lambda: _in_store(a) == account_of(a).used_nanos)

    run(work)


def test_what_an_answer_that_stayed_cost_is_held_also_where_no_money_is_left(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path, budget_nanos=USD) as (a, b):
            connection = await stream(a)
            await give(a, b)
            theirs, used = opened(b.world), taken(a)
            b.world.client().ask(message())
            theirs.held_nanos += theirs.left_nanos(0)
            end_dearly(a, connection)
            b.receiver.taken({"crd_acme": 2})
            await a.leftovers.lower(["tnt_acme"])
            await b.leftovers._review()  # pyright: ignore[reportPrivateUsage]
            assert theirs.unknown_nanos == account_of(a).used_nanos > used

    run(work)


def test_an_answer_that_stays_is_doubted_until_it_has_ended_though_all_that_was_taken_is_known(
    tmp_path: Path,
) -> None:
    async def work() -> None:
        async with two(tmp_path, budget_nanos=100 * USD) as (a, b):
            connection = await stream(a)
            await give(a, b)
            b.receiver.taken({"crd_acme": 2})
            account = account_of(a)
            with a.engine.begin() as connected:
                connected.execute(update(ceilings).values(taken=0))  # another answer's excess has used it up
            await b.leftovers._review()  # pyright: ignore[reportPrivateUsage]
            assert opened(b.world).unknown_nanos == 0
            end_dearly(a, connection)
            await a.leftovers.lower(["tnt_acme"])
            await b.leftovers._review()  # pyright: ignore[reportPrivateUsage]
            assert opened(b.world).unknown_nanos == account.used_nanos

    run(work)


def test_what_an_answer_that_stayed_cost_is_held_also_where_that_is_written_long_after_its_end(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path, budget_nanos=USD) as (a, b):
            connection = await stream(a)
            await give(a, b)
            theirs, account = opened(b.world), account_of(a)
            b.world.client().ask(message())
            theirs.held_nanos += theirs.left_nanos(0)
            with a.engine.begin() as connected:
                connected.execute(update(ceilings).values(taken=0))
            end_dearly(a, connection)
            a.mover.tell_now()
            await until(lambda: not b.cells.guests)
            for _ in range(4):
                await b.leftovers._review()  # pyright: ignore[reportPrivateUsage]
            await a.leftovers.lower(["tnt_acme"])
            await b.leftovers._review()  # pyright: ignore[reportPrivateUsage]
            assert theirs.unknown_nanos == account.used_nanos > 0

    run(work)


def test_what_goes_on_without_a_hold_counts_for_a_budget_that_is_set_meanwhile(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path) as (a, b):
            connection = a.stream()
            _set_budget((a, b), USD)
            await a.raiser.raise_asked()
            assert _in_store(a) == taken(a) > 0  # whoever takes over now, of a machine that is dead, holds that
            await give(a, b)
            connection.body(end_events(50_000))
            connection.end()
            a.world.turn()
            b.receiver.taken({"crd_acme": 2})
            await a.leftovers.lower(["tnt_acme"])
            await b.leftovers._review()  # pyright: ignore[reportPrivateUsage]
            assert opened(b.world).unknown_nanos == account_of(a).used_nanos > 0

    run(work)


def test_an_answer_whose_cell_has_moved_on_twice_gets_more_from_who_has_it_now(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path, budget_nanos=10 * USD) as (a, b):
            c = Side(tmp_path, a.engine, "gw-c", budget_nanos=10 * USD)
            await c.listen()
            await stream(a)
            await give(a, b)
            await give(b, c)
            before = taken(a)
            await ask_more(a)
            await until(lambda: taken(a) == before + STEP_AHEAD_NANOS)
            assert account_of(c).unknown_nanos == taken(a)
            await c.close()

    run(work)


def test_what_was_taken_of_a_budget_that_was_cleared_since_is_let_go(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path, budget_nanos=10 * USD) as (a, b):
            connection = await stream(a)
            connection.body(end_events())
            connection.end()
            _set_budget((a, b), None)
            await give(a, b)
            _set_budget((a, b), USD)
            assert _in_store(a) == account_of(a).spent_here
            assert opened(b.world).unknown_nanos == account_of(a).spent_here  # its journal is none of a disk's

    run(work)


def _set_budget(sides: tuple[Side, ...], nanos: int | None) -> None:
    caps = () if nanos is None else (Cap(MONTH, nanos, ()),)
    for one in sides:
        one.world.change("acme", budget=Budget(caps, "hard"))


def _in_store(side: Side) -> int:
    with side.engine.connect() as connection:
        return int(connection.execute(select(ceilings.c.taken).where(ceilings.c.key_id == "")).scalar_one())


def test_streams_that_need_their_next_steps_together_have_them_while_there_is_money(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path, budget_nanos=40 * USD) as (a, _b):
            for number in range(64):
                a.world.client(str(number)).ask(message(stream=True, max_tokens=32_000) | LARGE)
                a.world.turn()
            for _ in range(20):
                await raise_all(a)
                for one in a.world.connecting.copy():
                    one.made()
            streams = [*a.world.sent]
            for one in streams:
                one.head(200, {"content-type": "text/event-stream"})
                one.body(start_event().replace(b"claude-haiku-5-5", b"claude-opus-4-8"))
            a.raiser.ask_ahead()
            await raise_all(a)
            for _ in range(20):
                _produce(streams)
                await raise_all(a)
            assert [len(streams), sum(one.sink is None for one in streams)] == [64, 0]

    run(work)


def _produce(streams: list[Connection]) -> None:
    """Each tells a part of a step, before anything can be asked of the store."""
    for one in streams:
        if one.sink is not None:
            one.body(text_event("x" * 600))


def test_a_stream_that_could_not_be_taken_more_for_is_ended_in_words(tmp_path: Path) -> None:
    world, short = World(tmp_path), Short("tenant acme", CEILING, 10, 5, 5, 1, 1, 0)
    interruption: Callable[[Short], Any] = world.parts.telling.budget_interruption
    assert isinstance(interruption(short), StoreAway)
