"""Asks the store for what this gateway owns, beside requests: its lease, cells, and what was spent (decision 0021).

Three tasks. The lease is renewed by the clock; cells are claimed when requests wait for them; ceilings are raised when
half of what was taken is used. Each does its statements in a thread. What a claim, a lapse and a return to life write
and then say of it here is one step (`_turn`): none of them is heard out of order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Engine

from tenantry.domain.asks import Ask, capacity_name
from tenantry.domain.cells import Component, Linkage, lease_end
from tenantry.domain.directory import Change, Snapshot, Tenant
from tenantry.domain.doubts import Doubt, Taken, become
from tenantry.domain.owners import Cells
from tenantry.domain.prices import PriceTable
from tenantry.domain.repeats import Repeats
from tenantry.gateway.estates import credentials_of
from tenantry.gateway.inheriting import adopt, untold
from tenantry.gateway.parts import Parts
from tenantry.ledger.journal import is_alive
from tenantry.ledger.lines import Begun
from tenantry.ledger.takeover import Takeover, closed_runs, look_again, open_tenants
from tenantry.storage.cells import CellStore, Claimed, Lease

log = logging.getLogger("tenantry.gateway")
T = TypeVar("T")

# So often a lease is renewed within itself: nine may fail, and a store that comes back is heard of soon.
RENEWALS_PER_LEASE: Final = 10
# Ceilings are raised ahead of need: half of an envelope has to last for so long.
RAISE_SECONDS: Final = 0.1
# What is looked at again: doubts, sessions elsewhere, accounts that are to be closed.
REVIEW_SECONDS: Final = 1.0
# After a failure, before the store is asked again; and where a tenant is between two owners.
RETRY_SECONDS: Final = 0.3


@dataclass(frozen=True, slots=True)
class Site:
    """Where what was spent is found."""

    engine: Engine
    journal_dir: Path
    prices: PriceTable


class Claimer:
    """`wall_us`: unix microseconds. `machine` names this one; `address`: where other gateways reach this gateway."""

    def __init__(
        self,
        parts: Parts,
        cells: Cells,
        store: CellStore,
        site: Site,
        gateway_id: str,
    ) -> None:
        self._parts = parts
        self._cells = cells
        self._store = store
        self._site = site
        self._me = gateway_id
        self._seconds = parts.settings.lease_seconds
        self._lease = Lease(gateway_id, int(self._seconds * 1_000_000))
        self._links = Linkage()
        self._pins: dict[str, str] = {}  # of the tenants of cells that are owned here
        self._since_us: dict[str, int] = {}  # when a tenant was first opened here
        self._doubts: list[Doubt] = []
        self._elsewhere: dict[str, Ask] = {}  # sessions of attempts of other gateways, by attempt
        self._leaving: dict[str, None] = {}  # tenants that are granted for here no longer
        self._turn = asyncio.Lock()
        self._rung = asyncio.Event()
        self._rung_for_more = asyncio.Event()
        # Of its own: a renewal must not stand behind an opening that reads a large ledger.
        self._renewer = ThreadPoolExecutor(1, "lease")
        self._asker = ThreadPoolExecutor(2, "cells")
        self._link(parts.latest.snapshot, parts.latest.snapshot.tenants)

    # The directory

    def apply(self, change: Change) -> None:
        """Go on under another directory: who counts together may be others. What that changes is claimed as asked."""
        tenants = change.snapshot.tenants if change.tenants is None else change.tenants
        self._link(change.snapshot, tenants)

    def _link(self, snapshot: Snapshot, tenant_ids: Iterable[str]) -> None:
        for tenant_id in tenant_ids:
            self._links.put(tenant_id, _capacities(snapshot.tenants.get(tenant_id)))

    def ring(self) -> None:
        """A request waits."""
        self._rung.set()
        self._rung_for_more.set()

    # The lease

    async def begin(self, address: str, machine: str, before: Sequence[str]) -> None:
        """Begin to live. `before`: gateways whose place this one takes; all that they own is its own.

        Raises: the store's own errors.
        """
        sent_at, at_us = self._cells.clock(), self._parts.clock.wall_us()
        await self._ask(self._store.tidy)
        await self._ask(partial(self._store.join, self._lease, address, machine, at_us))
        self._cells.tenure.renewed(lease_end(sent_at, self._seconds), self._cells.tenure.life)
        if before:
            await self._ask(partial(self._store.inherit, self._me, before, at_us))
            await self._live_again()
            # What was spent was read when those before had stopped granting: as for every gateway that starts.
            for tenant_id, cell in self._pins.items():
                self._since_us.setdefault(tenant_id, at_us)
                self._cells.tenure.open(tenant_id, cell, self._cells.tenure.life)

    async def keep_lease(self) -> None:
        """Renew it, for good. While the store is away this gateway goes on until its lease ends."""
        every, faults = self._seconds / RENEWALS_PER_LEASE, Repeats()
        while True:
            await asyncio.sleep(every)
            try:
                await self._renew()
            except Exception as error:  # open: what is owned is granted for until the lease ends
                if not self._cells.has_lease:
                    self._cells.tenure.vouched.clear()
                if faults.came(f"{type(error).__name__}: {error}", self._parts.clock.now()):
                    log.exception("the lease of this gateway could not be renewed")
            else:
                if faults.count and (count := faults.went_well(self._parts.clock.now())):
                    log.warning("the lease of this gateway is renewed again; it could not be %d times", count)

    async def _renew(self) -> None:
        tenure = self._cells.tenure
        life, sent_at = tenure.life, self._cells.clock()
        is_renewed = await self._ask(partial(self._store.renew, self._lease), self._renewer)
        if is_renewed and not tenure.is_between:
            tenure.renewed(lease_end(sent_at, self._seconds), life)
        elif not self._cells.is_lent:
            log.warning("the lease of this gateway has run out; it asks for what of its cells nobody has taken")
            await self._live_again()

    async def _live_again(self) -> None:
        tenure = self._cells.tenure
        async with self._turn:
            tenure.lapse()
            sent_at = self._cells.clock()
            cells, self._pins = await self._ask(partial(self._store.rejoin, self._lease), self._renewer)
            self._lose(tenure.keep(cells, self._pins, lease_end(sent_at, self._seconds)))

    def _lose(self, tenant_ids: Sequence[str]) -> None:
        """Other gateways have taken these: what they count is theirs."""
        lost = {*tenant_ids}
        for doubt in self._doubts:
            if doubt.taken.tenant_id in lost:
                self._parts.till.doubt(*doubt.account, -doubt.nanos)
        self._doubts = [one for one in self._doubts if one.taken.tenant_id not in lost]
        self._leaving.update(dict.fromkeys(tenant_ids))

    # Claims

    async def claim(self) -> None:
        """Claim what requests wait for, for good."""
        faults = Repeats()
        while True:
            await self._rung.wait()
            self._rung.clear()
            wanted = self._cells.take_wanted()
            if not wanted:
                continue
            try:
                is_settled = await self._claim(wanted)
                faults.went_well(self._parts.clock.now())
            except Exception as error:  # closed: nobody is granted anything
                is_settled = False
                if faults.came(f"{type(error).__name__}: {error}", self._parts.clock.now()):
                    log.exception("cells could not be claimed")
            if not is_settled:
                await asyncio.sleep(RETRY_SECONDS)
            self._cells.answer(wanted)

    async def _claim(self, tenant_ids: Sequence[str]) -> bool:
        """False: of one of them nobody can say whose it is, at this moment."""
        async with self._turn:
            tenure, settled = self._cells.tenure, True
            life, opening = tenure.life, dict[str, str]()
            for tenant_id in tenant_ids:
                component = self._links.around(tenant_id)
                if not component.homes:
                    continue
                found = await self._owner_of(tenant_id, component)
                if found == "":
                    settled = False
                elif found is not None and tenant_id not in tenure.tenants:
                    opening[tenant_id] = found
            return await self._open(opening, life) and settled

    async def _owner_of(self, tenant_id: str, component: Component) -> str | None:
        """The cell of a tenant that is this gateway's; None: it is another's, "": it is between two owners."""
        tenure = self._cells.tenure
        known = self._pins.get(tenant_id)
        if known in tenure.cells and tenure.cells.keys() >= {*self._links.capacities_of(tenant_id)}:
            return known
        life = tenure.life
        found = await self._claimed(tenant_id, component)
        if found is None:
            return ""
        if found.owner != self._me:
            self._cells.is_at(tenant_id, found.owner, found.address)
            return None
        if not tenure.take(found.cells, found.pins, life):
            return ""
        self._pins.update({one: cell for one, cell in found.pins.items() if cell in tenure.cells})
        self._begin_empty(found)
        cell, home = found.pins.get(tenant_id, ""), component.homes[tenant_id]
        if cell not in tenure.cells:
            return ""
        return cell if home in tenure.cells else await self._part(tenant_id, cell, home)

    async def _claimed(self, tenant_id: str, component: Component) -> Claimed | None:
        claim = partial(self._store.claim, self._me, tenant_id, component)
        found = await self._ask(partial(claim, self._parts.clock.wall_us()))
        if found is not None and found.owner != self._me and await self._ask(partial(self._is_dead, found.owner)):
            log.warning("gateway %s is dead: what it owned can be taken", found.owner)
            await self._ask(partial(self._store.end, [found.owner]))
            found = await self._ask(partial(claim, self._parts.clock.wall_us()))
        return found

    def _is_dead(self, gateway_id: str) -> bool:
        """Whether its process is known to have ended: by the lock on its journal, or because that is booked."""
        run = self._site.journal_dir / gateway_id
        if run.is_dir():
            return not is_alive(run)
        with self._site.engine.connect() as connection:
            return bool(closed_runs(connection, [gateway_id]))

    async def _part(self, tenant_id: str, cell: str, home: str) -> str:
        """A tenant draws on a capacity that another gateway owns: it goes there, when nothing of it is held here."""
        self._cells.tenure.close(tenant_id)
        if not self._is_idle(tenant_id):
            return ""
        await self._lower([tenant_id])
        await self._ask(partial(self._store.repin, self._me, tenant_id, cell, home))
        self._pins.pop(tenant_id, None)
        return ""

    def _is_idle(self, tenant_id: str) -> bool:
        """Whether no request of a tenant holds money or a session."""
        accounts = self._parts.till.accounts_by_name(tenant_id).values()
        if any(one.held_nanos != one.unknown_nanos for one in accounts):
            return False
        served = self._parts.population.served
        return all(one.is_unsent for one in served if one.principal.tenant.tenant_id == tenant_id)

    def _begin_empty(self, found: Claimed) -> None:
        """Limits of what was another's begin as if that one had used all there was."""
        if not found.rested_us:
            return
        now, snapshot = self._parts.clock.now(), self._parts.latest.snapshot
        began = {name: now - us / 1_000_000 for name, us in found.rested_us.items()}
        tenants = {one: began[cell] for one, cell in found.pins.items() if cell in began}
        lanes = {key.lane_name: key.tenant_id for key in snapshot.keys.values() if key.tenant_id in tenants}
        self._parts.lanes.register.begin_empty(began | tenants, lanes, now)

    # Opening

    async def _open(self, tenants: dict[str, str], life: int) -> bool:
        """Count what was spent of these tenants' budgets; then they are granted for. `tenants`: with their cells."""
        if not tenants:
            return True
        parts, at_us = self._parts, self._parts.clock.wall_us()
        parts.recorder.flush()  # what has ended here stands in the journal, where it is read
        before = {tenant_id: parts.till.spent_here(tenant_id) for tenant_id in tenants}
        site, zone = self._site, parts.settings.zone
        read = partial(open_tenants, site.engine, site.journal_dir, site.prices, zone, at_us, [*tenants], self._me)
        found = await self._ask(read)
        if parts.till.entry_id > found.opening.entry_id:
            return False  # a correction that it has not was counted meanwhile
        entered = {tenant_id for tenant_id, cell in tenants.items() if self._cells.tenure.open(tenant_id, cell, life)}
        for tenant_id in entered:
            self._since_us.setdefault(tenant_id, at_us)
            self._leaving.pop(tenant_id, None)
            parts.till.enter(tenant_id, found.opening, before[tenant_id])
        self._enter(found, entered)
        return len(entered) == len(tenants)

    def _enter(self, found: Takeover, entered: set[str]) -> None:
        for doubt in found.doubts:
            if doubt.taken.tenant_id in entered:
                self._parts.till.doubt(*doubt.account, doubt.nanos)
                self._doubts.append(doubt)
                if doubt.is_over:
                    self._end(doubt, doubt)
        for begun in found.running:
            if begun.tenant_id in entered and begun.attempt_id not in self._elsewhere:
                self._adopt(begun)

    def _adopt(self, begun: Begun) -> None:
        """Another gateway, which lives and has lost the tenant, is in the middle of an attempt: its session counts."""
        parts, snapshot = self._parts, self._parts.latest.snapshot
        tenant = snapshot.tenants.get(begun.tenant_id)
        key = next((one for one in snapshot.keys.values() if one.key_id == begun.key_id), None)
        credential = next((one for one in credentials_of(snapshot) if one.credential_id == begun.credential_id), None)
        if tenant is not None and key is not None and credential is not None:
            ask = self._elsewhere[begun.attempt_id] = Ask(tenant, key, credential, begun.model_requested, 0, untold)
            adopt(parts, ask, parts.clock.now())

    # Ceilings

    async def raise_ceilings(self) -> None:
        """Take more of the budgets that are nearly used up to what was taken, for good."""
        faults = Repeats()
        while True:
            try:
                await asyncio.wait_for(self._rung_for_more.wait(), RAISE_SECONDS)
            except TimeoutError:
                if not self._cells.asked:
                    continue
            self._rung_for_more.clear()
            try:
                is_done = await self._raise()
                faults.went_well(self._parts.clock.now())
            except Exception as error:  # closed: what was taken is not passed
                is_done = False
                if faults.came(f"{type(error).__name__}: {error}", self._parts.clock.now()):
                    log.exception("no more could be taken of budgets")
            if not is_done:
                await asyncio.sleep(RETRY_SECONDS)
            self._cells.answer_for_more()

    async def _raise(self) -> bool:
        till, tenure, at_us = self._parts.till, self._cells.tenure, self._parts.clock.wall_us()
        asked = self._cells.take_asked()
        rows: list[Taken] = []
        for ceiling in asked:
            account = till.account_under(ceiling)
            ceiling.is_asked = False
            if account is None or ceiling.tenant_id not in tenure.tenants:
                continue
            wanted = ceiling.next_taken(account.used_nanos, account.left_nanos(at_us))
            if wanted <= ceiling.taken:
                account.taken(wanted, at_us)
                continue
            since_us = self._since_us.get(ceiling.tenant_id, at_us)
            rows.append(Taken(ceiling.tenant_id, ceiling.key_id, ceiling.unit, self._me, wanted, since_us))
        written = await self._ask(partial(self._store.take, rows)) if rows else []
        by_name = {(one.tenant_id, one.key_id, one.unit): one.taken for one in written}
        for ceiling in asked:
            taken = by_name.get((ceiling.tenant_id, ceiling.key_id, ceiling.unit))
            account = till.account_under(ceiling) if taken is not None else None
            if account is not None and taken is not None:
                account.taken(taken, at_us)
        return len(written) == len(rows)

    # What is looked at again

    async def review(self) -> None:
        """Doubts that have ended, sessions elsewhere that have, accounts to be closed; for good."""
        faults = Repeats()
        while True:
            await asyncio.sleep(REVIEW_SECONDS)
            self._cells.forget_elsewhere()
            try:
                if self._doubts or self._elsewhere:
                    await self._review_left()
                if self._leaving:
                    async with self._turn:
                        await self._lower([one for one in self._leaving if self._is_idle(one)])
                faults.went_well(self._parts.clock.now())
            except Exception as error:  # closed: what is in doubt stays held
                if faults.came(f"{type(error).__name__}: {error}", self._parts.clock.now()):
                    log.exception("what other gateways have left could not be looked at")

    async def _review_left(self) -> None:
        """Of others: what they may have spent, and the sessions that they have."""
        site, doubts = self._site, self._doubts.copy()
        zone, at_us = self._parts.settings.zone, self._parts.clock.wall_us()
        elsewhere = [*self._elsewhere]  # one that is heard of meanwhile is looked for the next time
        now, running = await self._ask(
            partial(look_again, site.engine, site.journal_dir, site.prices, zone, at_us, doubts)
        )
        for before, after in zip(doubts, now, strict=True):
            if before in self._doubts:  # else its tenant was lost meanwhile
                self._end(before, after)
        for attempt_id in elsewhere:
            if attempt_id not in running and attempt_id in self._elsewhere:
                self._parts.lanes.release(self._elsewhere.pop(attempt_id))

    def _end(self, before: Doubt, after: Doubt) -> None:
        """What was found since then counts as what it is, and is in doubt no more."""
        till = self._parts.till
        found, left = become(before, after)
        if found:
            till.find(*before.account, found)
        till.doubt(*before.account, left - before.nanos)
        at = self._doubts.index(before)
        if left:
            after.nanos = left
            self._doubts[at] = after
        else:
            del self._doubts[at]

    async def _lower(self, tenant_ids: Sequence[str]) -> None:
        """Nothing of these is held, and nothing is granted: what was taken of them and not used is let go."""
        till, rows = self._parts.till, list[Taken]()
        for tenant_id in tenant_ids:
            for (key_id, unit), account in till.accounts_by_name(tenant_id).items():
                ceiling = account.ceiling
                if ceiling is not None and ceiling.taken:
                    used = account.used_nanos
                    account.lower_ceiling(used)
                    since_us = self._since_us.get(tenant_id, 0)
                    rows.append(Taken(tenant_id, key_id, unit, self._me, used, since_us))
        if rows:
            await self._ask(partial(self._store.lower, rows))
        for tenant_id in tenant_ids:
            self._leaving.pop(tenant_id, None)

    # Ending

    async def leave(self) -> None:
        """This gateway ends: others may take what it owned at once."""
        self._cells.tenure.lapse()
        await self._ask(partial(self._store.end, [self._me]))

    def close(self) -> None:
        for one in (self._renewer, self._asker):
            one.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, ask: Callable[[], T], executor: ThreadPoolExecutor | None = None) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor or self._asker, ask)


def _capacities(tenant: Tenant | None) -> list[str]:
    if tenant is None:
        return []
    return [capacity_name(one) for one in (tenant.credential, tenant.fallback) if one is not None]
