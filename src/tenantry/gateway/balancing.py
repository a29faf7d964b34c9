"""Gives cells away of itself: to others when this gateway ends, to who has less to do, to who owns what they are linked
with, and all of them where it cannot write its journal (decision 0021). What is decided is `domain/balance.py`'s."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from tenantry.domain.balance import group_loads, joins, spread, to_give
from tenantry.domain.owners import Cells
from tenantry.domain.repeats import Repeats
from tenantry.gateway.asking import Asking, Fault
from tenantry.gateway.claiming import Claimer
from tenantry.gateway.moving import Mover
from tenantry.gateway.parts import Parts
from tenantry.storage.cells import CellStore
from tenantry.storage.leases import Loaded

log = logging.getLogger("tenantry.gateway")

# Linked cells of two owners cost a tenant its fallback until they are joined.
JOIN_SECONDS: Final = 1.0
# How much there is to do is looked at so often: what the last move has changed is in what all say by then.
ROUND_SECONDS: Final = 10.0
# What came lately stays: what it has to do is not known yet.
SETTLE_SECONDS: Final = 60.0
# Who asked for something so lately counts as load.
LATELY_SECONDS: Final = 60.0
# A journal that can be written again is believed when it has been for so long: a disk that is nearly full takes short
# lines and no long ones.
SOUND_SECONDS: Final = 10.0


class Balancer:
    def __init__(
        self, parts: Parts, cells: Cells, store: CellStore, claimer: Claimer, mover: Mover, asking: Asking, me: str
    ) -> None:
        self._parts = parts
        self._cells = cells
        self._store = store
        self._claimer = claimer
        self._mover = mover
        self._asking = asking
        self._me = me
        self._since: dict[str, float] = {}  # when a cell was first seen here
        self._load = 0
        self._unmoved: dict[str, Repeats] = {}  # by what is told of it
        self._failed_at: float | None = None  # when the journal could not be written, at last; None: it can
        claimer.load = lambda: self._load

    async def run(self) -> None:
        """By the clock, for good."""
        now = self._parts.clock.now
        fault, due = Fault("cells could not be balanced", now), now() + ROUND_SECONDS
        while True:
            await asyncio.sleep(JOIN_SECONDS)
            with fault.noted():  # open: what is owned stays owned
                if await self.stand_aside():
                    continue
                await self.join()
                if now() >= due:
                    due = now() + ROUND_SECONDS
                    await self.balance()

    # Load

    def _by_cell(self) -> dict[str, int]:
        """What there is to do for each cell."""
        now, pins, found = self._parts.clock.now(), self._cells.tenure.pins, dict[str, int]()
        for kind, lane in self._parts.lanes.register.own():
            cell = pins.get(lane.name) if kind == "tenant" else None
            if cell is not None and (lane.sessions or now - lane.used_at < LATELY_SECONDS):
                found[cell] = found.get(cell, 0) + 1 + lane.sessions
        return found

    async def balance(self) -> None:
        now, by_cell = self._parts.clock.now(), self._by_cell()
        self._load = sum(by_cell.values())
        self._since = {cell: self._since.get(cell, now) for cell in self._cells.tenure.cells}
        if not self._parts.settings.rebalances or not self._load:
            return
        others = await self._others()
        if not others:
            return
        since, groups = self._since, self._claimer.groups()
        settled = [group for group in groups if all(now - since.get(cell, now) >= SETTLE_SECONDS for cell in group)]
        loads = {one.gateway_id: one.load for one in others}
        found = to_give(self._me, group_loads(settled, by_cell), loads)
        if found is not None:
            cell, heir = found
            await self._move(cell, next(one for one in others if one.gateway_id == heir), "it has less to do")

    async def _others(self) -> list[Loaded]:
        return [one for one in await self._asking.ask(self._store.loads) if one.gateway_id != self._me]

    async def _move(self, cell: str, heir: Loaded, why: str) -> None:
        await self._moved([cell], heir, f"cell {cell} stays here, and was to be gateway {heir.gateway_id}'s ({why})")

    async def _moved(self, cells: Sequence[str], heir: Loaded, otherwise: str) -> bool:
        """`otherwise`: what is told where it comes to nothing, once: it is tried again."""
        problem = await self._mover.move(cells, heir.gateway_id, heir.address)
        if not problem:
            self._unmoved.pop(otherwise, None)
        elif self._unmoved.setdefault(otherwise, Repeats()).came(problem, self._parts.clock.now()):
            log.warning("%s: %s", otherwise, problem)
        return not problem

    # Joining

    async def join(self) -> None:
        """Where tenants draw on what two gateways own, the smaller side moves. Raises: the store's own errors."""
        split = dict.fromkeys(self._claimer.split)
        while split:
            tenant_id = next(iter(split))
            component = self._claimer.links.around(tenant_id)
            together = (tenant_id, *component.homes)
            for one in together:
                split.pop(one, None)
            sides = await self._asking.ask(partial(self._store.sides, component.capacities))
            heir = joins(self._me, {one.gateway_id: one.tenants for one in sides})
            if heir is not None:
                found = next(one for one in sides if one.gateway_id == heir)
                mine = next(one for one in sides if one.gateway_id == self._me)
                for cell in mine.cells:
                    await self._move(cell, Loaded(found.gateway_id, found.address, 0), "tenants draw on both")
            elif len(sides) < 2:
                for one in together:  # what nobody owns is claimed with the next request
                    self._claimer.split.pop(one, None)

    # A journal that cannot be written

    async def stand_aside(self) -> bool:
        """Whether others are to grant, because this gateway's journal cannot be written, so that it can send nothing.

        What it owns becomes theirs, and it claims nothing: who comes here is passed on. Raises: the store's own errors.
        """
        now, works, is_aside = self._parts.clock.now(), self._parts.recorder.works, self._failed_at is not None
        if not works:
            self._failed_at = now
        if self._failed_at is None:
            return False
        if now - self._failed_at >= SOUND_SECONDS:
            await self._claimer.take_part()
            self._failed_at = None
            log.warning("the journal can be written again: this gateway takes part again")
            return False
        if not is_aside:
            log.error("the journal cannot be written: what this gateway owns becomes others', where there are any")
        others = await self._others()
        await self._claimer.stand_aside(others)
        await self._give_to(others, "whose journal cannot be written")
        return True

    # The end

    async def give_away(self) -> None:
        """This gateway ends: others grant from now on, as far as there are any. Raises: the store's own errors."""
        await self._claimer.close_down()
        await self._give_to(await self._others(), "which ends")

    async def _give_to(self, others: Sequence[Loaded], why: str) -> None:
        by_id = {one.gateway_id: one for one in others}
        while by_id and self._cells.has_lease and (groups := self._claimer.groups()):
            heirs = {one.gateway_id: one.load for one in by_id.values()}
            given: dict[str, list[str]] = {}
            for cell, heir in spread(group_loads(groups, self._by_cell()), heirs).items():
                given.setdefault(heir, []).append(cell)
            for heir, cells in given.items():
                if not await self._moved(cells, by_id[heir], f"gateway {heir} gets nothing of this one, {why}"):
                    del by_id[heir]
