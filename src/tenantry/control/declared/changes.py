"""The difference between what is declared and what stands, as a list of changes. Pure: no store, no secret."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

from tenantry.control.declared.model import Declaration, KeyBlock, TenantBlock
from tenantry.control.declared.state import Standing, StandingCredential, StandingKey, StandingTenant
from tenantry.domain.billing_details import Details
from tenantry.domain.limits import Limits, as_json
from tenantry.domain.plans import Terms
from tenantry.storage.directory import SHIPPED_SESSIONS, first_limits

# The label of the key that a new tenant gets when nothing is said about its keys.
FIRST_KEY = "first key"

# Tells the fingerprint of the secret behind a reference, or None where it is not at hand.
Fingerprint = Callable[[str], bytes | None]
# Tells whether the alert target of a tenant has the URL behind a reference, or that is not at hand.
HasUrl = Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `subject` is a tier, a plan or a tenant's slug; `field` a field of it, or a key's label."""

    action: str
    subject: str
    field: str = ""
    before: Any = None
    after: Any = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


# Compared by `_credential_changes` and `_key_changes`, or of no account to the state.
_APART = (
    "shared_credential",
    "upstream",
    "workspace",
    "credential",
    "fallback",
    "keys",
    "plan_slots",
    "plan_from",
    "billing",
    "slots",
)
_PLAIN = tuple(field.name for field in fields(TenantBlock) if field.name not in _APART)


def find_changes(
    declared: Declaration, standing: Standing, now: datetime, fingerprint: Fingerprint, has_url: HasUrl
) -> Iterator[Change]:
    """What has to change, in the order in which it can."""
    for name, limits in declared.tiers.items():
        before = standing.tiers.get(name)
        if limits != before or (declared.whole and ("tier", name) not in standing.declared):
            yield Change("tier.set", name, "", _limits(before), limits.as_json())
    for name, said in declared.plans.items():
        known, day = standing.plans.get(name), declared.plan_days.get(name)
        terms = _as_it_is(said, known)
        is_same = terms == known and (day is None or standing.plan_days.get(name) == day)
        if not is_same or (declared.whole and ("plan", name) not in standing.declared):
            was, then = _from(known, standing.plan_days.get(name) if day else None), _from(terms, day)
            yield Change("plan.set", name, "", was, then)
    if declared.whole:
        for slug in leaving(declared, standing):
            yield Change("tenant.remove", slug, "", None, standing.tenants[slug].block.offboard)
    wanted = wanted_credentials(declared, standing)
    for slug, block in declared.tenants.items():
        yield from _tenant_changes(slug, block, declared, standing, now, fingerprint, wanted)
        stood = standing.tenants.get(slug)
        for reference in block.targets if stood is not None else ():
            if stood is not None and reference in stood.block.targets and not has_url(slug, reference):
                yield Change("target.replace", slug, reference, None, reference)
    if declared.whole:
        for kind, name in sorted(standing.declared):
            if kind == "tier" and name not in declared.tiers:
                shipped = first_limits(name).as_json() if name in SHIPPED_SESSIONS else None
                action = "tier.remove" if shipped is None else "tier.reset"
                yield Change(action, name, "", _limits(standing.tiers[name]), shipped)
            if kind == "plan" and name not in declared.plans:
                yield Change("plan.remove", name, "", standing.plans[name].told())


def _from(terms: Terms | None, day: date | None) -> dict[str, Any] | None:
    """Terms as they are told, with the day from which they count where one is said."""
    if terms is None:
        return None
    return terms.told() | ({"from": day.isoformat()} if day is not None else {})


def _as_it_is(terms: Terms, known: Terms | None) -> Terms:
    """A file that says nothing of surcharges changes none."""
    if known is None or terms.surcharges is not None:
        return terms
    return replace(terms, surcharges=True if known.surcharges is None and terms.prices else known.surcharges)


def leaving(declared: Declaration, standing: Standing) -> list[str]:
    """Tenants that were declared and are no more."""
    return [slug for slug, one in standing.tenants.items() if one.declared and slug not in declared.tenants]


