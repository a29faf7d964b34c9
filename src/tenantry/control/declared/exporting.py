"""Today's state as a file of tenants. A plan made from it has nothing to do but to mark what it declares."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tenantry.control.declared.model import KeyBlock, TenantBlock
from tenantry.control.declared.state import Standing, StandingTenant
from tenantry.control.toml_out import write_toml
from tenantry.domain.billing_details import Details
from tenantry.domain.limits import EVERY, LIMITS, NO_LIMIT, Limits, as_json
from tenantry.domain.money import NANOS_PER_USD
from tenantry.domain.plans import Terms
from tenantry.storage.directory import SHIPPED_SESSIONS, first_limits

_AGREED = ("plan_slots", "plan_from")
_HEAD = (
    "All tenants, as they stood on {at}.\n"
    "`tenantry plan` compares this file with the gateway, `tenantry apply` makes it so. See docs/tenants-as-code.md."
)


def export_tenants(standing: Standing, zone: ZoneInfo, now: datetime) -> str:
    """Every tier that is not as it ships, every plan, and every tenant that has not left."""
    document = {
        "tiers": {
            name: _limits(_other(limits, first_limits(name)))
            for name, limits in standing.tiers.items()
            if name not in SHIPPED_SESSIONS or limits != first_limits(name) or ("tier", name) in standing.declared
        },
        "plans": {name: _terms(terms) for name, terms in standing.plans.items()},
        "tenants": {slug: _tenant(one, zone) for slug, one in standing.tenants.items() if not has_left(one)},
    }
    head = _HEAD.format(at=f"{now.astimezone(zone):%Y-%m-%d %H:%M} {zone.key}")
    return write_toml({name: table for name, table in document.items() if table}, {(): head})


def has_left(tenant: StandingTenant) -> bool:
    """Whether it was off-boarded and kept: disabled, without a credential and without a key."""
    block = tenant.block
    return not tenant.declared and block.status == "disabled" and block.credential is None and not tenant.keys


def _tenant(tenant: StandingTenant, zone: ZoneInfo) -> dict[str, Any]:
    block = tenant.block
    simple = ("plan", "contact", "credential", "fallback", "upstream", "user_profile", "workspace")
    values: dict[str, Any] = {"name": block.name, "tier": block.tier, "status": block.status}
    values |= {name: getattr(block, name) for name in simple if getattr(block, name) is not None}
    if block.shared_credential:
        values["shared_credential"] = True
    values |= {"disconnect": block.disconnect, "offboard": block.offboard}
    if block.hosts:
        values["hosts"] = list(block.hosts)
    for name, table in (
        ("limits", _limits(block.limits)),
        ("budget", _budget(block)),
        ("alerts", _alerts(block)),
    ):
        if table:
            values[name] = table
    if block.plan is not None:
        values |= {name: one for name in _AGREED if (one := getattr(block, name)) is not None}
    if block.billing is not None and block.billing != Details():
        taxes = {"taxes": dict(block.billing.taxes)} if block.billing.taxes is not None else {}
        values["billing"] = block.billing.as_json() | taxes
    if block.slots:
        values["slots"] = {name: {"limits": _limits(own)} if own else {} for name, own in block.slots.items()}
    values["keys"] = {label: _key(key, zone) for label, key in (block.keys or {}).items()}
    return values


def _budget(block: TenantBlock) -> dict[str, Any]:
    amounts = {"month_usd": block.month_nanos, "week_usd": block.week_nanos, "day_usd": block.day_nanos}
    values: dict[str, Any] = {name: _usd(nanos) for name, nanos in amounts.items() if nanos is not None}
    return values | ({"mode": block.budget_mode} if values or block.budget_mode != "hard" else {})


def _alerts(block: TenantBlock) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if block.thresholds is not None:
        values["thresholds"] = list(block.thresholds)
    if block.targets:
        values["targets"] = list(block.targets)
    return values


def _key(key: KeyBlock, zone: ZoneInfo) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if key.expires_at is not None:
        values["expires"] = _expiry(key.expires_at, zone)
    if key.rotate_days is not None:
        values["rotate_days"] = key.rotate_days
    if key.limits:
        values["limits"] = _limits(key.limits)
    if key.slot:
        values["slot"] = key.slot
    return values


def _expiry(at: datetime, zone: ZoneInfo) -> Any:
    """The day, when it is the end of one."""
    local = at.astimezone(zone)
    return local.date() - timedelta(days=1) if local.time() == time() else at.astimezone(UTC)


def _terms(terms: Terms) -> dict[str, Any]:
    return {
        name.replace("_nanos", "_usd"): _usd(value) if name.endswith("_nanos") else value
        for name, value in terms.told().items()
        if value is not None
    }


def _other(limits: Limits, than: Limits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in LIMITS if getattr(limits, name) != getattr(than, name)}


def _limits(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: NO_LIMIT if value is None else as_json(value) or [EVERY] for name, value in values.items()}


def _usd(nanos: int) -> str:
    """Exact, with two places at least, and without a sign or separators: `1250.00`."""
    whole, rest = divmod(nanos, NANOS_PER_USD)
    return f"{whole}.{f'{rest:09d}'.rstrip('0').ljust(2, '0')}"
