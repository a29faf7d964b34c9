"""Rows as the values that leave the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Row

from tenantry.domain.directory import UNLIMITED, KeyStatus, TenantStatus, Tier, Upstream
from tenantry.domain.limits import Limits, read_limits
from tenantry.domain.plans import Dated, Terms
from tenantry.domain.values import value
from tenantry.storage.columns import aware, utc


def read_changes(stored: str) -> dict[str, Any]:
    """Limits as a row keeps them.

    Raises:
        BadLimit: the store holds what no version of this program wrote.
    """
    return read_limits(json.loads(stored)) if stored != "{}" else {}


def read_tier(row: Row[*tuple[Any, ...]]) -> Tier:
    """A tier from its row."""
    return Tier(row.name, _tier_limits(row.limits))


# Thousands of tenants are on a few tiers.
@lru_cache(maxsize=256)
def _tier_limits(stored: str) -> Limits:
    return Limits().with_changes(read_changes(stored))


def read_upstream(row: Row[*tuple[Any, ...]]) -> Upstream:
    """An upstream from its row."""
    return Upstream(
        row.upstream_id,
        row.name,
        row.base_url,
        row.ca_file,
        row.connect_seconds,
        row.answer_seconds,
        UNLIMITED.with_changes(read_changes(row.capacity)),
        bool(row.shares_capacity),
    )


@dataclass(frozen=True, slots=True)
class PlanVersion:
    """The terms of a plan from a day of the agency on; None: from the beginning."""

    version_id: int
    plan: str
    from_day: date | None
    terms: Terms
    actor: str
    created_at: datetime

    @property
    def dated(self) -> Dated[PlanVersion]:
        return Dated(self.from_day, self)


@dataclass(frozen=True, slots=True)
class TenantPlan:
    """The plan that a tenant was put on from a day of the agency on; None: it was taken off."""

    tenant_id: str
    slug: str
    plan: str | None
    from_day: date
    slots: int | None
    actor: str

    @property
    def dated(self) -> Dated[TenantPlan]:
        return Dated(self.from_day, self)


@value
class TenantRecord:
    """A tenant as it is stored. `own` are the limits that differ from its tier's, `limits` those in force.

    `credential` and `fallback` are names.
    """

    tenant_id: str
    slug: str
    name: str
    status: TenantStatus
    tier: str
    own: Mapping[str, Any]
    limits: Limits
    credential: str | None
    fallback: str | None
    credential_id: str | None
    user_profile_id: str | None
    plan: str | None
    contact: str | None
    budget_mode: str
    disconnect: str
    declared: bool
    offboard: str
    created_at: datetime
    hosts: tuple[str, ...] = ()


@value
class SlotRecord:
    """A slot as it is stored; `own` are the limits that differ from its tenant's, `keys` counts those that work."""

    slug: str
    name: str
    own: Mapping[str, Any]
    keys: int
    created_at: datetime

    @property
    def endpoint(self) -> str:
        """As it stands in a path, behind `/t/`."""
        return f"{self.slug}.{self.name}"


def read_slot(row: Row[*tuple[Any, ...]]) -> SlotRecord:
    """A slot joined with its tenant's slug and the count of its keys."""
    return SlotRecord(row.slug, row.name, read_changes(row.limits), row.keys, aware(row.created_at))


@value
class KeyRecord:
    """A gateway key as it is stored; `slug` is its tenant's, `hint` its last characters, `own` its own limits.

    `slot` is the one that it is for, "" where it is the whole tenant's.
    """

    key_id: str
    slug: str
    label: str
    hint: str
    status: KeyStatus
    expires_at: datetime | None
    created_at: datetime
    revoked_at: datetime | None
    own: Mapping[str, Any]
    replaced_by: str | None
    rotate_days: int | None
    last_used_at: datetime | None
    last_used_address: str | None
    last_used_agent: str | None
    slot: str = ""

    def is_over(self, now: datetime) -> bool:
        """Whether its time is over, whatever its status says."""
        return self.expires_at is not None and self.expires_at <= now


