"""What one gateway takes of budgets beforehand, and what of that it lets go: the rows that it has to write (0021).

Who writes them, `gateway/raising.py` or a simulated gateway, has `taken` called for what stands in the store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from tenantry.domain.ceilings import Ceiling
from tenantry.domain.doubts import Taken
from tenantry.domain.holds import NANOS, Account
from tenantry.domain.till import Till

# What an answer that is being streamed may take more of a budget whose cell has moved, before it is asked for: a step
# of 2,048 tokens of the dearest model (`StreamMeter`), at 75 dollars a million.
STEP_AHEAD_NANOS: Final = 160_000_000
STEP_AHEAD_TOKENS: Final = 4_096
NO_STREAMS: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(slots=True)
class Raises:
    """`rows` are to be written here. `of_owners`: to be asked of other gateways, which grant for their tenants by now
    while answers go on here."""

    rows: list[Taken] = field(default_factory=list[Taken])
    of_owners: list[Taken] = field(default_factory=list[Taken])


class Envelopes:
    """Of one life of the gateway `me`. `since_us`: when a tenant was first opened here; `lowerings`: how often
    something was let go, so that who has written something knows whether it may have been lowered again since."""

    __slots__ = ("_me", "_till", "_written", "lowerings", "since_us")

    def __init__(self, till: Till, me: str) -> None:
        self._till = till
        self._me = me
        self.since_us: dict[str, int] = {}
        self.lowerings = 0
        self._written: set[tuple[str, str, str]] = set()  # what may stand in the store, whatever limits it by now

    def raises(
        self,
        asked: Iterable[Ceiling],
        tenant_ids: Collection[str],
        at_us: int,
        steps: Mapping[str, int] = NO_STREAMS,
        streams: Mapping[str, int] = NO_STREAMS,
    ) -> Raises:
        """What is to be taken for the ceilings that asked. `tenant_ids`: those that are granted for here.

        `steps`: what all streams of a tenant may need at once, in nano-dollars; `streams`: how many it has.
        """
        found = Raises()
        for ceiling in asked:
            account = self._till.account_under(ceiling)
            ceiling.is_asked = False
            if account is None:
                continue
            if ceiling.tenant_id not in tenant_ids:
                if ceiling.tenant_id in streams or account.used_nanos > ceiling.taken:
                    wanted = account.used_nanos + 2 * _steps(ceiling, streams)
                    found.of_owners.append(self._row(ceiling, wanted))
                continue
            step = steps.get(ceiling.tenant_id, 0) if ceiling.unit == NANOS else 0
            wanted = ceiling.next_taken(account.used_nanos, account.left_nanos(at_us), step)
            if wanted <= ceiling.taken:
                account.taken(wanted, at_us)
            else:
                found.rows.append(self._row(ceiling, wanted))
        self._written.update((row.tenant_id, row.key_id, row.unit) for row in found.rows)
        return found

    def taken(self, row: Taken, at_us: int) -> None:
        """It stands in the store."""
        account = self._till.accounts_by_name(row.tenant_id).get((row.key_id, row.unit))
        if account is not None and account.ceiling is not None:
            account.taken(row.taken, at_us)

    def lowered(self, tenant_ids: Collection[str], at_us: int, streams: Mapping[str, int] = NO_STREAMS) -> list[Taken]:
        """Nothing of these is granted here any more: what is taken from now on, here at once, and in the store next.

        That is what was spent and is held, and a step for each answer that goes on.
        """
        self.lowerings += 1
        rows = list[Taken]()
        for tenant_id in tenant_ids:
            for (key_id, unit), account in self._till.accounts_by_name(tenant_id).items():
                ceiling = account.ceiling
                if ceiling is not None and ceiling.taken:
                    rows.append(self._row(ceiling, _lower(account, ceiling, at_us, streams)))
                elif (tenant_id, key_id, unit) in self._written:  # nothing limits it since
                    since_us = self.since_us.get(tenant_id, 0)
                    rows.append(Taken(tenant_id, key_id, unit, self._me, account.used_nanos, since_us))
        return rows

    def _row(self, ceiling: Ceiling, taken: int) -> Taken:
        since_us = max(ceiling.since_us, self.since_us.get(ceiling.tenant_id, 0))
        return Taken(ceiling.tenant_id, ceiling.key_id, ceiling.unit, self._me, taken, since_us)


def _lower(account: Account, ceiling: Ceiling, at_us: int, streams: Mapping[str, int]) -> int:
    used = account.used_nanos
    # Where answers cost more than was held for them, more is used than was taken.
    taken = max(used, min(ceiling.taken, used + _steps(ceiling, streams)))
    account.lower_ceiling(used)
    if taken > used:
        account.taken(taken, at_us)
    return taken


def _steps(ceiling: Ceiling, streams: Mapping[str, int]) -> int:
    """What the answers that are being streamed may take of an account before it is asked for."""
    return streams.get(ceiling.tenant_id, 0) * (STEP_AHEAD_NANOS if ceiling.unit == NANOS else STEP_AHEAD_TOKENS)
