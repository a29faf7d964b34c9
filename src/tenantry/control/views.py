"""What a person sees of a tenant, tier, key, credential, upstream, alert and its target: for commands, API, pages.

A view is made from what the store keeps, as JSON values in the order in which they are shown; no view has a secret.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tenantry.control.site import endpoint_of, slot_endpoint_of
from tenantry.domain.directory import KeyStatus, Tier
from tenantry.domain.limits import as_json as limit_as_json
from tenantry.domain.people import Person
from tenantry.domain.printable import stamp
from tenantry.domain.values import value
from tenantry.settings import Settings
from tenantry.storage.columns import now_utc
from tenantry.storage.records import (
    AdminRecord,
    AlertTargetRecord,
    CredentialRecord,
    KeyRecord,
    SlotRecord,
    TenantRecord,
    UpstreamRecord,
)

if TYPE_CHECKING:
    from tenantry.ledger.live import DeadCredential
    from tenantry.ledger.outbox import RaisedAlert
    from tenantry.storage.directory import Directory


class View:
    """A value whose fields are its JSON members."""

    __slots__ = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)  # pyright: ignore[reportArgumentType] -- each view is a dataclass


@value
class TenantView(View):
    slug: str
    name: str
    tenant_id: str
    status: str
    endpoint: str
    tier: str
    sessions_max: int
    requests_per_minute: int | None
    credential: str | None
    fallback: str | None
    user_profile_id: str | None
    contact: str | None
    disconnect: str
    hosts: list[str]
    created_at: str


@value
class KeyView(View):
    """`status` is what a client meets: a key whose time is over is expired, whatever its row says."""

    key_id: str
    tenant: str
    key: str
    label: str
    status: str
    created_at: str
    expires_at: str
    replaced_by: str | None
    limits: Mapping[str, object]
    last_used_at: str
    last_used_address: str | None
    last_used_agent: str | None
    slot: str


@value
class SlotView(View):
    """`limits` are those that differ from the tenant's; `keys` counts those that work."""

    tenant: str
    slot: str
    endpoint: str
    keys: int
    limits: Mapping[str, object]
    created_at: str


@value
class SlotAllowanceView(View):
    """How many slots a tenant may have (null: any number) and has; `words` say where that number is from."""

    tenant: str
    plan: str | None
    slots_max: int | None
    slots: int
    beyond: int
    words: str


@value
class AdminView(View):
    """`token` are its last characters; `status` is what whoever presents it meets. `tenants` None: all of the site."""

    name: str
    token: str
    role: str
    tenants: list[str] | None
    status: str
    created_at: str
    expires_at: str
    old_until: str
    used_at: str


@value
class CredentialView(View):
    """`tenants` are served with it, `falls_back` when their first cannot serve. `state`: why no gateway uses it now."""

    name: str
    upstream: str
    key: str
    shared: bool
    tenants: list[str]
    falls_back: list[str]
    workspace_id: str | None
    created_at: str
    state: str


@value
class UpstreamView(View):
    name: str
    base_url: str
    ca_file: str
    connect_seconds: float
    answer_seconds: float
    shares_capacity: bool
    capacity: Mapping[str, object]
    credentials: list[str]
    created_at: str


@value
class AlertTargetView(View):
    """`url` tells it from others, and no more."""

    name: str
    kind: str
    url: str
    tenant: str | None
    kinds: list[str]
    created_at: str


@value
class TierView(View):
    """`tenants` is how many are in it."""

    name: str
    limits: Mapping[str, object]
    tenants: int


@value
class AlertView(View):
    """`tenant` is None for an alert of the whole site; `deliveries` counts them by how far they are."""

    alert_id: int
    raised_at: str
    kind: str
    tenant: str | None
    subject: str
    message: str
    detail: Mapping[str, object]
    deliveries: Mapping[str, int]


def tenant_view(settings: Settings, tenant: TenantRecord) -> TenantView:
    return TenantView(
        tenant.slug,
        tenant.name,
        tenant.tenant_id,
        tenant.status.value,
        endpoint_of(settings, tenant.slug),
        tenant.tier,
        tenant.limits.sessions_max,
        tenant.limits.requests_per_minute,
        tenant.credential,
        tenant.fallback,
        tenant.user_profile_id,
        tenant.contact,
        tenant.disconnect,
        list(tenant.hosts),
        stamp(tenant.created_at),
    )


