"""One tenant in full."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Final

from tenantry.billing.months import rounded
from tenantry.control.figures.budgets import BudgetFigure, budget_figures
from tenantry.control.figures.days import DaySums
from tenantry.control.figures.live import LiveFigures, live_figures
from tenantry.control.figures.scope import Scope
from tenantry.control.figures.time import last_days
from tenantry.control.site import Site, endpoints_of
from tenantry.domain.alerts import with_classic
from tenantry.domain.limits import LIMITS
from tenantry.domain.periods import MONTH, Period, period_of
from tenantry.domain.prices import PriceTable
from tenantry.ledger.explorer import Speed, speed_of
from tenantry.ledger.live import DeadCredential, LiveUse, dead_credentials
from tenantry.ledger.outbox import Outbox, RaisedAlert
from tenantry.ledger.series import Selection, Sums, sums_by, sums_within
from tenantry.ledger.tallies import Refusal, list_refusals
from tenantry.ledger.usage import UsageReport, month_bounds_us, month_usage
from tenantry.storage.database import reading
from tenantry.storage.prices import load_prices
from tenantry.storage.records import KeyRecord, TenantRecord

CHART_DAYS: Final = 30
ALERTS_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class LimitFigure:
    """`of`: "tier" or "own"."""

    name: str
    option: str
    words: str
    value: Any
    of: str


@dataclass(frozen=True, slots=True)
class Caching:
    """`hit_percent`: of the prompt tokens of a month, those read from the cache; None: there were none.

    `saved_nanos`: what they would have cost as fresh input less what writing them cost more, at today's list prices:
    an estimate. `by_us_nanos`: what of it came from breakpoints that the gateway added, as booked.
    """

    hit_percent: int | None
    saved_nanos: int
    by_us_nanos: int


@dataclass(frozen=True, slots=True)
class TenantFigures:
    """`usage` is what `usage SLUG` tells; the sums by key and by day are of the same month, and of the last days."""

    tenant: TenantRecord
    endpoints: list[str]
    month: Period
    usage: UsageReport
    by_key: list[tuple[str, str, Sums]]
    days: list[tuple[Period, Sums]]
    caching: Caching
    speed: Speed
    live: LiveFigures
    use: LiveUse | None
    limits: list[LimitFigure]
    budgets: list[BudgetFigure]
    keys: list[KeyRecord]
    dead: DeadCredential | None
    refusals: list[Refusal]
    alerts: list[RaisedAlert]
    thresholds: tuple[int, ...]


def tenant_figures(
    site: Site, remembered: DaySums, tenant: TenantRecord, month_label: str | None = None
) -> TenantFigures:
    """`month_label` None: the running month.

    Raises:
        BadMonth: it is not YYYY-MM.
    """
    now_us = time.time_ns() // 1000
    zone, slug, id_ = site.settings.zone, tenant.slug, tenant.tenant_id
    month = period_of(MONTH, now_us, zone)
    usage = month_usage(site.engine, id_, month_label or month.label, zone)
    if month_label is not None:
        month = _month(month_label, zone)
    days, keys = last_days(now_us, zone, CHART_DAYS), site.directory.list_keys(slug)
    with reading(site.engine) as connection:
        by_key = sums_by(connection, Selection(month.start_us, month.end_us, [id_]), "key_id")
        bounds = [days[0].start_us, *(day.end_us for day in days)]
        by_day = sums_within(connection, Selection(bounds[0], bounds[-1], [id_]), bounds)
        budgets = budget_figures(connection, zone, now_us, remembered, [id_]).get(id_, [])
        speed = speed_of(connection, id_)
    live = live_figures(site, Scope({slug: tenant}, False))
    own = site.directory.get_thresholds(slug)
    return TenantFigures(
        tenant,
        endpoints_of(site.settings, slug, tenant.hosts),
        month,
        usage,
        _named(by_key, {one.key_id: one.label for one in keys}),
        list(zip(days, by_day, strict=True)),
        caching_of(usage, load_prices(site.engine), datetime.now(UTC)),
        speed,
        live,
        (live.uses.get(slug) or LiveUse.idle(tenant.limits)) if live.gateways else None,
        limits_of(tenant),
        budgets,
        keys,
        dead_credentials(live.told).get(tenant.credential or ""),
        list_refusals(site.engine, id_),
        Outbox(site.engine).list_alerts(id_, ALERTS_SHOWN),
        own if own is not None else with_classic(site.settings.usage_alert_threshold_percent),
    )


def _month(label: str, zone: Any) -> Period:
    from_, end = month_bounds_us(label, zone)
    return Period(MONTH, label, from_, end)


def limits_of(tenant: TenantRecord) -> list[LimitFigure]:
    """Each limit in force, and whose it is."""
    values = tenant.limits.as_json()
    return [
        LimitFigure(name, limit.option, limit.help, values[name], "own" if name in tenant.own else "tier")
        for name, limit in LIMITS.items()
    ]


def _named(by_key: Mapping[str, Sums], labels: Mapping[str, str]) -> list[tuple[str, str, Sums]]:
    """Key id, its label ("" of one that is gone), sums; dearest first."""
    found = [(key_id, labels.get(key_id, ""), sums) for key_id, sums in by_key.items()]
    return sorted(found, key=lambda one: (-one[2].cost_nanos, one[0]))


def caching_of(usage: UsageReport, prices: PriceTable, at: datetime) -> Caching:
    """What caching did in a month."""
    read = sum(one.cache_read_tokens for one in usage.models)
    written = sum(one.cache_write_5m_tokens + one.cache_write_1h_tokens for one in usage.models)
    prompt = read + written + sum(one.input_tokens for one in usage.models)
    saved = 0
    for one in usage.models:
        rates = prices.rates(one.model, 0, at)
        if rates is None:
            continue
        fresh, write_5m, write_1h, cached, _ = rates
        saved += (fresh - cached) * one.cache_read_tokens
        saved -= (write_5m - fresh) * one.cache_write_5m_tokens + (write_1h - fresh) * one.cache_write_1h_tokens
    return Caching(rounded(Fraction(read * 100, prompt)) if prompt else None, saved, usage.saved_nanos)
