"""Takes of budgets what an owner may spend and hold of them, ahead of need and off the way of requests (0021)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final

from tenantry.domain.ceilings import RAISE_SECONDS, Ceiling
from tenantry.domain.doubts import Taken
from tenantry.domain.holds import NANOS, Account
from tenantry.domain.owners import RETRY_SECONDS, Cells
from tenantry.gateway.asking import Asking, Fault
from tenantry.gateway.exchange import Exchange
from tenantry.gateway.parts import Parts
from tenantry.storage.cells import CellStore

# Whether streams have what they may need next is looked at so often; a step lasts for some seconds.
AHEAD_SECONDS: Final = 1.0
# What an answer that is being streamed may take more of a budget whose cell has moved, before it is asked for: a step
# of 2,048 tokens of the dearest model (`StreamMeter`), at 75 dollars a million.
STEP_NANOS: Final = 160_000_000
STEP_TOKENS: Final = 4_096


class Raiser:
    """`since_us`: when a tenant was first opened here. `ask_owner`: of accounts whose tenants are granted for elsewhere
    by now, for the answers that have stayed here."""

    def __init__(self, parts: Parts, cells: Cells, store: CellStore, gateway_id: str, asking: Asking) -> None:
        self.since_us: dict[str, int] = {}
        self.ask_owner: Callable[[Taken], None] = _nobody
        self.rung = asyncio.Event()
        self._parts = parts
        self._cells = cells
        self._store = store
        self._me = gateway_id
        self._asking = asking
        self._lowered = 0  # how often something was
        self._written: set[tuple[str, str, str]] = set()  # what may stand in the store, whatever limits it by now

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
        till, tenure, at_us = self._parts.till, self._cells.tenure, self._parts.clock.wall_us()
        asked, lowered, streams = self._cells.take_asked(), self._lowered, self._streams()
        rows: list[Taken] = []
        steps = self._next_steps() if asked else Counter[str]()
        for ceiling in asked:
            account = till.account_under(ceiling)
            ceiling.is_asked = False
            if account is None:
                continue
            if ceiling.tenant_id not in tenure.tenants:
                if ceiling.tenant_id in streams:
                    self.ask_owner(self._row(ceiling, account.used_nanos + 2 * _steps(ceiling, streams)))
                continue
            step = steps[ceiling.tenant_id] if ceiling.unit == NANOS else 0
            wanted = ceiling.next_taken(account.used_nanos, account.left_nanos(at_us), step)
            if wanted <= ceiling.taken:
                account.taken(wanted, at_us)
                continue
            rows.append(self._row(ceiling, wanted))
        self._written.update((row.tenant_id, row.key_id, row.unit) for row in rows)
        written = await self._asking.ask(partial(self._store.take, rows)) if rows else []
        if lowered != self._lowered:
            return False  # what was written may have been lowered again since
        for row in written:
            self.is_taken(row)
        return len(written) == len(rows)

    def _row(self, ceiling: Ceiling, taken: int) -> Taken:
        since_us = max(ceiling.since_us, self.since_us.get(ceiling.tenant_id, 0))
        return Taken(ceiling.tenant_id, ceiling.key_id, ceiling.unit, self._me, taken, since_us)

    def is_taken(self, row: Taken) -> None:
        """It stands in the store."""
        account = self._parts.till.accounts_by_name(row.tenant_id).get((row.key_id, row.unit))
        if account is not None and account.ceiling is not None:
            account.taken(row.taken, self._parts.clock.wall_us())

    # Letting go

    def lowered(self, tenant_ids: Collection[str]) -> list[Taken]:
        """Nothing of these is granted here any more: what is taken from now on, here at once, and in the store next.

        That is what was spent and is held, and a step for each answer that goes on.
        """
        self._lowered += 1
        rows, streams = list[Taken](), self._streams()
        for tenant_id in tenant_ids:
            for (key_id, unit), account in self._parts.till.accounts_by_name(tenant_id).items():
                ceiling = account.ceiling
                if ceiling is not None and ceiling.taken:
                    rows.append(self._row(ceiling, self._lower(account, ceiling, streams)))
                elif (tenant_id, key_id, unit) in self._written:  # nothing limits it since
                    since_us = self.since_us.get(tenant_id, 0)
                    rows.append(Taken(tenant_id, key_id, unit, self._me, account.used_nanos, since_us))
        return rows

    def _lower(self, account: Account, ceiling: Ceiling, streams: Mapping[str, int]) -> int:
        used = account.used_nanos
        # Where answers cost more than was held for them, more is used than was taken.
        taken = max(used, min(ceiling.taken, used + _steps(ceiling, streams)))
        account.lower_ceiling(used)
        if taken > used:
            account.taken(taken, self._parts.clock.wall_us())
        return taken

    def _streams(self) -> Mapping[str, int]:
        """How many answers are being streamed, by tenant."""
        return Counter(one.principal.tenant.tenant_id for one in self._parts.population.streams)

    async def lower(self, tenant_ids: Collection[str]) -> None:
        """Raises: the store's own errors; then it is to be asked again."""
        rows = self.lowered(tenant_ids)
        if rows:
            await self._asking.ask(partial(self._store.lower, rows))


def _steps(ceiling: Ceiling, streams: Mapping[str, int]) -> int:
    """What the answers that are being streamed may take of an account before it is asked for."""
    return streams.get(ceiling.tenant_id, 0) * (STEP_NANOS if ceiling.unit == NANOS else STEP_TOKENS)


def _nobody(_row: Taken) -> None:
    """Nobody is asked yet."""
