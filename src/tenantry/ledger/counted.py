"""What budgets count of a period: one truth for the gateway's opening, `budget show` and the alerts on budgets.

Beside what is booked, it is what may be owed and has no cost yet: what was held for attempts without a price, and what
lines in quarantine may have cost.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from tenantry.domain.values import value
from tenantry.ledger.adjustments import held_unpriced
from tenantry.ledger.quarantine import held_in_quarantine
from tenantry.ledger.spending import spent_by_holder

# Tenant id and key id; key "" is the tenant as a whole.
Holder = tuple[str, str]


@value
class Counted:
    """Nano-dollars of one holder in one range of time."""

    spent_nanos: int = 0
    unpriced_nanos: int = 0
    quarantined_nanos: int = 0

    @property
    def nanos(self) -> int:
        return self.spent_nanos + self.unpriced_nanos + self.quarantined_nanos


NOTHING = Counted()


def counted_by_holder(
    connection: Connection,
    start_us: int,
    end_us: int,
    tenant_id: str | None = None,
    booked: Mapping[Holder, int] | None = None,
) -> dict[Holder, Counted]:
    """What budgets count from `start_us` up to and without `end_us`: of each tenant and of each of its keys.

    `tenant_id`: of this one alone. `booked`: what was spent by tenant and key, where that is known already.
    """
    spent = _with_tenants(booked if booked is not None else spent_by_holder(connection, start_us, end_us, tenant_id))
    unpriced = _with_tenants(held_unpriced(connection, start_us, end_us, tenant_id))
    quarantined = quarantined_by_holder(connection, start_us, end_us, tenant_id)
    return {
        holder: Counted(spent.get(holder, 0), unpriced.get(holder, 0), quarantined.get(holder, 0))
        for holder in {*spent, *unpriced, *quarantined}
    }


def quarantined_by_holder(
    connection: Connection, start_us: int, end_us: int, tenant_id: str | None = None
) -> dict[Holder, int]:
    """What of it is for lines in quarantine."""
    return _with_tenants(held_in_quarantine(connection, start_us, end_us, tenant_id))


def _with_tenants(by_key: Mapping[Holder, int]) -> dict[Holder, int]:
    sums: dict[Holder, int] = {}
    for (tenant_id, key_id), nanos in by_key.items():
        for holder in ((tenant_id, ""), (tenant_id, key_id)):
            sums[holder] = sums.get(holder, 0) + nanos
    return sums
