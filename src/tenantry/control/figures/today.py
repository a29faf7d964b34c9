"""The first page of the day: money, health, and who needs attention."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, func, select

from tenantry.control.figures.attention import Concern, concerns
from tenantry.control.figures.budgets import BudgetFigure, budget_figures, of_tenant
from tenantry.control.figures.days import DaySums, of_proof, total, unpriced
from tenantry.control.figures.live import LiveFigures, live_figures
from tenantry.control.figures.scope import Scope
from tenantry.control.figures.time import HOUR_US, hours_of, projected
from tenantry.control.site import Site
from tenantry.domain.periods import DAY, MONTH, Period, period_of, previous_period
from tenantry.domain.proof import is_of_proof
from tenantry.ledger.live import DeadCredential, dead_credentials
from tenantry.ledger.outbox import Outbox, RaisedAlert
from tenantry.ledger.series import NOTHING, Selection, Sums, summed, tenants_by_quarter
from tenantry.ledger.spending import spent_by_holder
from tenantry.storage.database import reading
from tenantry.storage.leases import LeaseStore
from tenantry.storage.records import CredentialRecord
from tenantry.storage.tables import refusal_sums

ALERTS_SHOWN = 5
TENANTS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class RefusalFigure:
    """How often a reason was given today, and to whom; `last_us` begins the last quarter of an hour in which it was.

    `recent`: how often within the last hour, by slug; `left`: also to tenants that left.
    """

    reason: str
    count: int
    slugs: list[str]
    left: bool
    last_us: int
    recent: dict[str, int]


@dataclass(frozen=True, slots=True)
class UpstreamFigure:
    """`dead`: credentials of it that are of no use now."""

    name: str
    base_url: str
    is_up: bool
    credentials: int
    dead: dict[str, DeadCredential]
    announced: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Today:
    """Money is nano-dollars. `yesterday_nanos` is of the same stretch of the day before; `hours`: of today.

    All is of clients; `proof` and `proof_month` are the isolation proof's own, today and this month.
    """

    at: datetime
    day: Period
    month: Period
    today: Sums
    yesterday_nanos: int
    this_month: Sums
    projected_nanos: int
    budget_nanos: int
    budgeted_nanos: int
    hours: list[tuple[int, Sums]]
    by_tenant: list[tuple[str, Sums]]
    live: LiveFigures
    refusals: list[RefusalFigure]
    upstreams: list[UpstreamFigure]
    concerns: list[Concern]
    alerts: list[RaisedAlert]
    proof: Sums
    proof_month: Sums


def today_figures(site: Site, days: DaySums, scope: Scope, *, with_site: bool, now_us: int | None = None) -> Today:
    """`with_site`: what is the whole site's too (upstreams, credentials, prices)."""
    now_us = now_us or time.time_ns() // 1000
    zone, ids = site.settings.zone, scope.ids
    day, month = period_of(DAY, now_us, zone), period_of(MONTH, now_us, zone)
    before = previous_period(day, zone)
    live, alerts = live_figures(site, scope), _alerts(site, scope)
    dead = dead_credentials(live.told) if with_site else {}
    found = site.directory.list_credentials() if with_site else []
    hours = hours_of(day)
    with reading(site.engine) as connection:
        quarters = tenants_by_quarter(connection, Selection(day.start_us, day.end_us, ids))
        in_month = days.between(connection, month.start_us, month.end_us, now_us)
        so_far = min(before.end_us, before.start_us + now_us - day.start_us)
        yesterday = spent_by_holder(connection, before.start_us, so_far)
        budgets = budget_figures(connection, zone, now_us, days, ids)
        refused = _refusals(connection, scope, day, now_us)
    in_tenant: dict[str, list[Sums]] = {}
    of_hour: list[list[Sums]] = [[] for _ in hours[1:]]
    of_proof_today: list[Sums] = []
    for quarter_us, tenant_id, sums in quarters:
        if is_of_proof(tenant_id):
            of_proof_today.append(sums)
            continue
        in_tenant.setdefault(tenant_id, []).append(sums)
        of_hour[(quarter_us - day.start_us) // HOUR_US].append(sums)
    by_tenant, by_hour = {id_: summed(some) for id_, some in in_tenant.items()}, list(map(summed, of_hour))
    today, this_month = summed(by_tenant.values()), total(in_month, ids)
    monthly = [one for some in budgets.values() for one in of_tenant(some) if one.period.kind == MONTH]
    upstreams = _upstreams(site, live, found, dead) if with_site else []
    without_price = unpriced(in_month) if with_site else []
    return Today(
        datetime.fromtimestamp(now_us / 1_000_000, UTC),
        day,
        month,
        today,
        sum(nanos for (tenant_id, _), nanos in yesterday.items() if _counts(tenant_id, ids)),
        this_month,
        projected(this_month.cost_nanos, month, now_us),
        sum(one.amount_nanos for one in monthly),
        sum(one.counted.nanos for one in monthly),
        list(zip(hours, by_hour, strict=False)),
        _named(by_tenant, scope),
        live,
        refused,
        upstreams,
        concerns(
            site,
            scope,
            _by_slug(budgets, scope),
            live,
            dead,
            without_price,
            {slug: many for one in refused if one.reason == "budget" for slug, many in one.recent.items()},
            _silent(site, live) if with_site else 0,
            with_site=with_site,
        ),
        alerts,
        summed(of_proof_today),
        of_proof(in_month) if scope.is_whole else NOTHING,
    )


def _silent(site: Site, live: LiveFigures) -> int:
    """Gateways of a cluster that live, and of which no control has told."""
    return len({*LeaseStore(site.engine).live()} - {one.run_id for one in live.told})


def _counts(tenant_id: str, ids: list[str] | None) -> bool:
    """Whether it is a client's, and one of `ids`."""
    return not is_of_proof(tenant_id) and (ids is None or tenant_id in ids)


def _by_slug(budgets: dict[str, list[BudgetFigure]], scope: Scope) -> dict[str, list[BudgetFigure]]:
    by_id = scope.by_id()
    return {by_id[id_].slug: some for id_, some in budgets.items() if id_ in by_id}


def _named(by_tenant: dict[str, Sums], scope: Scope) -> list[tuple[str, Sums]]:
    """Dearest first. Tenants that left are together under "": their rows stay."""
    by_id, gone = scope.by_id(), Sums()
    found: list[tuple[str, Sums]] = []
    for tenant_id, sums in by_tenant.items():
        if tenant_id in by_id:
            found.append((by_id[tenant_id].slug, sums))
        else:
            gone += sums
    found.sort(key=lambda one: (-one[1].cost_nanos, one[0]))
    return found + ([("", gone)] if gone.rows else [])


def _alerts(site: Site, scope: Scope) -> list[RaisedAlert]:
    listed = Outbox(site.engine).list_alerts(None, 200 if not scope.is_whole else ALERTS_SHOWN)
    return [one for one in listed if scope.is_whole or one.slug in scope.tenants][:ALERTS_SHOWN]


def _refusals(connection: Connection, scope: Scope, day: Period, now_us: int) -> list[RefusalFigure]:
    """Reasons that were given today, the most frequent first."""
    columns = refusal_sums.c
    query = (
        select(columns.reason, columns.tenant_id, columns.quarter_us, func.sum(columns["count"]))
        .where(columns.quarter_us >= day.start_us, columns.quarter_us < day.end_us)
        .group_by(columns.reason, columns.tenant_id, columns.quarter_us)
    )
    by_id = scope.by_id()
    found: dict[str, list[tuple[str, int, int]]] = {}
    for reason, tenant_id, quarter_us, count in connection.execute(query):
        if scope.sees(tenant_id) and not is_of_proof(tenant_id):
            found.setdefault(reason, []).append((tenant_id, quarter_us, int(count)))
    figures: list[RefusalFigure] = []
    for reason, given in found.items():
        recent: dict[str, int] = {}
        for tenant_id, quarter_us, count in given:
            if tenant_id in by_id and quarter_us > now_us - HOUR_US:
                recent[by_id[tenant_id].slug] = recent.get(by_id[tenant_id].slug, 0) + count
        ids = {tenant_id for tenant_id, _, _ in given}
        figures.append(
            RefusalFigure(
                reason,
                sum(count for _, _, count in given),
                sorted(by_id[id_].slug for id_ in ids if id_ in by_id),
                any(id_ and id_ not in by_id for id_ in ids),
                max(quarter_us for _, quarter_us, _ in given),
                recent,
            )
        )
    return sorted(figures, key=lambda one: (-one.count, one.reason))


def _upstreams(
    site: Site, live: LiveFigures, found: list[CredentialRecord], dead: dict[str, DeadCredential]
) -> list[UpstreamFigure]:
    down = set(live.upstreams_down)
    figures: list[UpstreamFigure] = []
    for one in site.directory.list_upstreams():
        own = [credential for credential in found if credential.upstream == one.name]
        announced: dict[str, dict[str, int]] = {}
        for capacity in (one.upstream_id, *(credential.credential_id for credential in own)):
            for model, limits in live.announced.get(capacity, {}).items():
                announced.setdefault(model, dict(limits))
        spent = {credential.name: dead[credential.name] for credential in own if credential.name in dead}
        figures.append(UpstreamFigure(one.name, one.base_url, one.name not in down, len(own), spent, announced))
    return figures
