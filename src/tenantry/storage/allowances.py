"""What tenants' plans let them use, where one of them blocks or throttles what is beyond the included."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection
from datetime import date
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, func, select

from tenantry.domain.allowances import Allowance, Sold, Spent, is_bounded, start_of
from tenantry.domain.periods import DAY, MONTH
from tenantry.domain.plans import PRICED_TOKENS, Dated, Terms, read_terms
from tenantry.storage.billing_tables import plan_versions, tenant_plans
from tenantry.storage.tables import usage_rollup


def read_allowances(
    connection: Connection,
    ids: Collection[str] | None,
    today: date,
    zone: ZoneInfo,
    counts: Callable[[Terms], bool] = is_bounded,
) -> dict[str, Allowance]:
    """By tenant, of some tenants or of all; who has no plan that counts, at no time, is not in it.

    Days are the agency's.

    `counts`: those that bound usage, or also those (`has_number`) that bill what is beyond the included.
    """
    versions = _versions(connection)
    bounding = {plan for plan, some in versions.items() if any(counts(one.what) for one in some)}
    if not bounding:
        return {}
    rows = select(tenant_plans).order_by(tenant_plans.c.change_id)
    if ids is not None:
        rows = rows.where(tenant_plans.c.tenant_id.in_(ids))
    assigned: defaultdict[str, list[Dated[str | None]]] = defaultdict(list)
    for row in connection.execute(rows):
        assigned[row.tenant_id].append(Dated(date.fromisoformat(row.from_day), row.plan))
    found: dict[str, Allowance] = {}
    for tenant_id, some in assigned.items():
        plans = {one.what for one in some if one.what is not None}
        if plans & bounding:
            sold = tuple(Sold(plan, tuple(versions.get(plan, ()))) for plan in sorted(plans))
            allowance = Allowance(tuple(some), sold)
            before = _spent_before(connection, tenant_id, allowance.starts(today), zone)
            tokens: tuple[tuple[str, int], ...] = ()
            if allowance.counts_tokens:
                tokens = tuple(
                    (kind, tokens_of(connection, tenant_id, start_of(first, zone)))
                    for kind, first in ((DAY, today), (MONTH, today.replace(day=1)))
                )
            found[tenant_id] = Allowance(tuple(some), sold, before, tokens)
    return found


def _versions(connection: Connection) -> dict[str, list[Dated[Terms]]]:
    found: defaultdict[str, list[Dated[Terms]]] = defaultdict(list)
    for row in connection.execute(select(plan_versions).order_by(plan_versions.c.version_id)):
        day = date.fromisoformat(row.from_day) if row.from_day else None
        found[row.plan].append(Dated(day, read_terms(json.loads(row.terms))))
    return found


def _spent_before(connection: Connection, tenant_id: str, days: Collection[date], zone: ZoneInfo) -> tuple[Spent, ...]:
    """What is booked of the month before each of these days. What is not booked yet counts as spent since: less is
    left then than there is, until it is."""
    columns = usage_rollup.c
    tokens = sum((columns[name] for name in PRICED_TOKENS[1:]), columns[PRICED_TOKENS[0]])
    found: list[Spent] = []
    for day in days:
        sums = select(func.sum(columns.cost_nanos), func.sum(tokens)).where(
            columns.tenant_id == tenant_id,
            columns.quarter_us >= start_of(day.replace(day=1), zone),
            columns.quarter_us < start_of(day, zone),
        )
        nanos, counted = connection.execute(sums).one()
        found.append(Spent(day, int(nanos or 0), int(counted or 0)))
    return tuple(found)


def tenants_counting_tokens(connection: Connection) -> set[str]:
    """Tenants that are, were or will be on a plan that includes tokens and bounds by them."""
    plans = {
        plan
        for plan, some in _versions(connection).items()
        if any(is_bounded(one.what) and one.what.included_tokens for one in some)
    }
    if not plans:
        return set()
    query = select(tenant_plans.c.tenant_id).where(tenant_plans.c.plan.in_(plans))
    return set(connection.execute(query).scalars())


def tokens_of(connection: Connection, tenant_id: str, start_us: int, end_us: int | None = None) -> int:
    """The tokens of all classes that a tenant used, until now where no end is said."""
    columns = usage_rollup.c
    tokens = sum((columns[name] for name in PRICED_TOKENS[1:]), columns[PRICED_TOKENS[0]])
    query = select(func.sum(tokens)).where(columns.tenant_id == tenant_id, columns.quarter_us >= start_us)
    if end_us is not None:
        query = query.where(columns.quarter_us < end_us)
    return int(connection.execute(query).scalar() or 0)
