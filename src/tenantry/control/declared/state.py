"""The store's state in the words of a file of tenants, with what a plan has to know besides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property
from typing import Any

from tenantry.control.declared.model import KeyBlock, TenantBlock
from tenantry.domain.billing_details import Details
from tenantry.domain.limits import Limits
from tenantry.domain.plans import Terms
from tenantry.storage.columns import now_utc
from tenantry.storage.directory import Directory
from tenantry.storage.records import CredentialRecord, KeyRecord, TenantPlan, TenantRecord


@dataclass(frozen=True, slots=True)
class StandingKey:
    """A key that works, or that expired and was not replaced."""

    key_id: str
    hint: str
    created_at: datetime
    block: KeyBlock


@dataclass(frozen=True, slots=True)
class Alerts:
    """A tenant's own thresholds, None for the default ones, and the names of its own targets."""

    thresholds: tuple[int, ...] | None
    target_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sales:
    """What a tenant was put on last, its own billing details, and its slots with their limits."""

    agreed: TenantPlan | None
    billing: Details | None
    slots: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class StandingTenant:
    """`keys` by label; by id where a label is empty or not its only one."""

    tenant_id: str
    declared: bool
    block: TenantBlock
    credential: str | None
    fallback: str | None
    keys: Mapping[str, StandingKey]


@dataclass(frozen=True, slots=True)
class StandingCredential:
    """A stored credential and the tenants that have it."""

    name: str
    upstream: str
    workspace: str | None
    shared: bool
    source: str | None
    fingerprint: bytes
    users: frozenset[str]

    @property
    def reference(self) -> str:
        return self.source or f"vault:{self.name}"


@dataclass(frozen=True)
class Standing:
    """All of it, at one version of the directory. `plan_days`: since when a plan has the terms that were set last."""

    version: int
    tiers: Mapping[str, Limits]
    plans: Mapping[str, Terms]
    plan_days: Mapping[str, date | None]
    declared: frozenset[tuple[str, str]]
    tenants: Mapping[str, StandingTenant]
    credentials: dict[str, StandingCredential]
    upstreams: frozenset[str]

    def by_source(self, reference: str) -> StandingCredential | None:
        return self._sources.get(reference)

    def by_fingerprint(self, fingerprint: bytes | None) -> StandingCredential | None:
        return self._fingerprints.get(fingerprint)

    @cached_property
    def _sources(self) -> Mapping[str | None, StandingCredential]:
        return {one.source: one for one in reversed(self.credentials.values()) if one.source is not None}

    @cached_property
    def _fingerprints(self) -> Mapping[bytes | None, StandingCredential]:
        return {one.fingerprint: one for one in reversed(self.credentials.values())}


def read_standing(directory: Directory) -> Standing:
    """The state now."""
    version = directory.version()
    rows = directory.list_tenants()
    marked = directory.list_declared()
    stored = directory.list_credentials()
    tenants = _tenants(directory, rows, stored)
    return Standing(
        version,
        {tier.name: tier.limits for tier in directory.list_tiers()},
        directory.list_plans(),
        {one.plan: one.from_day for one in directory.list_plan_versions()},
        frozenset(marked),
        tenants,
        _credentials(stored, tenants),
        frozenset(row.name for row in directory.list_upstreams()),
    )


def _tenants(
    directory: Directory, rows: Iterable[TenantRecord], stored: Iterable[CredentialRecord]
) -> dict[str, StandingTenant]:
    credentials = {row.name: row for row in stored}
    keys: dict[str, list[KeyRecord]] = defaultdict(list)
    for row in directory.list_keys():
        keys[row.slug].append(row)
    budgets = directory.list_tenant_budgets()
    targets: dict[str | None, list[str]] = defaultdict(list)
    for row in directory.list_alert_targets():
        targets[row.slug].append(row.name)
    thresholds = directory.list_thresholds()
    slots: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for slot in directory.list_slots():
        slots[slot.slug][slot.name] = slot.own
    agreed = {one.tenant_id: one for one in directory.list_tenant_plans()}  # the last of each
    billing = directory.list_billing()
    return {
        row.slug: _tenant(
            row,
            credentials,
            keys[row.slug],
            budgets.get(row.tenant_id, {}),
            Alerts(thresholds.get(row.tenant_id), tuple(sorted(targets[row.slug]))),
            Sales(agreed.get(row.tenant_id), billing.get(row.tenant_id), slots[row.slug]),
        )
        for row in rows
    }