def _tenant_changes(
    slug: str,
    block: TenantBlock,
    declared: Declaration,
    standing: Standing,
    now: datetime,
    fingerprint: Fingerprint,
    wanted: Collection[str],
) -> Iterator[Change]:
    stood = standing.tenants.get(slug)
    if stood is None:
        yield Change("tenant.add", slug, "", None, {"name": block.name, "tier": block.tier})
        before = TenantBlock(block.name, block.tier)
    else:
        before = stood.block
    if declared.whole and not (stood and stood.declared):
        yield Change("tenant.set", slug, "declared", False, True)
    for name in _PLAIN:
        old, new = getattr(before, name), getattr(block, name)
        if old != new:
            yield Change("tenant.set", slug, name, _plain(old), _plain(new))
    yield from _sales_changes(slug, block, before)
    yield from _credential_changes(slug, block, before, wanted, standing, fingerprint)
    yield from _slot_changes(slug, block, before)
    yield from _key_changes(slug, block, stood, now)


def _sales_changes(slug: str, block: TenantBlock, before: TenantBlock) -> Iterator[Change]:
    """What the file says nothing of stays as it is."""
    if block.plan_slots is not None and block.plan_slots != before.plan_slots:
        yield Change("tenant.set", slug, "plan_slots", before.plan_slots, block.plan_slots)
    if block.plan_from is not None and block.plan_from != before.plan_from:
        was = before.plan_from.isoformat() if before.plan_from is not None else None
        yield Change("tenant.set", slug, "plan_from", was, block.plan_from.isoformat())
    stood = before.billing or Details()
    if block.billing is not None and block.billing != stood:
        yield Change("tenant.set", slug, "billing", _details_json(stood), _details_json(block.billing))


def _details_json(details: Details) -> dict[str, Any]:
    taxes = {"taxes": dict(details.taxes)} if details.taxes is not None else {}
    return details.as_json() | taxes


def _slot_changes(slug: str, block: TenantBlock, before: TenantBlock) -> Iterator[Change]:
    if block.slots is None:
        return
    stood = before.slots or {}
    for name, own in stood.items():
        if name not in block.slots:
            yield Change("slot.remove", slug, name, _plain(own))
    for name, own in block.slots.items():
        if name not in stood:
            yield Change("slot.add", slug, name, None, _plain(own))
        elif stood[name] != own:
            yield Change("slot.set", slug, name, _plain(stood[name]), _plain(own))


def _credential_changes(
    slug: str,
    block: TenantBlock,
    before: TenantBlock,
    wanted: Collection[str],
    standing: Standing,
    fingerprint: Fingerprint,
) -> Iterator[Change]:
    for name in ("credential", "fallback"):
        old, new = getattr(before, name), getattr(block, name)
        if not same_credential(new, old, slug, name, standing):
            yield Change("tenant.set", slug, name, old, new)
        elif new is not None and not new.startswith("vault:"):
            known = standing.by_source(new)
            secret = fingerprint(new)
            if known is not None and secret is not None and secret != known.fingerprint:
                yield Change("credential.rotate", slug, name, known.name, new)
    found = _becomes(slug, block.credential, wanted, standing, fingerprint)
    if block.shared_credential and block.credential is not None and not (found and found.shared):
        yield Change("credential.share", slug, "shared_credential", False, True)
    stood_upstream = found.upstream if found is not None else None
    stood_workspace = found.workspace if found is not None else None
    if block.credential is not None and block.upstream not in (None, stood_upstream):
        yield Change("credential.move", slug, "upstream", stood_upstream, block.upstream)
    if block.credential is not None and block.workspace not in (None, stood_workspace):
        yield Change("credential.workspace", slug, "workspace", stood_workspace, block.workspace)


