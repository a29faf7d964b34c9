"""What a month brings and costs the agency: revenue by kind against list cost; the running month also to its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any

from tenantry.billing.books import Books
from tenantry.billing.calculation import Bill, calculate
from tenantry.billing.invoice import Client
from tenantry.billing.months import Month, Sold, rounded
from tenantry.billing.rating import (
    BEYOND,
    CORRECTION,
    DISCOUNT,
    ESTIMATED,
    FEE,
    MINIMUM,
    SERVICE_FEE,
    SETUP,
    SLOTS,
    SURCHARGE,
    USAGE,
)
from tenantry.billing.usage import Used, start_us
from tenantry.domain.plans import Terms
from tenantry.storage.records import PlanVersion, TenantPlan

# A discount and the minimum belong to what is fixed: both come with the plan and not with a request.
_FIXED = (FEE, SLOTS, SETUP, DISCOUNT, MINIMUM)
_METERED = (USAGE, SURCHARGE, ESTIMATED, SERVICE_FEE)
_LONG_AGO = date(2000, 1, 1)


@dataclass(frozen=True, slots=True)
class Margin:
    """Of a tenant, a plan or all, in nano-dollars. `cost_nanos` is the list price of what the agency pays itself,
    `credits_nanos` what credit notes over parts gave back.

    `corrections_nanos` is revenue for corrections of earlier months that were booked in this one: what was closed stays
    as it was. `corrections_cost_nanos` of the cost is theirs.
    """

    fixed_nanos: int = 0
    metered_nanos: int = 0
    overage_nanos: int = 0
    cost_nanos: int = 0
    credits_nanos: int = 0
    corrections_nanos: int = 0
    corrections_cost_nanos: int = 0

    @property
    def revenue_nanos(self) -> int:
        return self.fixed_nanos + self.metered_nanos + self.overage_nanos + self.corrections_nanos - self.credits_nanos

    @property
    def margin_nanos(self) -> int:
        return self.revenue_nanos - self.cost_nanos

    def __add__(self, other: Margin) -> Margin:
        return Margin(
            self.fixed_nanos + other.fixed_nanos,
            self.metered_nanos + other.metered_nanos,
            self.overage_nanos + other.overage_nanos,
            self.cost_nanos + other.cost_nanos,
            self.credits_nanos + other.credits_nanos,
            self.corrections_nanos + other.corrections_nanos,
            self.corrections_cost_nanos + other.corrections_cost_nanos,
        )

    def as_json(self) -> dict[str, int]:
        revenue = ("fixed_nanos", "metered_nanos", "overage_nanos", "corrections_nanos", "credits_nanos")
        names = (*revenue, "revenue_nanos", "corrections_cost_nanos", "cost_nanos", "margin_nanos")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class TenantMargin:
    """`plan` is that of the month's last day. `projected` is at the end of a running month, at its pace so far.

    `fits`: of a tenant under water, the plan that would cost it least of those that cover its cost; None: none would.
    """

    slug: str
    plan: str
    now: Margin
    projected: Margin
    fits: str | None = None

    @property
    def is_of_something(self) -> bool:
        """Whether anything was billed, used or given back."""
        return (self.now, self.projected) != (Margin(), Margin())

    @property
    def is_under_water(self) -> bool:
        return self.projected.margin_nanos < 0


def margin_of(bill: Bill) -> Margin:
    """Of one bill."""

    def sum_of(kinds: Sequence[str]) -> int:
        return sum(line.nanos for line in bill.lines if line.kind in kinds)

    others_pay = [one for one in bill.stretches if one.terms is not None and one.terms.byok]
    cost = sum(
        one.cost_nanos
        for one in bill.used
        if not any(stretch.first <= one.first < stretch.end for stretch in others_pay)
    )
    return Margin(
        sum_of(_FIXED),
        sum_of(_METERED),
        sum_of([BEYOND]),
        cost + bill.corrected_cost_nanos,
        corrections_nanos=sum_of([CORRECTION]),
        corrections_cost_nanos=bill.corrected_cost_nanos,
    )


def tenant_margin(
    books: Books, client: Client, month: Month, plans: Mapping[str, Terms], now: datetime
) -> TenantMargin:
    """A tenant's month. `plans` are those that might fit."""
    bill, pace = books.bill(client.tenant_id, month), _pace(books, month, now)
    whole = [_scaled(one, pace) for one in bill.used]
    given_back = Margin(credits_nanos=books.given_back(client.tenant_id, month))
    found = TenantMargin(
        client.slug,
        bill.stretches[-1].plan,
        margin_of(bill) + given_back,
        margin_of(_with_corrections(calculate(month, bill.stretches, whole), bill)) + given_back,
    )
    return replace(found, fits=_fitting(month, whole, plans)) if found.is_under_water else found