def target_name(slug: str, reference: str) -> str:
    """What the alert target of a tenant is called that a reference stands for."""
    return reference.removeprefix("vault:") if reference.startswith("vault:") else f"{slug} {reference}"


def _target_reference(slug: str, name: str) -> str:
    reference = name.removeprefix(f"{slug} ")
    return reference if reference != name and reference.startswith(("env:", "file:")) else f"vault:{name}"


def _tenant(
    row: TenantRecord,
    credentials: Mapping[str, CredentialRecord],
    key_rows: list[KeyRecord],
    budget: Mapping[str, int],
    alerts: Alerts,
    sales: Sales,
) -> StandingTenant:
    keys = _keys(key_rows)
    own = credentials.get(row.credential or "")
    spare = credentials.get(row.fallback or "")
    block = TenantBlock(
        name=row.name,
        tier=row.tier,
        plan=row.plan,
        status=row.status,
        contact=row.contact,
        credential=_reference(own),
        shared_credential=own is not None and own.shared,
        fallback=_reference(spare),
        upstream=own.upstream if own is not None else None,
        user_profile=row.user_profile_id,
        workspace=own.workspace_id if own is not None else None,
        disconnect=row.disconnect,
        offboard=row.offboard,
        hosts=row.hosts,
        limits=row.own,
        month_nanos=budget.get("month"),
        week_nanos=budget.get("week"),
        day_nanos=budget.get("day"),
        budget_mode=row.budget_mode,
        thresholds=alerts.thresholds,
        targets=tuple(sorted(_target_reference(row.slug, name) for name in alerts.target_names)),
        keys={name: key.block for name, key in keys.items()},
        plan_slots=sales.agreed.slots if sales.agreed is not None else None,
        plan_from=sales.agreed.from_day if sales.agreed is not None and sales.agreed.plan is not None else None,
        billing=replace(sales.billing, logo=None) if sales.billing is not None else None,
        slots=sales.slots,
    )
    return StandingTenant(row.tenant_id, row.declared, block, row.credential, row.fallback, keys)


def _reference(row: CredentialRecord | None) -> str | None:
    return None if row is None else row.source or f"vault:{row.name}"


def _keys(rows: list[KeyRecord]) -> dict[str, StandingKey]:
    now = now_utc()
    by_label: dict[str, list[StandingKey]] = defaultdict(list)
    for row in rows:
        if row.status != "active" or row.replaced_by is not None:
            continue
        block = KeyBlock(row.expires_at, row.rotate_days, row.own, None, row.slot)
        by_label[row.label].append(StandingKey(row.key_id, row.hint, row.created_at, block))
    keys: dict[str, StandingKey] = {}
    for label, found in by_label.items():
        alive = [key for key in found if key.block.expires_at is None or key.block.expires_at > now]
        shown = alive or found[-1:]
        is_only = label and len(shown) == 1
        keys |= {label if is_only else key.key_id: key for key in shown}
    return keys


def _credentials(
    stored: Iterable[CredentialRecord], tenants: Mapping[str, StandingTenant]
) -> dict[str, StandingCredential]:
    users: dict[str | None, set[str]] = defaultdict(set)
    for slug, tenant in tenants.items():
        users[tenant.credential].add(slug)
        users[tenant.fallback].add(slug)
    return {
        row.name: StandingCredential(
            row.name,
            row.upstream,
            row.workspace_id,
            row.shared,
            row.source,
            row.fingerprint,
            frozenset(users[row.name]),
        )
        for row in stored
    }
