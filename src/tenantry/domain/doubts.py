"""What a gateway that took over may not know of the one before it, and what becomes of it (decision 0021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tenantry.domain.ceilings import unknown
from tenantry.domain.values import value

# What is in doubt, and sessions elsewhere, are looked at again so often.
REVIEW_SECONDS: Final = 1.0


@value
class Taken:
    """What one gateway has taken of one account since it opened it."""

    tenant_id: str
    key_id: str
    unit: str
    gateway_id: str
    taken: int
    since_us: int

    @property
    def name(self) -> tuple[str, str, str, str]:
        """Of which account ("" is the tenant's own key), and by whom."""
        return self.tenant_id, self.key_id, self.unit, self.gateway_id


@dataclass(slots=True)
class Doubt:
    """What one gateway may have spent of one account beside what is known of it.

    `known`: of what it has spent, by kinds of the current periods, which began at `starts_us`. `is_over`: nothing of it
    is in doubt any more. `rest` counts as spent, in the periods that hold `spent_at_us`: its machine was declared lost.
    """

    taken: Taken
    nanos: int
    known: Mapping[str, int]
    starts_us: Mapping[str, int]
    is_over: bool = False
    rest: int = 0
    spent_at_us: int = 0

    @property
    def account(self) -> tuple[str, str, str]:
        """Tenant, key ("" is the tenant's own), unit."""
        return self.taken.tenant_id, self.taken.key_id, self.taken.unit

    def rest_since(self, starts_us: int) -> int:
        """What of the rest counts in a period that began then and goes on."""
        return self.rest if self.spent_at_us >= starts_us else 0


def rest_of(doubt: Doubt) -> dict[str, int]:
    """What counts as spent though nobody knows it, by kinds of the current periods."""
    return {kind: rest for kind, starts_us in doubt.starts_us.items() if (rest := doubt.rest_since(starts_us))}


def found_since(before: Doubt, now: Doubt) -> dict[str, int]:
    """What counts as spent beside what did at the look before, by kinds of the periods that are current now.

    What is found of a lost machine after all is counted as what it is, and no more in the rest: that may be less.
    """
    found: dict[str, int] = {}
    for kind, starts_us in now.starts_us.items():
        counted = now.known.get(kind, 0) + now.rest_since(starts_us)
        if before.starts_us.get(kind) == starts_us:
            counted -= before.known.get(kind, 0) + before.rest_since(starts_us)
        if counted:
            found[kind] = counted
    return found


def weigh(
    taken: Taken,
    total: int,
    known: Mapping[str, int],
    starts_us: Mapping[str, int],
    *,
    is_known_whole: bool,
    lost_at_us: int | None,
) -> Doubt:
    """What is in doubt of what a gateway has taken, of which `total` is known, by kinds of the current periods `known`.

    `is_known_whole`: its journal is booked to its end, or can be read to its end and its process is dead. `lost_at_us`:
    when its machine was declared lost.
    """
    doubt = Doubt(taken, unknown(taken.taken, total), known, starts_us)
    if is_known_whole:
        doubt.is_over = True
    elif lost_at_us is not None:
        doubt.is_over, doubt.rest, doubt.spent_at_us = True, doubt.nanos, lost_at_us
    return doubt