def _with_corrections(whole: Bill, bill: Bill) -> Bill:
    """They are what they are: no pace is theirs."""
    lines, cost = [*whole.lines, *bill.correction_lines], bill.corrected_cost_nanos
    return replace(whole, lines=lines, corrected=bill.corrected, corrected_cost_nanos=cost)


def under_plan(month: Month, used: Sequence[Used], name: str, terms: Terms) -> Margin:
    """The same usage on another plan, as for a tenant that has been on it for long."""
    assigned = TenantPlan("", "", name, _LONG_AGO, None, "")
    version = PlanVersion(1, name, None, replace(terms, trial_days=0), "", datetime.min.replace(tzinfo=UTC))
    return margin_of(calculate(month, Sold([assigned], [version]).stretches(month), used))


def _fitting(month: Month, used: Sequence[Used], plans: Mapping[str, Terms]) -> str | None:
    found = {name: under_plan(month, used, name, terms) for name, terms in plans.items()}
    covering = [name for name, margin in found.items() if margin.margin_nanos >= 0]
    return min(covering, key=lambda name: (found[name].revenue_nanos, name), default=None)


def _pace(books: Books, month: Month, now: datetime) -> Fraction:
    """How much more a whole month is than what of it is over; 1 for a month that is over or has not begun."""
    start, end = start_us(month.first, books.zone), start_us(month.end, books.zone)
    at = int(now.timestamp()) * 1_000_000
    return Fraction(end - start, at - start) if start < at < end else Fraction(1)


def _scaled(used: Used, pace: Fraction) -> Used:
    if pace == 1:
        return used
    counts = {name: rounded(count * pace) for name, count in used.counts.items()}
    extra = {key: tokens * pace for key, tokens in used.extra.items()}
    return replace(used, cost_nanos=rounded(used.cost_nanos * pace), counts=counts, extra=extra)


def totals(margins: Iterable[Margin]) -> Margin:
    return sum(margins, Margin())


def grouped(found: Sequence[TenantMargin]) -> dict[str, list[TenantMargin]]:
    """By plan; "" for those on none."""
    return {name: [one for one in found if one.plan == name] for name in sorted({one.plan for one in found})}


def as_json(month: Month, found: Sequence[TenantMargin], is_running: bool) -> dict[str, Any]:
    """All of a month: by tenant, by plan and in total. Of one that is over, what is projected is what it was."""
    return {
        "month": str(month),
        "running": is_running,
        "tenants": [
            {
                "tenant": one.slug,
                "plan": one.plan or None,
                **_sums([one]),
                "under_water": one.is_under_water,
                "fits": one.fits,
            }
            for one in found
        ],
        "plans": {name: _sums(some) | _counts(some) for name, some in grouped(found).items()},
        "total": _sums(found) | _counts(found),
    }


def _sums(some: Sequence[TenantMargin]) -> dict[str, Any]:
    now, projected = totals(one.now for one in some), totals(one.projected for one in some)
    return {"now": now.as_json(), "projected": projected.as_json()}


def _counts(some: Sequence[TenantMargin]) -> dict[str, Any]:
    return {"tenants": len(some), "under_water": [one.slug for one in some if one.is_under_water]}
