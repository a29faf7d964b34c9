"""Asks the store for what this gateway owns, beside requests: its lease and its cells (decision 0021).

The lease is renewed by the clock; cells are claimed when requests wait for them, and given away where that is wanted.
Each does its statements in a thread. What a claim, a gift, a lapse and a return to life write and then say of it here
is one step (`turn`): none of them is heard out of order. Between the two steps of a gift, which wait for another
gateway, nothing of its cells is claimed, and all others are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from tenantry.domain.asks import capacities_of
from tenantry.domain.cells import RENEWALS_PER_LEASE, Component, Linkage, group_of, groups_of, lease_end
from tenantry.domain.directory import Change, Snapshot
from tenantry.domain.owners import RETRY_SECONDS, At, Cells
from tenantry.gateway.asking import Asking, Fault
from tenantry.gateway.leftovers import Books, Leftovers
from tenantry.gateway.parts import Parts
from tenantry.gateway.raising import Raiser
from tenantry.ledger.journal import is_alive
from tenantry.ledger.takeover import Takeover, closed_runs, open_tenants
from tenantry.storage.cells import CellStore, Claimed
from tenantry.storage.leases import Lease, Loaded

log = logging.getLogger("tenantry.gateway")


def _nothing(_cells: object) -> frozenset[str]:
    """Nobody has left an estate."""
    return frozenset()


def _no_load() -> int:
    return 0


class Claimer:
    """`load`: what this gateway has to do, to be told with its lease. `wished`: set when the store says that a cell of
    this gateway is to be another's. `taken`: called with cells, and their epochs, that are owned from this moment on;
    those of which an estate has told what counts.

    `split`: tenants that draw on what two gateways own, as the last look said.
    """

    def __init__(
        self,
        parts: Parts,
        cells: Cells,
        store: CellStore,
        books: Books,
        gateway_id: str,
        asking: Asking,
        raiser: Raiser,
        leftovers: Leftovers,
    ) -> None:
        self.load: Callable[[], int] = _no_load
        self.taken: Callable[[dict[str, int]], Collection[str]] = _nothing
        self.wished = asyncio.Event()
        self.split: dict[str, None] = {}
        self.links = Linkage()
        self.turn = leftovers.turn
        self._parts = parts
        self._cells = cells
        self._store = store
        self._books = books
        self._me = gateway_id
        self._asking = asking
        self._raiser = raiser
        self._leftovers = leftovers
        self._seconds = parts.settings.lease_seconds
        self._lease = Lease(gateway_id, int(self._seconds * 1_000_000))
        self._giving: dict[str, None] = {}  # cells that were released, until it is known whose they are
        self._given: dict[str, None] = {}  # their tenants
        self._is_ending = False
        self._is_aside = False
        self._heirs: Sequence[Loaded] = ()  # who claims in the place of this one, which stands aside
        self._before: Sequence[str] = ()  # whose place this gateway has taken
        self._rung = asyncio.Event()
        self._link(parts.latest.snapshot, parts.latest.snapshot.tenants)

    # The directory

    def apply(self, change: Change) -> None:
        """Go on under another directory: who counts together may be others. What that changes is claimed as asked."""
        tenants = change.snapshot.tenants if change.tenants is None else change.tenants
        self._link(change.snapshot, tenants)

    def _link(self, snapshot: Snapshot, tenant_ids: Iterable[str]) -> None:
        tenure = self._cells.tenure
        for tenant_id in tenant_ids:
            tenant = snapshot.tenants.get(tenant_id)
            self.links.put(tenant_id, capacities_of(tenant) if tenant is not None else ())
            if tenant_id in tenure.pins and not tenure.owns(self.links.capacities_of(tenant_id)):
                self.split[tenant_id] = None

    def ring(self) -> None:
        """A request waits."""
        self._rung.set()
        self._raiser.rung.set()

    # The lease

    async def begin(self, address: str, machine: str, before: Sequence[str]) -> None:
        """Begin to live. `before`: gateways whose place this one takes; all that they own is its own.

        Raises: the store's own errors.
        """
        ask, store = self._asking.ask, self._store
        sent_at, at_us = self._cells.clock(), self._parts.clock.wall_us()
        await ask(store.tidy)
        await ask(partial(store.join, self._lease, address, machine, at_us))
        self._cells.tenure.renewed(lease_end(sent_at, self._seconds), self._cells.tenure.life)
        if before:
            self._before = before
            await ask(partial(store.inherit, self._me, before, at_us))
            await self._take_inherited()
            await self._open_inherited(at_us)

    async def _take_inherited(self) -> None:
        """Others know already that it has these cells, and pass requests here: it has its lease, so they wait."""
        tenure = self._cells.tenure
        life, sent_at = tenure.life, self._cells.clock()
        cells, pins = await self._asking.ask_of_lease(partial(self._store.rejoin, self._lease))
        tenure.take(cells, pins, life)
        tenure.renewed(lease_end(sent_at, self._seconds), life)

    async def _open_inherited(self, at_us: int) -> None:
        """What was spent was read when those before had stopped granting, as for every gateway that starts. Of whom a
        third one may have spent more, that is read when they ask for something."""
        tenure = self._cells.tenure
        in_doubt = await self._asking.ask(partial(self._store.taken_by_others, [*tenure.pins], self._us))
        for tenant_id, cell in tenure.pins.items():
            if tenant_id not in in_doubt:
                self._raiser.since_us.setdefault(tenant_id, at_us)
                tenure.open(tenant_id, cell, tenure.life)

    @property
    def _us(self) -> tuple[str, ...]:
        return (self._me, *self._before)

    async def keep_lease(self) -> None:
        """Renew it, for good. While the store is away this gateway goes on until its lease ends."""
        every, fault = self._seconds / RENEWALS_PER_LEASE, Fault("the lease could not be renewed", self._now)
        while True:
            await asyncio.sleep(every)
            with fault.noted():  # open: what is owned is granted for until the lease ends
                await self._renew()
            if not self._cells.has_lease:
                self._cells.tenure.vouched.clear()

    async def _renew(self) -> None:
        tenure = self._cells.tenure
        life, sent_at = tenure.life, self._cells.clock()
        renewed = await self._asking.ask_of_lease(partial(self._store.renew, self._lease, self.load()))
        if renewed is not None and not tenure.is_between:
            tenure.renewed(lease_end(sent_at, self._seconds), life)
            if renewed.is_asked_to_move:
                self.wished.set()
        elif not self._cells.is_succeeded:
            log.warning("the lease of this gateway has run out; it asks for what of its cells nobody has taken")
            await self._live_again()

    async def _live_again(self) -> None:
        tenure = self._cells.tenure
        async with self.turn:
            tenure.lapse()
            sent_at = self._cells.clock()
            cells, pins = await self._asking.ask_of_lease(partial(self._store.rejoin, self._lease))
            self._leftovers.lose(tenure.keep(cells, pins, lease_end(sent_at, self._seconds)))

    # Claims

    async def claim(self) -> None:
        """Claim what requests wait for, for good."""
        fault = Fault("cells could not be claimed", self._now)
        while True:
            await self._rung.wait()
            self._rung.clear()
            sought = [one for one in self._cells.take_sought() if one not in self._given]
            if not sought:
                continue
            is_told = False
            with fault.noted():  # closed: nobody is granted anything
                is_told = await self.claim_for(sought)
            if not is_told:
                await asyncio.sleep(RETRY_SECONDS)
            self._cells.answer(sought)

    async def claim_for(self, tenant_ids: Sequence[str]) -> bool:
        """False: of one of them nobody can say whose it is, at this moment."""
        async with self.turn:
            tenure, is_told = self._cells.tenure, True
            life, opening = tenure.life, dict[str, str]()
            for tenant_id in tenant_ids:
                draws = self.links.capacities_of(tenant_id)
                if not draws or isinstance(self._cells.owner_of(tenant_id), At):
                    continue
                if tenant_id in self._given:
                    is_told = False
                    continue
                found = await self._owner_of(tenant_id, draws)
                if found == "":
                    is_told = False
                elif found is not None and tenant_id not in tenure.tenants:
                    opening[tenant_id] = found
            return await self._open(opening, life) and is_told

    async def _owner_of(self, tenant_id: str, draws: Sequence[str]) -> str | None:
        """The cell of a tenant that is this gateway's; None: it is another's, "": it is between two owners.

        `draws`: what it draws on. All that is linked with it is walked over where it is to be claimed alone.
        """
        tenure = self._cells.tenure
        known = tenure.pins.get(tenant_id)
        if known in tenure.cells:
            if tenure.owns(draws):
                return known
        else:
            at = await self._asking.ask(partial(self._store.owner_of, tenant_id))
            if at is not None and at[0] != self._me and not await self._asking.ask(partial(self._is_dead, at[0])):
                self._cells.is_at(tenant_id, *at)
                return None  # found by reading alone
            if self._is_ending and at is None:
                return ""  # it is claimed by who goes on
            if self._heirs and (at is None or at[0] != self._me):
                heir = min(self._heirs, key=lambda one: (one.load, one.gateway_id))
                self._cells.is_at(tenant_id, heir.gateway_id, heir.address)  # which claims what is passed to it
                return None
        life, component = tenure.life, self.links.around(tenant_id)
        if not component.homes:
            return ""  # it has gone meanwhile
        found = await self._claimed(tenant_id, component)
        if found is None:
            return ""
        if found.owner != self._me:
            self._cells.is_at(tenant_id, found.owner, found.address)
            return None
        return await self._taken(tenant_id, component.homes[tenant_id], found, life)

    async def _taken(self, tenant_id: str, home: str, found: Claimed, life: int) -> str:
        """What the store says is this gateway's. `home`: what the tenant draws on first."""
        tenure = self._cells.tenure
        if self._giving.keys() & found.cells.keys():  # they are this gateway's for as long as the store has not spoken
            kept = {name: epoch for name, epoch in found.cells.items() if name not in self._giving}
            found = replace(found, cells=kept, is_whole=False)
        strange = tenure.strange(found.cells)
        if not tenure.take(found.cells, found.pins, life):
            return ""
        told = self.taken({**found.cells})
        self._begin_empty(found, [name for name in strange if name not in told])
        self._note_split(tenant_id, found)
        cell = found.pins.get(tenant_id, "")
        if cell not in tenure.cells:
            return ""
        return cell if home in tenure.cells else await self._part(tenant_id, cell, home)

    def _note_split(self, tenant_id: str, found: Claimed) -> None:
        if found.is_whole:
            self.split.pop(tenant_id, None)
        else:
            self.split[tenant_id] = None

    async def _claimed(self, tenant_id: str, component: Component) -> Claimed | None:
        """What a claim comes to; again, where it finds that who owns the tenant is dead."""
        ask, store = self._asking.ask, self._store
        claim = partial(store.claim, self._me, tenant_id, component)
        found = await ask(partial(claim, self._parts.clock.wall_us()))
        if found is not None and found.owner != self._me and await ask(partial(self._is_dead, found.owner)):
            log.warning("gateway %s is dead: what it owned can be taken", found.owner)
            await ask(partial(store.end, [found.owner]))
            found = await ask(partial(claim, self._parts.clock.wall_us()))
        return found

    def _is_dead(self, gateway_id: str) -> bool:
        """Whether its process is known to have ended: by the lock on its journal, or because that is booked."""
        run = self._books.journal_dir / gateway_id
        if run.is_dir():
            return not is_alive(run)
        with self._books.engine.connect() as connection:
            return bool(closed_runs(connection, [gateway_id]))

    async def _part(self, tenant_id: str, cell: str, home: str) -> str:
        """A tenant draws on a capacity that another gateway owns: it goes there, when nothing of it is held here."""
        self._cells.tenure.close(tenant_id)
        self._leftovers.lose([tenant_id])
        if not self._leftovers.idle_of([tenant_id]):
            return ""
        await self._leftovers.lower([tenant_id])
        await self._asking.ask(partial(self._store.repin, self._me, tenant_id, cell, home))
        self._cells.tenure.unpin(tenant_id)
        return ""

    def _begin_empty(self, found: Claimed, names: Sequence[str]) -> None:
        """Limits of what was another's begin as if that one had used all there was; until now, where nobody knows."""
        if names:
            rested = {name: found.rested_us.get(name, 0) / 1_000_000 for name in names}
            keys = self._parts.latest.snapshot.keys.values()
            self._parts.lanes.register.begin_empty(rested, found.pins, keys, self._parts.clock.now())

    # Opening

    async def _open(self, tenants: dict[str, str], life: int) -> bool:
        """Count what was spent of these tenants' budgets; then they are granted for. `tenants`: with their cells."""
        if not tenants:
            return True
        parts, at_us = self._parts, self._parts.clock.wall_us()
        parts.recorder.flush()  # what has ended here stands in the journal, where it is read
        before = {tenant_id: parts.till.spent_here(tenant_id) for tenant_id in tenants}
        found = await self._asking.ask(self._reading([*tenants], at_us))
        if parts.till.entry_id > found.opening.entry_id:
            return False  # a correction that it has not was counted meanwhile
        entered = {tenant_id for tenant_id, cell in tenants.items() if self._cells.tenure.open(tenant_id, cell, life)}
        for tenant_id in entered:
            self._raiser.since_us.setdefault(tenant_id, at_us)
            parts.till.enter(tenant_id, found.opening, before[tenant_id])
        self._leftovers.enter(found, entered)
        return len(entered) == len(tenants)

    def _reading(self, tenant_ids: Sequence[str], at_us: int) -> partial[Takeover]:
        books, zone = self._books, self._parts.settings.zone
        return partial(open_tenants, books.engine, books.journal_dir, books.prices, zone, at_us, tenant_ids, self._us)

    # Giving

    def group_of(self, cells: Iterable[str]) -> tuple[str, ...]:
        """What of this gateway's moves with cells."""
        tenure = self._cells.tenure
        return group_of(cells, tenure.cells, self.links, tenure.pins)

    def groups(self) -> list[tuple[str, ...]]:
        """All that this gateway owns, by what moves together."""
        tenure = self._cells.tenure
        return groups_of(tenure.cells, self.links, tenure.pins)

    def release(self, cells: Collection[str]) -> dict[str, str]:
        """Grant nothing of these any more, from this moment on; what is not being sent begins anew, and waits for
        `conclude`. The tenants that are pinned to them, each with its cell. To be called within a turn."""
        tenure = self._cells.tenure
        tenants = {tenant_id: cell for tenant_id, cell in tenure.pins.items() if cell in cells}
        self._giving.update(dict.fromkeys(cells))
        self._given.update(dict.fromkeys(tenants))
        self._parts.recorder.flush()  # what is granted is sent, and what has ended is found by the next one
        tenure.release(cells)
        self._leftovers.lose(tenants)
        for tenant_id in tenants:
            self.split.pop(tenant_id, None)
        for served in list(self._parts.population.served):
            if served.principal.tenant.tenant_id in tenants:
                served.move_on()
        return tenants

    async def give(self, epochs: Mapping[str, int], tenants: Collection[str], to: str) -> bool:
        """The store's word that what was released is another's. Raises: the store's own errors: then nobody knows."""
        lowered = self._raiser.lowered(tenants)
        at_us = self._parts.clock.wall_us()
        return await self._asking.ask(partial(self._store.give, self._me, epochs, to, at_us, lowered))

    def conclude(self, epochs: Mapping[str, int], tenants: Mapping[str, str], stayed_in: int | None) -> None:
        """A gift is over. Whose these are is known, or the store is to be asked: who waits for them goes on.

        `stayed_in`: the store was asked for nothing, so they are this gateway's as before, if its life is that one yet.
        """
        tenure = self._cells.tenure
        for cell in epochs:
            self._giving.pop(cell, None)
        if stayed_in is not None:
            tenure.take(epochs, tenants, stayed_in)
        for tenant_id in tenants:
            self._given.pop(tenant_id, None)
        self._cells.answer([*tenants])

    # Standing aside, and ending

    async def stand_aside(self, heirs: Sequence[Loaded]) -> None:
        """Others claim what is asked for here, and give nothing to this gateway, until it takes part again."""
        self._heirs = heirs
        if not self._is_aside:
            await self._asking.ask(partial(self._store.take_no_more, self._me))
            self._is_aside = True

    async def take_part(self) -> None:
        self._heirs, self._is_aside = (), False
        if not self._is_ending:
            await self._asking.ask(partial(self._store.take_again, self._me))

    async def close_down(self) -> None:
        """Claim nothing any more, and be given nothing."""
        self._is_ending = True
        await self._asking.ask(partial(self._store.take_no_more, self._me))

    async def leave(self) -> None:
        """This gateway ends: others may take what it owned at once."""
        self._cells.tenure.lapse()
        await self._asking.ask(partial(self._store.end, [self._me]))
        self._asking.close()

    def _now(self) -> float:
        return self._parts.clock.now()
