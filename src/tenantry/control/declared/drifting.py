"""Drift: what somebody changed by hand after the last apply, so that the store is not what the file says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from tenantry.control.declared.changes import Change
from tenantry.control.declared.exporting import has_left
from tenantry.control.declared.model import Declaration
from tenantry.control.declared.planning import Plan
from tenantry.control.declared.state import Standing, StandingTenant, target_name
from tenantry.control.declared.words import in_words
from tenantry.storage.audit import AuditEntry
from tenantry.storage.directory import SHIPPED_SESSIONS, Directory, first_limits

APPLIED = "apply.done"

# Which entries of the audit log can have brought a field to where it stands.
_ACTIONS = {
    "contact": ("tenant.contact", "tenant.set"),
    "status": ("tenant.active", "tenant.disabled", "tenant.set"),
    "credential": ("credential.bind", "credential.release", "credential.rotate", "credential.source"),
    "fallback": ("credential.bind", "credential.release", "credential.rotate"),
    "upstream": ("credential.move", "credential.bind"),
    "workspace": ("credential.workspace", "credential.bind"),
    "thresholds": ("alerts.thresholds",),
    "targets": ("alerts.target", "alerts.target_remove"),
    "plan": ("tenant.plan", "tenant.set"),
    "plan_slots": ("tenant.plan", "tenant.set"),
    "plan_from": ("tenant.plan", "tenant.set"),
    "billing": ("billing.set",),
    "month_nanos": ("budget.set", "tenant.set"),
    "week_nanos": ("budget.set", "tenant.set"),
    "day_nanos": ("budget.set", "tenant.set"),
    "budget_mode": ("budget.set", "tenant.set"),
}
_TENANT_ACTIONS = ("tenant.set",)
_NOTHING = "nothing, as it was never declared"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between file and store. `actor` None: nobody changed the store; the file was not applied yet."""

    text: str
    undo: str
    actor: str | None = None
    origin: str | None = None
    at: str | None = None
    action: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def find_drift(plan: Plan, directory: Directory) -> Iterator[Difference]:
    """Differences in the order of the plan that would undo them, then what stands beside the file."""
    entries, made = _read_log(directory.audit_entries())
    for change in plan.changes:
        if change.field != "declared":
            yield _difference(_as_it_stands(change), in_words(change), _find(change, plan.standing, entries))
    for slug, tenant in plan.standing.tenants.items():
        if slug not in plan.declared.tenants and not tenant.declared and not has_left(tenant):
            yield _difference(f"tenant {slug} is not in the file", _NOTHING, made.get(f"tenant.create {slug}"))
    yield from _tiers_beside(plan.declared, plan.standing, made)


def _read_log(entries: Iterable[AuditEntry]) -> tuple[list[AuditEntry], dict[str, AuditEntry]]:
    """Changes after the last apply; and, from any time, what made each tenant and set each tier, by its name."""
    found: list[AuditEntry] = []
    made: dict[str, AuditEntry] = {}
    for entry in entries:
        if entry.action in ("tenant.create", "tier.set"):
            made[f"{entry.action} {entry.subject}"] = entry
        if entry.action == APPLIED:
            found.clear()
        elif "after" in entry.detail or "before" in entry.detail:
            found.append(entry)
    return found, made


def _tiers_beside(declared: Declaration, standing: Standing, made: Mapping[str, AuditEntry]) -> Iterator[Difference]:
    """Tiers that no file declares, and that are not as they ship."""
    for name, limits in standing.tiers.items():
        if name in declared.tiers or ("tier", name) in standing.declared:
            continue
        if name not in SHIPPED_SESSIONS or limits != first_limits(name):
            what = "is not as it ships" if name in SHIPPED_SESSIONS else "is there"
            yield _difference(f"tier {name} {what}, and not in the file", _NOTHING, made.get(f"tier.set {name}"))


def _difference(text: str, undo: str, entry: AuditEntry | None) -> Difference:
    if entry is None:
        return Difference(text, undo)
    return Difference(
        text,
        undo,
        entry.actor,
        entry.origin,
        entry.at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        entry.action,
    )


