"""Takes of budgets what an owner may spend and hold of them, ahead of need and off the way of requests (0021)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final

from tenantry.domain.ceilings import RAISE_SECONDS
from tenantry.domain.doubts import Taken
from tenantry.domain.envelopes import NO_STREAMS, Envelopes
from tenantry.domain.holds import NANOS
from tenantry.domain.owners import RETRY_SECONDS, Cells
from tenantry.gateway.asking import Asking, Fault
from tenantry.gateway.exchange import Exchange
from tenantry.gateway.parts import Parts
from tenantry.storage.cells import CellStore

# Whether streams have what they may need next is looked at so often; a step lasts for some seconds.
AHEAD_SECONDS: Final = 1.0


class Raiser:
    """What is to be taken or let go, `Envelopes` decides. `ask_owner`: of accounts whose tenants are granted for
    elsewhere by now, for the answers that have stayed here."""

    def __init__(self, parts: Parts, cells: Cells, store: CellStore, gateway_id: str, asking: Asking) -> None:
        self.ask_owner: Callable[[Taken], None] = _nobody
        self.rung = asyncio.Event()
        self._parts = parts
        self._cells = cells
        self._store = store
        self._envelopes = Envelopes(parts.till, gateway_id)
        self._asking = asking

    @property
    def since_us(self) -> dict[str, int]:
        """When a tenant was first opened here."""
        return self._envelopes.since_us

    async def run(self) -> None:
        """Take more of the budgets that are nearly used up to what was taken, for good."""
        now = self._parts.clock.now
        fault, look_at = Fault("no more could be taken of budgets", now), now()
        while True:
            try:
                await asyncio.wait_for(self.rung.wait(), RAISE_SECONDS)
            except TimeoutError:
                if now() >= look_at:
                    look_at = now() + AHEAD_SECONDS
                    self.ask_ahead()
                if not self._cells.asked:
                    continue
            self.rung.clear()
            is_done = False
            with fault.noted():  # closed: what was taken is not passed
                is_done = await self.raise_asked()
            if not is_done:
                await asyncio.sleep(RETRY_SECONDS)
            self._cells.answer_for_more()

    def ask_ahead(self) -> None:
        """Streams that run together need their next steps together: as much has to be taken before they do."""
        for tenant_id, step in self._next_steps().items():
            for account in self._parts.till.accounts_by_name(tenant_id).values():
                ceiling = account.ceiling
                if ceiling is not None and account.unit == NANOS and ceiling.taken - account.used_nanos < step:
                    ceiling.ask(0)

    def _next_steps(self) -> Counter[str]:
        """What all streams of each tenant may need at once, in nano-dollars."""
        steps = Counter[str]()
        for one in self._parts.population.streams:
            attempt = one.in_hand[1] if isinstance(one, Exchange) else None
            if attempt is not None and attempt.money is not None:
                steps[one.principal.tenant.tenant_id] += attempt.money.step_nanos
        return steps

    async def raise_asked(self) -> bool:
        envelopes, at_us = self._envelopes, self._parts.clock.wall_us()
        asked, lowerings = self._cells.take_asked(), envelopes.lowerings
        steps = self._next_steps() if asked else NO_STREAMS
        raises = envelopes.raises(asked, self._cells.tenure.tenants, at_us, steps, self._streams())
        for row in raises.of_owners:
            self.ask_owner(row)
        rows = raises.rows
        written = await self._asking.ask(partial(self._store.take, rows)) if rows else []
        if lowerings != envelopes.lowerings:
            return False  # what was written may have been lowered again since
        for row in written:
            self.is_taken(row)
        return len(written) == len(rows)

    def is_taken(self, row: Taken) -> None:
        """It stands in the store."""
        self._envelopes.taken(row, self._parts.clock.wall_us())

    # Letting go

    def lowered(self, tenant_ids: Collection[str]) -> list[Taken]:
        """Nothing of these is granted here any more: what is taken from now on, here at once, and in the store next."""
        return self._envelopes.lowered(tenant_ids, self._parts.clock.wall_us(), self._streams())

    def _streams(self) -> Mapping[str, int]:
        """How many answers are being streamed, by tenant."""
        return Counter(one.principal.tenant.tenant_id for one in self._parts.population.streams)

    async def lower(self, tenant_ids: Collection[str]) -> None:
        """Raises: the store's own errors; then it is to be asked again."""
        rows = self.lowered(tenant_ids)
        if rows:
            await self._asking.ask(partial(self._store.lower, rows))


def _nobody(_row: Taken) -> None:
    """Nobody is asked yet."""
