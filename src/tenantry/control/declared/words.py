"""Changes in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tenantry.control.declared.changes import Change
from tenantry.domain.limits import LIMITS
from tenantry.domain.money import format_usd

# Changes that cut something off; `apply` asks for them by name.
CUTS = ("tenant.remove", "key.revoke", "slot.remove")


def in_words(change: Change) -> str:
    """One line that says what a change does."""
    subject, before, after = change.subject, change.before, change.after
    key = f"key {change.field!r}"
    match change.action:
        case "tier.set" | "plan.set":
            what = f"{change.action.removesuffix('.set')} {subject}"
            if before == after:
                return f"{what}: is declared from now on"
            return f"{what}: new: {_values(after)}" if before is None else f"{what}: {_differences(before, after)}"
        case "tier.remove" | "plan.remove":
            return f"{change.action.removesuffix('.remove')} {subject}: removed"
        case "tier.reset":
            return f"tier {subject}: is as it ships: {_differences(before, after)}"
        case "tenant.add":
            return f"tenant {subject}: new: {after['name']!r} on tier {after['tier']}"
        case "tenant.remove" if after == "delete":
            return f"tenant {subject}: leaves: keys revoked, closing statement written, its data DELETED"
        case "tenant.remove":
            return f"tenant {subject}: leaves: keys revoked, closing statement written, disabled, its data kept"
        case "tenant.set" if change.field == "declared":
            return f"tenant {subject}: is declared from now on"
        case "slot.add":
            return f"tenant {subject}: slot {change.field!r}: new" + (f": {_values(after)}" if after else "")
        case "slot.set":
            return f"tenant {subject}: slot {change.field!r}: {_differences(before, after)}"
        case "slot.remove":
            return f"tenant {subject}: slot {change.field!r}: REMOVED with its keys: not in the file"
        case "credential.rotate":
            return f"tenant {subject}: {change.field}: the key in {after} is another: it replaces the stored one"
        case "target.replace":
            return f"tenant {subject}: alert target {after}: its URL is another: it replaces the stored one"
        case "credential.share":
            return f"tenant {subject}: its credential is declared shared"
        case "key.issue":
            return f"tenant {subject}: {key}: new" + (f": {_values(after)}" if after else "")
        case "key.take":
            rest = _values({name: value for name, value in after.items() if name != "digest_of"})
            return f"tenant {subject}: {key}: taken over from {after['digest_of']}" + (f": {rest}" if rest else "")
        case "key.revoke":
            return f"tenant {subject}: {key} ({before}): REVOKED: not in the file"
        case "key.rotate":
            return f"tenant {subject}: {key}: {before['days']} days old: replaced; the old one goes on for a week"
        case "key.set":
            return f"tenant {subject}: {key}: {_differences(before, after)}"
        case _:
            return f"tenant {subject}: {_name(change.field)}: {_difference(change.field, before, after)}"


def _difference(field: str, before: Any, after: Any) -> str:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return _differences(cast("Mapping[str, Any]", before), cast("Mapping[str, Any]", after))
    return f"{_shown(field, before)} -> {_shown(field, after)}"


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    names = [name for name in {**before, **after} if before.get(name, _ABSENT) != after.get(name, _ABSENT)]
    if not names:
        return "no other limits"
    parts = [
        f"{_name(one)} {_shown(one, before.get(one, _ABSENT))} -> {_shown(one, after.get(one, _ABSENT))}"
        for one in names
    ]
    return ", ".join(parts)


_ABSENT = object()


def _values(values: Mapping[str, Any]) -> str:
    shown = [f"{_name(one)} {_shown(one, value)}" for one, value in values.items() if value not in (None, [], {})]
    return ", ".join(shown)


def _name(field: str) -> str:
    return {"month_nanos": "budget a month", "week_nanos": "budget a week", "day_nanos": "budget a day"}.get(
        field, field.removesuffix("_nanos").replace("_", " ")
    )


def _shown(field: str, value: Any) -> str:
    if value is _ABSENT:
        return "not set"
    if value == [] and field in LIMITS and LIMITS[field].patterns:
        return "every one"
    if value is None or value in ([], {}):
        return "none"
    if field.endswith("_nanos"):
        return format_usd(value)
    if isinstance(value, list):
        return " ".join(str(one) for one in cast("list[object]", value))
    if isinstance(value, Mapping):
        return f"({_values(cast('Mapping[str, Any]', value))})"
    return str(value)
