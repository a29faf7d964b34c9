"""Gives cells to other gateways, with all that the next owner has to know of them (decision 0021).

From one turn of the event loop on nothing of a cell is granted here. What was in the middle of being sent ends here;
its sessions, and the levels and pauses of limits, go over as an estate *before* the store makes the cell the other
one's, so that who grants always knows of it. Until the last answer has ended the other one is told. Money needs no
telling: what the answers that stay may still cost stands in the store as taken, and is held by the next owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, Final

from tenantry.domain.doubts import Taken
from tenantry.domain.gifts import UNASKED, WITHDRAWN, Stage, Word, after
from tenantry.domain.owners import Cells
from tenantry.gateway.asking import Asking, Fault
from tenantry.gateway.claiming import Claimer
from tenantry.gateway.estates import Part, lanes_of, running_request, standings_of
from tenantry.gateway.exchange import Exchange
from tenantry.gateway.guests import Guests
from tenantry.gateway.handover import RunningAttempt, RunningRequest
from tenantry.gateway.lending import TELL_SECONDS, LentTurn, tell_turns
from tenantry.gateway.parts import Parts
from tenantry.gateway.peers.calling import NotAPeer, Peers
from tenantry.gateway.peers.proofs import MOVES
from tenantry.gateway.peers.talking import CellEstate, Given, Kept, Lent, More, Said, Talk, Withdrawn
from tenantry.gateway.raising import Raiser
from tenantry.storage.cells import CellStore, Wish

log = logging.getLogger("tenantry.gateway")

# The next owner writes an estate down in a turn of its loop; requests of the cell wait meanwhile.
KEPT_SECONDS_MAX: Final = 5.0
# A question of an answer that has stayed follows its cell through so many hands: cells that go round do not keep it up.
PASSED_MAX: Final = 8
# Why cells have stayed, by who says so: the next owner, or the store.
_WHY_NOT: Final = {
    Stage.DECLINED: "gateway {} does not take them",
    Stage.REFUSED: "gateway {} does not live, or they are not this gateway's any more",
}


class _Gift:
    """Cells on their way to another gateway, each with the epoch in which they are this one's, and their tenants.

    `turns`: what goes on here. `life`: that in which it was begun.
    """

    def __init__(
        self,
        talk: Talk,
        epochs: dict[str, int],
        tenants: dict[str, str],
        turns: dict[bytes, LentTurn],
        life: int,
    ) -> None:
        self.talk = talk
        self.epochs = epochs
        self.tenants = tenants
        self.turns = turns
        self.life = life
        self.stage = Stage.ASKED
        self._is_heard_of = asyncio.Event()

    def on(self, word: Word) -> None:
        """Something is heard."""
        stage = after(self.stage, word)
        if stage is not self.stage:
            self.stage = stage
            self._is_heard_of.set()

    async def hear(self, seconds: float) -> None:
        """Wait for the next owner's word, for so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_heard_of.wait(), seconds)
        self.on(Word.LOST)  # where nothing was heard


class _Left:
    """What has stayed here of cells that were given away: it is told to their owner until it has ended."""

    def __init__(self, talk: Talk, tenants: Collection[str], turns: dict[bytes, LentTurn]) -> None:
        self.talk = talk
        self.tenants = {*tenants}
        self.turns = turns

    def tell(self) -> bool:
        """False: all has ended, or nobody hears."""
        tell_turns(self.turns, self.talk.say)
        return bool(self.turns) and self.talk.is_open