def key_view(key: KeyRecord, now: datetime | None = None) -> KeyView:
    is_expired = key.status is KeyStatus.ACTIVE and key.is_over(now or now_utc())
    return KeyView(
        key.key_id,
        key.slug,
        key.hint,
        key.label,
        "expired" if is_expired else key.status.value,
        stamp(key.created_at),
        stamp(key.expires_at),
        key.replaced_by,
        _limits(key.own),
        stamp(key.last_used_at),
        key.last_used_address,
        key.last_used_agent,
        key.slot,
    )


@value
class PersonView(View):
    name: str
    role: str
    tenants: list[str] | None
    status: str
    second_factor: bool
    email: str | None
    created_at: str
    signed_in_at: str


def person_view(person: Person) -> PersonView:
    return PersonView(
        person.name,
        person.role.value,
        sorted(person.tenants) if person.tenants is not None else None,
        person.status,
        person.has_second_factor,
        person.email,
        stamp(person.created_at),
        stamp(person.signed_in_at),
    )


def slot_view(settings: Settings, slot: SlotRecord) -> SlotView:
    endpoint = slot_endpoint_of(settings, slot.slug, slot.name)
    return SlotView(slot.slug, slot.name, endpoint, slot.keys, _limits(slot.own), stamp(slot.created_at))


def slot_allowance_view(directory: Directory, slug: str) -> SlotAllowanceView:
    """Raises: NotInDirectory."""
    allowance, count = directory.slot_allowance(slug), len(directory.list_slots(slug))
    slots_max, beyond = allowance.slots_max, allowance.beyond(count)
    return SlotAllowanceView(slug, allowance.plan, slots_max, count, beyond, allowance.words(slug))


def admin_view(admin: AdminRecord, now: datetime | None = None) -> AdminView:
    now = now or now_utc()
    is_old_over = admin.old_until is None or admin.old_until <= now
    return AdminView(
        admin.name,
        admin.hint,
        admin.role,
        list(admin.tenants) if admin.tenants is not None else None,
        admin.state(now),
        stamp(admin.created_at),
        stamp(admin.expires_at),
        "" if is_old_over else stamp(admin.old_until),
        stamp(admin.used_at),
    )


def credential_views(
    found: Iterable[CredentialRecord], tenants: Iterable[TenantRecord], dead: Mapping[str, DeadCredential]
) -> list[CredentialView]:
    """Credentials with the slugs of those who use them, and what gateways tell of those that are `dead`."""
    firsts: dict[str | None, list[str]] = {}
    spares: dict[str | None, list[str]] = {}
    for tenant in tenants:
        firsts.setdefault(tenant.credential, []).append(tenant.slug)
        spares.setdefault(tenant.fallback, []).append(tenant.slug)
    return [
        CredentialView(
            one.name,
            one.upstream,
            one.hint,
            one.shared,
            firsts.get(one.name, []),
            spares.get(one.name, []),
            one.workspace_id,
            stamp(one.created_at),
            dead[one.name].words if one.name in dead else "",
        )
        for one in found
    ]


def upstream_view(upstream: UpstreamRecord, credentials: Iterable[CredentialRecord]) -> UpstreamView:
    return UpstreamView(
        upstream.name,
        upstream.base_url,
        upstream.ca_file or "",
        upstream.connect_seconds,
        upstream.answer_seconds,
        upstream.shares_capacity,
        _limits(upstream.capacity),
        [one.name for one in credentials if one.upstream == upstream.name],
        stamp(upstream.created_at),
    )


def alert_target_view(target: AlertTargetRecord) -> AlertTargetView:
    return AlertTargetView(
        target.name, target.kind, target.hint, target.slug, list(target.kinds), stamp(target.created_at)
    )


def tier_views(found: Iterable[Tier], tenants: Iterable[TenantRecord]) -> list[TierView]:
    """Tiers with how many tenants are in each."""
    used = Counter(tenant.tier for tenant in tenants)
    return [TierView(tier.name, tier.limits.as_json(), used[tier.name]) for tier in found]


def alert_view(alert: RaisedAlert) -> AlertView:
    return AlertView(
        alert.alert_id,
        stamp(datetime.fromtimestamp(alert.raised_at_us // 1_000_000, UTC)),
        alert.kind,
        alert.slug,
        alert.subject,
        alert.message,
        alert.detail,
        {"sent": alert.sent, "waiting": alert.waiting, "given_up": alert.given_up},
    )


def _limits(own: Mapping[str, Any]) -> dict[str, object]:
    return {name: limit_as_json(limit) for name, limit in own.items()}
