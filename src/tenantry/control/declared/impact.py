"""What a change does to committed money and to requests that are running."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tenantry.control.declared.changes import leaving
from tenantry.control.declared.model import Declaration, TenantBlock
from tenantry.control.declared.state import Standing
from tenantry.control.live_everywhere import live_everywhere
from tenantry.control.site import Site
from tenantry.domain.money import format_usd
from tenantry.domain.plans import Terms
from tenantry.ledger.live import sum_live


@dataclass(frozen=True, slots=True)
class Commitment:
    """Money a month: fees that clients owe, and what the budgets allow them to cost; active tenants only."""

    fees_nanos: int
    budgets_nanos: int
    without_budget: int


@dataclass(frozen=True, slots=True)
class MoneyEffect:
    before: Commitment
    after: Commitment

    def words(self) -> Iterator[str]:
        if self.before == self.after:
            return
        for what, old, new in (
            ("Plan fees a month", self.before.fees_nanos, self.after.fees_nanos),
            ("Budgets a month", self.before.budgets_nanos, self.after.budgets_nanos),
        ):
            sign = "+" if new >= old else ""
            yield f"{what}: {format_usd(old)} -> {format_usd(new)} ({sign}{format_usd(new - old)})"
        old, new = self.before.without_budget, self.after.without_budget
        yield f"Tenants without a monthly budget: {old} -> {new}"


def money_effect(declared: Declaration, standing: Standing) -> MoneyEffect:
    before = {slug: tenant.block for slug, tenant in standing.tenants.items()}
    gone = leaving(declared, standing) if declared.whole else []
    after = {slug: block for slug, block in {**before, **declared.tenants}.items() if slug not in gone}
    return MoneyEffect(
        _commitment(before.values(), standing.plans),
        _commitment(after.values(), {**standing.plans, **declared.plans}),
    )


def _commitment(blocks: Iterable[TenantBlock], plans: Mapping[str, Terms]) -> Commitment:
    active = [block for block in blocks if block.status == "active"]
    return Commitment(
        sum(plans[block.plan].fee_nanos for block in active if block.plan is not None and block.plan in plans),
        sum(block.month_nanos or 0 for block in active),
        sum(block.month_nanos is None for block in active),
    )


def read_running(site: Site) -> Counter[str]:
    """Requests in flight by tenant id, over every gateway that runs."""
    running: Counter[str] = Counter()
    for tenant_id, use in sum_live(live_everywhere(site.engine, site.settings.journal_dir)).tenants.items():
        running[tenant_id] = use.sessions
    return running


def session_effect(declared: Declaration, standing: Standing, running: Mapping[str, int]) -> Iterator[str]:
    """In words, what happens to requests that run now."""
    tiers = {**standing.tiers, **declared.tiers}
    gone = set(leaving(declared, standing)) if declared.whole else set[str]()
    for slug, tenant in standing.tenants.items():
        count = running.get(tenant.tenant_id, 0)
        if not count:
            continue
        block = declared.tenants.get(slug, tenant.block)
        if slug in gone or (block.status != "active" and tenant.block.status == "active"):
            yield f"{slug}: {count} requests in flight now are cut off within 5 s"
            continue
        if block.tier not in tiers:
            continue
        most = tiers[block.tier].with_changes(block.limits).sessions_max
        before = standing.tiers[tenant.block.tier].with_changes(tenant.block.limits).sessions_max
        if most < before and most < count:
            yield (
                f"{slug}: {count} requests in flight now, the new limit is {most}: they end in peace, "
                f"and new ones wait until fewer than {most} are left"
            )