class Mover:
    """`me`: the journal's name of this gateway."""

    def __init__(
        self,
        parts: Parts,
        cells: Cells,
        store: CellStore,
        claimer: Claimer,
        guests: Guests,
        raiser: Raiser,
        asking: Asking,
        me: str,
    ) -> None:
        self._parts = parts
        self._cells = cells
        self._store = store
        self._claimer = claimer
        self._guests = guests
        self._raiser = raiser
        self._asking = asking
        self._me = me
        self.pass_back: Callable[[Lent], object] = _nobody
        self._left: list[_Left] = []
        self._has_left = asyncio.Event()
        self._fault = Fault("what was lent could not be looked up", parts.clock.now)
        self._tasks: set[asyncio.Task[Any]] = set()
        raiser.ask_owner = self.ask_owner

    # By the clock

    async def tell(self) -> None:
        """Tell the owners of what was given away how what has stayed here goes on, for good."""
        while True:
            await self._has_left.wait()
            self.tell_now()
            await asyncio.sleep(TELL_SECONDS)

    def tell_now(self) -> None:
        for one in self._left.copy():
            if not one.tell():
                one.talk.close()
                self._left.remove(one)
        if not self._left:
            self._has_left.clear()

    async def follow_wishes(self) -> None:
        """Move what the store says is to be another's, for good."""
        fault = Fault("cells could not be moved as was asked", self._parts.clock.now)
        while True:
            await self._claimer.wished.wait()
            self._claimer.wished.clear()
            with fault.noted():  # open: what is owned stays owned; the next renewal asks again
                await self.grant_wishes()

    # Moving

    async def move(self, cells: Iterable[str], to: str, address: str) -> str:
        """Give cells of this gateway to another, all that tenants link with them too. "" or why it was not done."""
        peers = self._parts.peers
        owned = self._cells.tenure.cells.keys()
        names = sorted(owned & {*self._claimer.group_of(cells)})
        if not names or peers is None:
            return ""
        try:
            talk = await self._call(peers, to, address)
        except (OSError, ValueError, NotAPeer) as error:
            return f"gateway {to} cannot be reached: {str(error) or 'too slow'}"
        # Whoever waits for it may leave: what the store is asked by then has its effect, and has to be heard of.
        giving = asyncio.get_running_loop().create_task(self._give(talk, names, to, address))
        self._tasks.add(giving)
        giving.add_done_callback(self._is_over)
        return await asyncio.shield(giving)

    def _is_over(self, giving: asyncio.Task[str]) -> None:
        self._tasks.discard(giving)
        if not giving.cancelled():
            giving.exception()  # who waited for it was told

    async def _call(self, peers: Peers, to: str, address: str) -> Talk:
        talk = Talk(await peers.introduce(to, address, MOVES))
        talk.begin(b"")
        return talk

    async def _give(self, talk: Talk, names: Sequence[str], to: str, address: str) -> str:
        """Why it was not done, or "". Raises: the store's own errors: then a claim finds who has the cells."""
        claimer = self._claimer
        async with claimer.turn:
            gift = self._ask(talk, names)
        if gift is None:
            talk.close()
            return ""
        try:
            await gift.hear(KEPT_SECONDS_MAX)
            if gift.stage is Stage.KEPT:
                async with claimer.turn:
                    await self._make_theirs(gift, to, address)
        finally:
            if gift.stage in WITHDRAWN:
                talk.say(Withdrawn())  # else who claims them one day would take that for what is left then
            if gift.stage is not Stage.GIVEN:
                talk.close()  # what is in flight here is found in the journal
            claimer.conclude(gift.epochs, gift.tenants, gift.life if gift.stage in UNASKED else None)
        return _WHY_NOT.get(gift.stage, "").format(to)

    def _ask(self, talk: Talk, names: Sequence[str]) -> _Gift | None:
        """From here on until the store has spoken nobody grants anything of these cells. None: they are gone."""
        tenure = self._cells.tenure
        epochs = {name: tenure.cells[name] for name in names if name in tenure.cells}
        if not epochs or not self._cells.has_lease:
            return None
        tenants = self._claimer.release(epochs)
        part = Part(epochs, {*tenants})
        requests, turns = self._lend(part)
        gift = _Gift(talk, epochs, tenants, turns, tenure.life)
        talk.on_message = lambda message: self._on_message(message, gift)
        talk.on_end = lambda: gift.on(Word.LOST)
        talk.say(
            CellEstate(
                self._me,
                {name: epoch + 1 for name, epoch in epochs.items()},
                self._parts.clock.now(),
                self._machine(),
                self._in_use(tenants),
                requests,
                lanes_of(self._parts, part),
                standings_of(self._parts, part),
            )
        )
        return gift

    async def _make_theirs(self, gift: _Gift, to: str, address: str) -> None:
        """By the store's word, within a turn. Raises: the store's own errors."""
        word = Word.UNHEARD
        try:
            word = Word.AGREED if await self._claimer.give(gift.epochs, gift.tenants, to) else Word.REFUSED
        finally:
            gift.on(word)
        if gift.stage is not Stage.GIVEN:
            return
        gift.talk.say(Given())
        for tenant_id in gift.tenants:
            self._cells.is_at(tenant_id, to, address)
        self._left.append(_Left(gift.talk, gift.tenants, gift.turns))
        self._has_left.set()
        log.info("%d cells with %d tenants are gateway %s's from now on", len(gift.epochs), len(gift.tenants), to)

    def _machine(self) -> str:
        peers = self._parts.peers
        return peers.machine if peers is not None else ""

    def _in_use(self, tenants: Collection[str]) -> list[str]:
        """Those that have asked for anything since they were granted for here, as far as is known."""
        return [tenant_id for tenant_id in tenants if self._parts.till.accounts_by_name(tenant_id)]

    def _lend(self, part: Part) -> tuple[list[RunningRequest], dict[bytes, LentTurn]]:
        """What goes on here, and what others tell this gateway of, for the next owner."""
        requests: list[RunningRequest] = []
        turns: dict[bytes, LentTurn] = {}
        for name, ask, attempt_id in self._guests.of(part.tenants):
            requests.append(running_request(name, ask, RunningAttempt(attempt_id, 0, False) if attempt_id else None))
            turns[name] = LentTurn(name, ask)
        for served in self._parts.population.served:
            if not isinstance(served, Exchange) or served.principal.tenant.tenant_id not in part.tenants:
                continue
            ask, attempt = served.in_hand
            if ask is None or not ask.is_open:
                continue
            money = attempt.money if attempt is not None else None
            running = None
            if attempt is not None and money is not None and money.is_open:
                running = RunningAttempt(attempt.attempt_id, money.held_nanos, money.is_held)
            requests.append(running_request(served.name, ask, running))
            turns[served.name] = LentTurn(served.name, ask)
        return requests, turns

    # Hearing

    def _on_message(self, message: Said, gift: _Gift) -> None:
        if isinstance(message, Kept):
            gift.on(Word.KEPT)
        elif isinstance(message, Lent) and message.gateway_id not in ("", self._me):
            self.pass_back(message)
        elif isinstance(message, Lent):
            task = asyncio.get_running_loop().create_task(self._take_lent(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _take_lent(self, lent: Lent) -> None:
        """What counts is what stands in the store: it may have been lowered from here since it was lent."""
        with self._fault.noted():  # closed: no more is spent than before
            async with self._claimer.turn:
                for row in await self._asking.ask(partial(self._store.taken_by, self._me, lent.tenant_id)):
                    if (row.key_id, row.unit) == (lent.key_id, lent.unit):
                        self._raiser.is_taken(row)

    def ask_owner(self, row: Taken, passed: int = 0) -> None:
        """An answer that has stayed here, or at who gave the cell to this one, may cost more than was taken for it."""
        for one in reversed(self._left):
            if row.tenant_id in one.tenants and passed < PASSED_MAX:
                one.talk.say(More(row.tenant_id, row.key_id, row.unit, row.taken, row.gateway_id, passed))
                return

    # Wishes, and the end

    async def grant_wishes(self) -> None:
        """Raises: the store's own errors."""
        ask = self._asking.ask
        for wish in await ask(partial(self._store.wishes, self._me)):
            why_not = await self._grant_wish(wish)
            if wish.to == self._me or why_not:
                if why_not:
                    log.warning("cell %s stays here and does not go to gateway %s: %s", wish.cell, wish.to, why_not)
                await ask(partial(self._store.wish, wish.cell, None))

    async def _grant_wish(self, wish: Wish) -> str:
        """Why it was not done, or ""."""
        if not wish.address:
            return "it does not live"
        if wish.cell not in self._cells.tenure.cells:
            # It is this gateway's by the store, and nobody has asked for anything since: what was left with it is taken
            # as for a request, and goes on to the next one.
            tenant_id = next(iter(self._claimer.links.tenants_of(wish.cell)), None)
            if tenant_id is None:
                return "no tenant draws on it"
            self._cells.is_doubtful(tenant_id)
            await self._claimer.claim_for([tenant_id])
        return await self.move([wish.cell], wish.to, wish.address)

    def close(self) -> None:
        for one in self._left:
            one.tell()
            one.talk.close()
        self._left.clear()


def _nobody(_lent: Lent) -> None:
    """Nobody has given anything to this gateway."""
