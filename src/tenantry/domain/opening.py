"""What budgets have counted before a gateway begins; `ledger/opening.py` reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tenantry.domain.periods import Period

# A tenant and a key; key "" is the tenant as a whole.
Holder = tuple[str, str]
PERIODS = ("day", "week", "month")


@dataclass(slots=True)
class Opening:
    """Nano-dollars by tenant and key, by period kind, at `at_us`; key "" is the tenant as a whole.

    `entry_id` is the last row of the ledger that is in it: `adjustments_since` goes on from there. `ended`: attempts
    that were said to be running, have ended, and are in it. `tokens`: of all classes, by tenant and period kind, where
    a plan includes a number of them.
    """

    at_us: int
    entry_id: int = 0
    spent: dict[Holder, dict[str, int]] = field(default_factory=dict[Holder, dict[str, int]])
    ended: set[str] = field(default_factory=set[str])
    tokens: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])

    def of(self, tenant_id: str, key_id: str = "") -> dict[str, int]:
        return self.spent.get((tenant_id, key_id), {})

    def count(self, periods: Sequence[Period], tenant_id: str, key_id: str, ended_at_us: int, nanos: int) -> None:
        """An attempt that ended at `ended_at_us`, in those of the `periods` that hold that."""
        for period in periods:
            if period.start_us <= ended_at_us < period.end_us:
                self.add(tenant_id, key_id, period.kind, nanos)

    def add(self, tenant_id: str, key_id: str, kind: str, nanos: int) -> None:
        for holder in ((tenant_id, ""), (tenant_id, key_id)):
            kinds = self.spent.setdefault(holder, {})
            kinds[kind] = kinds.get(kind, 0) + nanos
