"""A scenario for `tenantry simulate`, of a site that runs: its tenants, limits, budgets and traffic."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median, pstdev
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import select

from tenantry.control.site import Site
from tenantry.control.toml_out import write_toml
from tenantry.domain.attempts import Outcome
from tenantry.domain.limits import Limits, as_json
from tenantry.domain.money import format_usd
from tenantry.storage.database import reading
from tenantry.storage.records import CredentialRecord, TenantRecord, UpstreamRecord
from tenantry.storage.tables import ledger

# More of the newest rows say nothing else about sizes and hours, and are some seconds of reading.
ROWS_MAX: Final = 500_000
# So much of a stream's requests between eight and eighteen on working days makes it an office's.
OFFICE_SHARE: Final = 0.9
_OFFICE_HOURS: Final = range(8, 18)
# The mean hour of an office for its busiest one, as `simulation/arrivals.py` draws a day.
_OFFICE_MEAN: Final = 0.76
_SATURDAY: Final = 5
MAX_TOKENS_LEAST: Final = 4_096

_HEAD = """\
What `tenantry simulate --from-site` found. Anthropic's own limits are in it where tenantry.toml declares them; write
in what an organization gives a minute where it does not (docs/simulate.md), or its limits count for nothing."""


@dataclass(slots=True)
class _Seen:
    """What a tenant asked of one model, streamed or not."""

    prompts: list[int] = field(default_factory=list[int])
    answers: list[int] = field(default_factory=list[int])
    cached: int = 0
    in_office: int = 0


def scenario_file(site: Site, days: int, now: datetime) -> str:
    """The TOML of the last `days`. A tenant without traffic in that time is left out."""
    zone = site.settings.zone
    since = now - timedelta(days=days)
    found, first = _read_traffic(site, since, zone)
    hours = max(1.0, (now - max(since, first or now)).total_seconds() / 3600)
    monday = (now.astimezone(zone) + timedelta(days=7 - now.astimezone(zone).weekday())).date()
    upstreams = {one.name: one for one in site.directory.list_upstreams()}
    credentials = {one.credential_id: one for one in site.directory.list_credentials()}
    budgets = site.directory.list_tenant_budgets()
    organizations: dict[str, Any] = {}
    tenants: dict[str, Any] = {}
    for tenant in site.directory.list_tenants():
        traffic = found.get(tenant.tenant_id)
        credential = credentials.get(tenant.credential_id or "")
        if not traffic or credential is None:
            continue
        name, organization = _organization(credential, upstreams[credential.upstream])
        organizations[name] = organization
        tenants[tenant.slug] = _tenant(tenant, name, budgets.get(tenant.tenant_id, {})) | {
            "traffic": [_traffic(model, streams, seen, hours, zone) for (model, streams), seen in traffic.items()]
        }
    tiers = {
        one.name: _limits(one.limits, Limits())
        for one in site.directory.list_tiers()
        if any(tenant["tier"] == one.name for tenant in tenants.values())
    }
    document = {
        "simulation": {"days": 1, "start": f"{monday}T00:00", "time_zone": str(zone), "seed": 1},
        "organizations": organizations,
        "tiers": tiers,
        "tenants": tenants,
    }
    return write_toml(document, {(): _HEAD})


def _read_traffic(
    site: Site, since: datetime, zone: ZoneInfo
) -> tuple[dict[str, dict[tuple[str, bool], _Seen]], datetime | None]:
    """By tenant, then by model and whether it is streamed; and when the first of it was."""
    columns = ledger.c
    query = (
        select(
            columns.tenant_id,
            columns.model_requested,
            columns.streaming,
            columns.begun_at_us,
            columns.input_tokens,
            columns.cache_write_5m_tokens,
            columns.cache_write_1h_tokens,
            columns.cache_read_tokens,
            columns.output_tokens,
        )
        .where(columns.ended_at_us >= int(since.timestamp() * 1_000_000))
        .where(columns.outcome == Outcome.SETTLED.value)
        .order_by(columns.ended_at_us.desc())
        .limit(ROWS_MAX)
    )
    found: dict[str, dict[tuple[str, bool], _Seen]] = {}
    first_us: int | None = None
    with reading(site.engine) as connection:
        for row in connection.execute(query):
            seen = found.setdefault(row.tenant_id, {}).setdefault((row.model_requested, row.streaming), _Seen())
            fresh = row.input_tokens + row.cache_write_5m_tokens + row.cache_write_1h_tokens
            seen.prompts.append(fresh + row.cache_read_tokens)
            seen.answers.append(row.output_tokens)
            seen.cached += row.cache_read_tokens
            at = datetime.fromtimestamp(row.begun_at_us / 1_000_000, zone)
            seen.in_office += at.weekday() < _SATURDAY and at.hour in _OFFICE_HOURS
            first_us = row.begun_at_us if first_us is None else min(first_us, row.begun_at_us)
    return found, None if first_us is None else datetime.fromtimestamp(first_us / 1_000_000, zone)


def _organization(credential: CredentialRecord, upstream: UpstreamRecord) -> tuple[str, dict[str, Any]]:
    """Whose capacity a credential draws on: its own, or that of all under its upstream where that is declared."""
    name = upstream.name if upstream.shares_capacity else credential.name
    told = {limit: value for limit, value in upstream.capacity.items() if value is not None}
    return name, told | ({} if told else {"declared": False})


def _tenant(tenant: TenantRecord, organization: str, budgets: dict[str, int]) -> dict[str, Any]:
    told: dict[str, Any] = {"tier": tenant.tier, "organization": organization}
    if tenant.own:
        told["limits"] = {name: "none" if value is None else as_json(value) for name, value in tenant.own.items()}
    if budgets:
        amounts = {period: format_usd(nanos).removeprefix("$").replace(",", "") for period, nanos in budgets.items()}
        told["budget"] = amounts | {"mode": tenant.budget_mode}
    return told


def _limits(limits: Limits, others: Limits) -> dict[str, Any]:
    """Those that differ from the defaults."""
    before = others.as_json()
    return {
        name: "none" if value is None else value for name, value in limits.as_json().items() if value != before[name]
    }


def _traffic(model: str, streams: bool, seen: _Seen, hours: float, zone: ZoneInfo) -> dict[str, Any]:
    count = len(seen.prompts)
    is_office = seen.in_office >= OFFICE_SHARE * count
    rate = count / hours
    if is_office:  # five days of ten hours a week, and the busiest hour above their mean
        rate = rate * (168 / 50) / _OFFICE_MEAN
    return {
        "shape": "office" if is_office else "steady",
        "requests_per_hour": max(0.001, round(rate, 3)),
        "model": model,
        "prompt_tokens": min(1_000_000, max(1, round(median(seen.prompts)))),
        "answer_tokens": min(128_000, max(1, round(median(seen.answers)))),
        "spread": round(min(3.0, pstdev(math.log(max(1, prompt)) for prompt in seen.prompts)), 2),
        "max_tokens": min(128_000, max(MAX_TOKENS_LEAST, *seen.answers)),
        "stream": streams,
        "cached_percent": round(100 * seen.cached / max(1, sum(seen.prompts)), 1),
    }
