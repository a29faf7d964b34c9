"""What other gateways have left of tenants that are granted for here, and what is left here of those that are not.

Others may have spent, and have sessions, until their journals say otherwise: that is looked at again (0021).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import Engine

from tenantry.domain.doubts import REVIEW_SECONDS, Taken
from tenantry.domain.owners import Cells
from tenantry.domain.prices import PriceTable
from tenantry.domain.suspense import Suspense
from tenantry.gateway.asking import Asking, Fault
from tenantry.gateway.exchange import Exchange
from tenantry.gateway.guests import Guests
from tenantry.gateway.parts import Parts
from tenantry.gateway.raising import Raiser
from tenantry.ledger.takeover import Looked, Takeover, look_again
from tenantry.storage.cells import CellStore


@dataclass(frozen=True, slots=True)
class Books:
    """Where what was spent is found."""

    engine: Engine
    journal_dir: Path
    prices: PriceTable


class Leftovers:
    def __init__(
        self, parts: Parts, cells: Cells, store: CellStore, books: Books, raiser: Raiser, asking: Asking, me: str
    ) -> None:
        self.guests = Guests(parts, cells.guests)
        self.turn = asyncio.Lock()  # what is lowered is lowered in the order in which tenants come and go
        self._lending = asyncio.Lock()  # one at a time: each knows what the one before has lent
        self._parts = parts
        self._cells = cells
        self._store = store
        self._books = books
        self._raiser = raiser
        self._asking = asking
        self._me = me
        self._doubts = Suspense(parts.till)
        self._looked = Looked()
        self._leaving: dict[str, None] = {}  # tenants that are granted for here no longer

    # Coming and going

    def enter(self, found: Takeover, entered: Collection[str]) -> None:
        """These tenants are granted for here from now on."""
        self._doubts.enter(found.doubts, entered, found.opening.at_us)
        self.guests.find([one for one in found.running if one[1].tenant_id in entered], self.own_names())
        for tenant_id in entered:
            self._leaving.pop(tenant_id, None)

    def own_names(self) -> set[bytes]:
        """The requests that are served here."""
        return {one.name for one in self._parts.population.served if isinstance(one, Exchange)}

    def lose(self, tenant_ids: Collection[str]) -> None:
        """Other gateways grant for these: what they count is theirs."""
        self._doubts.lose({*tenant_ids})
        self._leaving.update(dict.fromkeys(tenant_ids))
        for tenant_id in tenant_ids:
            self._parts.lanes.register.tell_again(tenant_id)

    def idle_of(self, tenant_ids: Iterable[str]) -> list[str]:
        """Those of these tenants of which no request holds money or a session here."""
        till, served = self._parts.till, self._parts.population.served
        sent = {one.principal.tenant.tenant_id for one in served if not one.is_unsent}
        return [one for one in tenant_ids if one not in sent and not till.has_holds(one)]

    # Looking again

    async def review(self) -> None:
        """For good."""
        fault = Fault("what other gateways have left could not be looked at", self._parts.clock.now)
        while True:
            await asyncio.sleep(REVIEW_SECONDS)
            self._cells.forget_elsewhere()
            with fault.noted():  # closed: what is in doubt stays held
                if self._doubts.all() or self.guests.watched():
                    await self._review()
                if self._leaving:
                    async with self.turn:
                        await self.lower([*self._leaving])

    async def _review(self) -> None:
        books, doubts, attempts = self._books, self._doubts.all(), self.guests.watched()
        zone, at_us = self._parts.settings.zone, self._parts.clock.wall_us()
        look = partial(look_again, books.engine, books.journal_dir, books.prices, zone, at_us, doubts, attempts)
        now, ended = await self._asking.ask(partial(look, self._looked))
        go_on = self.guests.whose()  # what one costs beyond what was held may not stand in the store yet
        for before, after in zip(doubts, now, strict=True):
            may_grow = (before.taken.tenant_id, before.taken.gateway_id) in go_on
            self._doubts.look(before, after, at_us, may_grow=may_grow)
        self.guests.ended(ended)
        self.guests.owe_no_more({(one.taken.tenant_id, one.taken.gateway_id) for one in self._doubts.all()})

    async def lower(self, tenant_ids: Collection[str]) -> None:
        """Nothing of these is granted here: what was taken of them and is not used is let go.

        Raises: the store's own errors.
        """
        idle = self.idle_of(tenant_ids)  # before it is told what they used: of the others that may be more by then
        await self._raiser.lower(tenant_ids)
        for tenant_id in idle:
            self._leaving.pop(tenant_id, None)

    # Lending

    async def lend(self, wanted: Taken) -> Taken | None:
        """Let a gateway that still has answers of a tenant take more of its budget, as far as there is more."""
        if wanted.tenant_id not in self._cells.tenure.tenants:
            return None
        async with self._lending:
            self._open(wanted)
            found = self._doubts.lend(wanted, self._parts.clock.wall_us())  # held before it stands in the store
            if found is None:
                return None
            lent, more = found
            is_lent = False
            try:
                is_lent = await self._asking.ask(partial(self._store.lend, self._me, lent))
            finally:
                is_lent = self._doubts.lent(lent, more, is_lent=is_lent)
            return lent if is_lent else None

    def _open(self, taken: Taken) -> None:
        """Have the account, of which it may be that nobody has asked for anything here yet."""
        till, snapshot, tenant_id = self._parts.till, self._parts.latest.snapshot, taken.tenant_id
        tenant = snapshot.tenants.get(tenant_id)
        if tenant is None or (taken.key_id, taken.unit) in till.accounts_by_name(tenant_id):
            return
        for key in snapshot.keys.values():
            if key.tenant_id == tenant_id and taken.key_id in ("", key.key_id):
                till.accounts_of(tenant, key)
                return