def _find(change: Change, standing: Standing, entries: list[AuditEntry]) -> AuditEntry | None:
    tenant = standing.tenants.get(change.subject)
    if change.action.startswith("tier"):
        return _last(entries, ("tier.set",), {change.subject})
    if change.action.startswith("plan"):
        return _last(entries, ("plan.set",), {change.subject})
    if change.action == "tenant.add":
        return _last(entries, ("tenant.offboard", "tenant.rollback"), {change.subject})
    if change.action.startswith("key."):
        return _last_of_key(change, tenant, entries)
    if change.action.startswith("slot."):
        return _last(entries, ("slot.add", "slot.set", "slot.remove"), {f"{change.subject}.{change.field}"})
    if change.action == "target.replace":
        return _last(entries, ("alerts.target",), {target_name(change.subject, change.after)})
    objects = {change.subject}
    if tenant is not None and change.field in ("credential", "fallback", "upstream", "workspace"):
        objects |= {name for name in (tenant.credential, tenant.fallback) if name is not None}
    return _last(entries, _ACTIONS.get(change.field, _TENANT_ACTIONS), objects, change)


def _last_of_key(change: Change, tenant: StandingTenant | None, entries: list[AuditEntry]) -> AuditEntry | None:
    """A key that is too many was issued; one that is missing was revoked; another one was set or rotated."""
    if change.action in ("key.issue", "key.take"):
        return next(
            (
                entry
                for entry in reversed(entries)
                if entry.action == "key.revoke"
                and entry.tenant == change.subject
                and entry.detail.get("label") == change.field
            ),
            None,
        )
    key = tenant.keys.get(change.field) if tenant is not None else None
    if key is None or change.action == "key.rotate":
        return None
    made = next((one for one in reversed(entries) if _after(one).get("replaced_by") == key.key_id), None)
    return _last(entries, ("key.issue", "key.set"), {key.key_id}) or made


def _last(
    entries: list[AuditEntry], actions: tuple[str, ...], objects: set[str], change: Change | None = None
) -> AuditEntry | None:
    for entry in reversed(entries):
        is_about = entry.subject in objects or entry.tenant in objects
        if entry.action in actions and is_about and (change is None or _touches(entry, change.field)):
            return entry
    return None


def _after(entry: AuditEntry) -> Mapping[str, Any]:
    after = entry.detail.get("after")
    return cast("dict[str, Any]", after) if isinstance(after, dict) else {}


def _touches(entry: AuditEntry, field: str) -> bool:
    """An entry that names the fields it changed has to name this one; the rest are told apart by their action."""
    column = {"user_profile": "user_profile_id"}.get(field, field)
    before = entry.detail.get("before")
    stood = cast("dict[str, Any]", before) if isinstance(before, dict) else {}
    return entry.action != "tenant.set" or stood.get(column) != _after(entry).get(column)


def _as_it_stands(change: Change) -> str:
    """The difference from the side of the store."""
    subject = change.subject
    match change.action:
        case "key.issue" | "key.take":
            return f"tenant {subject}: key {change.field!r} is missing"
        case "key.revoke":
            return f"tenant {subject}: key {change.field!r} ({change.before}) is not in the file"
        case "slot.add":
            return f"tenant {subject}: slot {change.field!r} is missing"
        case "slot.remove":
            return f"tenant {subject}: slot {change.field!r} is not in the file"
        case "tenant.add":
            return f"tenant {subject} is missing"
        case "tenant.remove":
            return f"tenant {subject} is no longer in the file"
        case "tier.remove" | "tier.reset" | "plan.remove":
            return f"{change.action.partition('.')[0]} {subject} is no longer in the file"
        case "target.replace":
            return f"tenant {subject}: the stored alert target is not the URL in {change.after}"
        case "credential.rotate":
            return f"tenant {subject}: the stored {change.field} is not the key in {change.after}"
        case _:
            # The same words the other way round: what the file has, and what stands.
            stands = in_words(Change(change.action, subject, change.field, change.after, change.before))
            return stands if change.before is not None or change.action == "tenant.set" else in_words(change)