def _becomes(
    slug: str, reference: str | None, wanted: Collection[str], standing: Standing, fingerprint: Fingerprint
) -> StandingCredential | None:
    """The stored credential that a tenant will be served with; None when it is still to be made."""
    name = target_credential(reference, standing)
    if name is not None or reference is None:
        return standing.credentials.get(name or "")
    secret = fingerprint(reference)
    twin = standing.by_fingerprint(secret)
    own = own_credential(slug, "credential", wanted, standing)
    return twin or (standing.credentials[own] if own is not None else None)


def own_credential(slug: str, role: str, wanted: Collection[str], standing: Standing) -> str | None:
    """The credential that only this tenant has had, and nobody is to have after it: its secret can be replaced."""
    stood = standing.tenants.get(slug)
    name = getattr(stood, role) if stood is not None else None
    credential = standing.credentials.get(name) if name is not None else None
    if credential is None or stood is None or credential.shared or credential.users != frozenset((slug,)):
        return None
    is_both = stood.credential == stood.fallback
    return None if is_both or credential.name in wanted else credential.name


def wanted_credentials(declared: Declaration, standing: Standing) -> Collection[str]:
    """Stored credentials that a declared tenant is to have, by name."""
    references = {reference for block in declared.tenants.values() for reference in (block.credential, block.fallback)}
    names = (target_credential(reference, standing) for reference in references)
    return {name for name in names if name is not None}


def same_credential(wanted: str | None, stands: str | None, slug: str, role: str, standing: Standing) -> bool:
    """Whether a reference means the credential that a tenant has. One from `env:` may also be named by `vault:`."""
    if wanted == stands or wanted is None or stands is None:
        return wanted == stands
    tenant = standing.tenants.get(slug)
    name = getattr(tenant, role) if tenant is not None else None
    return wanted == f"vault:{name}"


def target_credential(reference: str | None, standing: Standing) -> str | None:
    """The name of the stored credential that a reference means; None when there is none yet."""
    if reference is None:
        return None
    if reference.startswith("vault:"):
        return reference.removeprefix("vault:")
    known = standing.by_source(reference)
    return known.name if known is not None else None


def _key_changes(slug: str, block: TenantBlock, stood: StandingTenant | None, now: datetime) -> Iterator[Change]:
    wanted: Mapping[str, KeyBlock] | None = block.keys
    if wanted is None:
        if stood is not None:
            return
        wanted = {FIRST_KEY: KeyBlock()}
    standing: Mapping[str, StandingKey] = stood.keys if stood is not None else {}
    for label, key in standing.items():
        if label not in wanted:
            yield Change("key.revoke", slug, label, key.hint)
    for label, want in wanted.items():
        key = standing.get(label)
        if key is None:
            yield Change("key.take" if want.digest_of else "key.issue", slug, label, None, key_json(want))
            continue
        if key.block.slot != want.slot:  # a key is one slot's for good
            yield Change("key.revoke", slug, label, key.hint)
            yield Change("key.take" if want.digest_of else "key.issue", slug, label, None, key_json(want))
            continue
        if _settled(key.block) != _settled(want):
            yield Change("key.set", slug, label, key_json(key.block), key_json(want))
        age = now - key.created_at
        is_over = want.expires_at is not None and want.expires_at <= now
        if want.rotate_days is not None and age >= timedelta(days=want.rotate_days) and not is_over:
            yield Change("key.rotate", slug, label, {"days": age.days}, {"rotate_days": want.rotate_days})


def _settled(block: KeyBlock) -> tuple[datetime | None, int | None, Mapping[str, Any]]:
    return block.expires_at, block.rotate_days, block.limits


def key_json(block: KeyBlock) -> dict[str, Any]:
    """A key as JSON has it."""
    values = {
        "expires": block.expires_at.astimezone(UTC).isoformat() if block.expires_at else None,
        "rotate_days": block.rotate_days,
        "limits": {name: as_json(value) for name, value in block.limits.items()},
        "digest_of": block.digest_of,
        "slot": block.slot,
    }
    return {name: value for name, value in values.items() if value}


def _limits(limits: Limits | None) -> dict[str, Any] | None:
    return limits.as_json() if limits is not None else None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: as_json(one) for name, one in cast("Mapping[str, Any]", value).items()}
    return as_json(value)
