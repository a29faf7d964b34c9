"""What bills are made of, read from the store as it is at one moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Select, bindparam, func, select

from tenantry.billing.calculation import Bill, calculate
from tenantry.billing.corrections import Corrected, Reference, read_corrections, read_references, with_prices, without
from tenantry.billing.months import Month, Sold, read_month
from tenantry.billing.phrases import phrase
from tenantry.billing.rating import CORRECTION, LATE, Line
from tenantry.billing.surcharges import read_dearer, with_surcharges
from tenantry.billing.usage import ADJUSTED, UNPRICED, ReadUsage, Used, month_totals, read_usage, start_us
from tenantry.storage.directory import Directory
from tenantry.storage.directory.invoices import Covered, closed_months, covered_months, credits_of, standing_months
from tenantry.storage.prices import PriceHistory, read_price_changes
from tenantry.storage.records import PlanVersion, TenantPlan
from tenantry.storage.tables import gateway_keys, ledger


class SumsDiffer(Exception):
    """The rows do not add up to the ledger's sums; nothing is billed. `tenantry ledger verify` says where."""


@dataclass(frozen=True, slots=True)
class PricedAt:
    """Rows that were settled at one version of the prices; "" of those without any."""

    version: str
    rows: int
    cost_nanos: int


@dataclass(frozen=True, slots=True)
class Books:
    """Plans and who is on them, and the sums of the ledger in the agency's time zone."""

    connection: Connection
    zone: ZoneInfo
    versions: Sequence[PlanVersion]
    assigned: Mapping[str, Sequence[TenantPlan]]
    read: ReadUsage = read_usage
    _totals: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict[str, dict[str, tuple[int, int]]])
    _read_corrections: list[dict[str, list[Corrected]]] = field(default_factory=list[dict[str, list[Corrected]]])

    _history: list[PriceHistory] = field(default_factory=list[PriceHistory])

    def sold(self, tenant_id: str) -> Sold:
        return sold_to(self.assigned.get(tenant_id, ()), self.versions)

    def bill(self, tenant_id: str, month: Month) -> Bill:
        """The bill of a month by itself, whatever was issued; with what was booked in it to correct earlier months."""
        used = self._used(tenant_id, month)
        corrected = self._corrected(tenant_id, month) if any(one.outcome == ADJUSTED for one in used) else []
        own_used = self._with_prices(tenant_id, month, without(used, corrected), month.end)
        own = calculate(month, self.sold(tenant_id).stretches(month), own_used)
        lines = [
            self._correction(tenant_id, origin, month, [one for one in corrected if one.origin == origin])
            for origin in sorted({one.origin for one in corrected}, key=str)
        ]
        cost = sum(one.cost_nanos for one in corrected if not self._others_pay(tenant_id, one))
        return replace(own, lines=[*own.lines, *lines], corrected=corrected, corrected_cost_nanos=cost)

    def _others_pay(self, tenant_id: str, one: Corrected) -> bool:
        """Whether the tenant itself paid the upstream on the day of what is corrected."""
        on = next(some for some in self.sold(tenant_id).stretches(one.origin) if some.first <= one.of < some.end)
        return on.terms is not None and on.terms.byok

    def _used(self, tenant_id: str, month: Month) -> list[Used]:
        stretches = self.sold(tenant_id).stretches(month)
        used = self.read(self.connection, tenant_id, month, self.zone, (one.first for one in stretches))
        # Of any plan: usage is tried on others, too.
        if not any(one.terms.bears_surcharges for one in self.versions):
            return used
        if not self._history:
            self._history.append(PriceHistory(read_price_changes(self.connection)))
        dearer = read_dearer(self.connection, tenant_id, month, self.zone, self._history[0])
        return with_surcharges(used, dearer, self.zone)

    def _with_prices(self, tenant_id: str, month: Month, used: Sequence[Used], end: date) -> Sequence[Used]:
        """Of usage of a month, what was booked without a price and got it before the day `end` waits no more."""
        if all(one.outcome != UNPRICED for one in used):
            return used
        return with_prices(used, (one for one in self._corrections(tenant_id) if one.origin == month), end)

    def _corrected(self, tenant_id: str, month: Month) -> list[Corrected]:
        """What was booked in a month for earlier ones."""
        return [one for one in self._corrections(tenant_id) if one.is_of_before(month)]

    def _correction(self, tenant_id: str, origin: Month, month: Month, some: Sequence[Corrected]) -> Line:
        """What corrections that were booked in `month` change in the bill of the month of their attempts."""
        stretches = self.sold(tenant_id).stretches(origin)
        used = without(self._used(tenant_id, origin), self._corrected(tenant_id, origin))
        for one in self._corrections(tenant_id):
            if one.origin == origin and origin.end <= one.booked < month.first:
                used.append(one.used(one.of))
        changed = [*used, *(one.used(one.of) for one in some)]
        before, after = (
            calculate(origin, stretches, self._with_prices(tenant_id, origin, what, end)).net_nanos
            for what, end in ((used, month.first), (changed, month.end))
        )
        rows = sum(one.rows for one in some)
        text = phrase("correction", month=origin.first, count=rows)
        return Line(CORRECTION, text, after - before, rows, sum(one.cost_nanos for one in some))

    def _corrections(self, tenant_id: str) -> Sequence[Corrected]:
        """Read once for all tenants."""
        if not self._read_corrections:
            self._read_corrections.append(read_corrections(self.connection, self.zone))
        return self._read_corrections[0].get(tenant_id, ())

    def references(self, tenant_id: str, month: Month) -> list[Reference]:
        return read_references(self.connection, tenant_id, month, self.zone)

    def late(self, tenant_id: str, before: Month) -> list[tuple[Line, Covered]]:
        """What was booked for earlier months after their invoices: a line for each, and what that covers."""
        found: list[tuple[Line, Covered]] = []
        closed = closed_months(self.connection, tenant_id)
        done = {*standing_months(self.connection, tenant_id), *closed}
        covered = covered_months(self.connection, tenant_id)
        for name in sorted(done):
            month, known = read_month(name), covered.get(name, Covered(name, 0, 0, 0))
            if month.first >= before.first:
                continue
            is_as_covered = self._total(tenant_id, month) == (known.rows, known.cost_nanos)
            # Of a month that had nothing to bill, a plan may have been said since.
            is_as_covered &= name not in closed or self._is_without_plan(tenant_id, month)
            # What corrections change depends on usage of the month that they correct, which may have come later.
            if is_as_covered and not self._corrected(tenant_id, month):
                continue
            bill = self.bill(tenant_id, month)
            rows, cost = bill.rows - known.rows, bill.list_nanos - known.cost_nanos
            net = bill.net_nanos - known.net_nanos
            if not (rows or cost or net):
                continue
            line = Line(LATE, phrase("late", month=month.first), net, rows, cost)
            found.append((line, Covered(known.month, rows, cost, net)))
        return found

    def _is_without_plan(self, tenant_id: str, month: Month) -> bool:
        return all(one.terms is None for one in self.sold(tenant_id).stretches(month))

    def billed_elsewhere(self, tenant_id: str, month: Month) -> list[Line]:
        """What stands of a month on later invoices, as late usage, where its own was taken back."""
        known = covered_months(self.connection, tenant_id).get(str(month))
        if known is None or not (known.rows or known.cost_nanos or known.net_nanos):
            return []
        return [
            Line(LATE, phrase("billed_elsewhere", month=month.first), -known.net_nanos, -known.rows, -known.cost_nanos)
        ]

    def prices(self, tenant_id: str, month: Month) -> list[PricedAt]:
        """The versions of prices that the rows of a month name, from the rows themselves and not from their sums."""
        bounds = {"start_us": start_us(month.first, self.zone), "end_us": start_us(month.end, self.zone)}
        found = self.connection.execute(_query_of_prices(), {"tenant_id": tenant_id, **bounds})
        return [PricedAt(version or "", int(rows), int(cost or 0)) for version, rows, cost in found]

    def given_back(self, tenant_id: str, month: Month) -> int:
        """What credit notes over parts of the month's invoice gave back before taxes, in nano-dollars."""
        number = standing_months(self.connection, tenant_id).get(str(month))
        notes = credits_of(self.connection, number) if number is not None else []
        return -sum(one.document["net_nanos"] for one in notes)

    def key_labels(self, tenant_id: str) -> dict[str, str]:
        """What the tenant's keys are called, by their ids; a tenant that was deleted has none left."""
        columns = gateway_keys.c
        query = select(columns.key_id, columns.label).where(columns.tenant_id == tenant_id)
        return {str(key_id): str(label) for key_id, label in self.connection.execute(query)}

    def require_rows(self, bill: Bill, priced: Sequence[PricedAt]) -> None:
        """Raises: SumsDiffer: the bill is not what the rows of the ledger add up to."""
        if (bill.rows, bill.list_nanos) != (sum(one.rows for one in priced), sum(one.cost_nanos for one in priced)):
            raise SumsDiffer((SumsDiffer.__doc__ or "").strip())

    def _total(self, tenant_id: str, month: Month) -> tuple[int, int]:
        """Read once for all tenants: who bills two hundred asks of each of them."""
        if str(month) not in self._totals:
            self._totals[str(month)] = month_totals(self.connection, month, self.zone)
        return self._totals[str(month)].get(tenant_id, (0, 0))


@cache
def _query_of_prices() -> Select[*tuple[Any, ...]]:
    columns = ledger.c
    return (
        select(columns.price_version, func.count(), func.sum(columns.cost_nanos))
        .where(
            columns.tenant_id == bindparam("tenant_id"),
            columns.ended_at_us >= bindparam("start_us"),
            columns.ended_at_us < bindparam("end_us"),
        )
        .group_by(columns.price_version)
        .order_by(columns.price_version)
    )


def open_books(directory: Directory, connection: Connection, zone: ZoneInfo, read: ReadUsage = read_usage) -> Books:
    by_tenant: defaultdict[str, list[TenantPlan]] = defaultdict(list)
    for one in directory.list_tenant_plans():
        by_tenant[one.tenant_id].append(one)
    return Books(connection, zone, directory.list_plan_versions(), by_tenant, read)


def sold_to(assigned: Sequence[TenantPlan], versions: Sequence[PlanVersion]) -> Sold:
    plans = {one.plan for one in assigned}
    return Sold(assigned, [one for one in versions if one.plan in plans])