@value
class CredentialRecord:
    """A credential without its secret; `upstream` is a name, `source` where a file of tenants has it from."""

    credential_id: str
    name: str
    shared: bool
    hint: str
    workspace_id: str | None
    source: str | None
    fingerprint: bytes
    created_at: datetime
    upstream: str


@value
class UpstreamRecord:
    """An upstream as it is stored; `capacity` are the limits that are configured."""

    upstream_id: str
    name: str
    base_url: str
    ca_file: str | None
    connect_seconds: float
    answer_seconds: float
    capacity: Mapping[str, Any]
    shares_capacity: bool
    created_at: datetime


@value
class AlertTargetRecord:
    """An alert target without its secrets; `slug` None gets every tenant's alerts, no `kinds` means all."""

    target_id: str
    name: str
    kind: str
    hint: str
    slug: str | None
    kinds: tuple[str, ...]
    created_at: datetime


@value
class AdminRecord:
    """An admin token as it is stored; `old_until`: one that it replaces works so long.

    `tenants` are the slugs of those that it is confined to and that are there; None: all of the site.
    """

    admin_id: str
    name: str
    role: str
    hint: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    old_until: datetime | None
    used_at: datetime | None
    tenants: tuple[str, ...] | None = None

    def state(self, now: datetime) -> str:
        """What whoever presents it meets."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


def read_admin(row: Row[*tuple[Any, ...]], slugs: Mapping[str, str]) -> AdminRecord:
    """An admin token; `slugs` by tenant's id, of those it may be confined to."""
    confined: list[str] | None = json.loads(row.tenants) if row.tenants is not None else None
    return AdminRecord(
        row.admin_id,
        row.name,
        row.role,
        row.hint,
        aware(row.created_at),
        utc(row.expires_at),
        utc(row.revoked_at),
        utc(row.last_until),
        utc(row.used_at),
        tuple(sorted(slugs[one] for one in confined if one in slugs)) if confined is not None else None,
    )


def read_tenant(row: Row[*tuple[Any, ...]], hosts: Mapping[str, tuple[str, ...]]) -> TenantRecord:
    """A tenant joined with its tier and the names of its credentials; `hosts` by tenant's id."""
    own = read_changes(row.limits)
    return TenantRecord(
        row.tenant_id,
        row.slug,
        row.name,
        TenantStatus(row.status),
        row.tier,
        own,
        _tier_limits(row.tier_limits).with_changes(own),
        row.credential,
        row.fallback,
        row.credential_id,
        row.user_profile_id,
        row.plan,
        row.contact,
        row.budget_mode,
        row.disconnect,
        bool(row.declared),
        row.offboard,
        aware(row.created_at),
        hosts.get(row.tenant_id, ()),
    )


def read_key(row: Row[*tuple[Any, ...]]) -> KeyRecord:
    """A key joined with its tenant's slug."""
    return KeyRecord(
        row.key_id,
        row.slug,
        row.label,
        row.hint,
        KeyStatus(row.status),
        utc(row.expires_at),
        aware(row.created_at),
        utc(row.revoked_at),
        read_changes(row.limits),
        row.replaced_by,
        row.rotate_days,
        utc(row.last_used_at),
        row.last_used_address,
        row.last_used_agent,
        row.slot,
    )


def read_credential(row: Row[*tuple[Any, ...]]) -> CredentialRecord:
    """A credential joined with its upstream's name."""
    return CredentialRecord(
        row.credential_id,
        row.name,
        bool(row.shared),
        row.hint,
        row.workspace_id,
        row.source,
        row.fingerprint,
        aware(row.created_at),
        row.upstream,
    )


def read_upstream_record(row: Row[*tuple[Any, ...]]) -> UpstreamRecord:
    return UpstreamRecord(
        row.upstream_id,
        row.name,
        row.base_url,
        row.ca_file,
        row.connect_seconds,
        row.answer_seconds,
        read_changes(row.capacity),
        bool(row.shares_capacity),
        aware(row.created_at),
    )


def read_alert_target(row: Row[*tuple[Any, ...]]) -> AlertTargetRecord:
    """A target joined with its tenant's slug."""
    kinds = tuple(json.loads(row.kinds))
    return AlertTargetRecord(row.target_id, row.name, row.kind, row.hint, row.slug, kinds, aware(row.created_at))
