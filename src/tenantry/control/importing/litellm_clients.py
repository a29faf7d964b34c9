"""Teams and keys of LiteLLM, with their limits and budgets: they become tenants and gateway keys."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import ROUND_DOWN, Decimal, InvalidOperation
from typing import Any, cast

from tenantry.control.importing.litellm_reading import Reading, named, rows
from tenantry.control.importing.report import Fate, take_over_key
from tenantry.control.toml_out import Key
from tenantry.domain.keys import BadName, slugify
from tenantry.domain.limits import BadLimit, read_limit
from tenantry.domain.money import check_amount, usd_to_nanos

TIER = "litellm"
# Of the columns that keep names and labels, less what is added to one.
NAME_CHARS_MAX = 100
# LiteLLM's names and ours. Its `tpm_limit` counts input and output together.
LIMITS_TAKEN = {
    "rpm_limit": "requests_per_minute",
    "tpm_limit": "input_tokens_per_minute",
    "max_parallel_requests": "sessions_max",
}
_EVERY_MODEL = ("all-proxy-models", "all-team-models", "*", "anthropic/*")
_TEAMS: tuple[Key, ...] = (
    ("teams",),
    ("general_settings", "teams"),
    ("litellm_settings", "teams"),
    ("litellm_settings", "default_team_settings"),
)
_KEYS: tuple[Key, ...] = (("keys",), ("general_settings", "keys"), ("litellm_settings", "keys"))
_DEFAULTS: Key = ("litellm_settings", "default_key_generate_params")
_MASTER: Key = ("general_settings", "master_key")

_DURATION = re.compile(r"(\d{1,5})\s*(s|m|h|d|w|mo)")
_DAYS = {"s": Decimal(1) / 86400, "m": Decimal(1) / 1440, "h": Decimal(1) / 24, "d": 1, "w": 7, "mo": 30}
_WORDS = {"hourly": "1h", "daily": "1d", "weekly": "7d", "monthly": "30d"}
_CENT = Decimal("0.01")


@dataclass(slots=True)
class Clients:
    """Tenants by slug, comments by path, and limits of the tier they share. `slugs` are those of teams by their ids."""

    tenants: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    comments: dict[Key, str] = field(default_factory=dict[Key, str])
    tier_limits: dict[str, Any] = field(default_factory=dict[str, Any])
    slugs: dict[str, str] = field(default_factory=dict[str, str])


def read_clients(reading: Reading) -> Clients:
    """Teams become tenants; a key becomes one of its team's, or a tenant of its own."""
    clients = Clients()
    _read_tier_limits(reading, clients)
    found = reading.find(_DEFAULTS)
    defaults = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    for place in _TEAMS:
        for number, row in enumerate(rows(reading.find(place))):
            _read_team(reading, clients, (*place, str(number)), row)
    for place in _KEYS:
        for number, row in enumerate(rows(reading.find(place))):
            _read_key(reading, clients, (*place, str(number)), row, defaults)
    if defaults:
        reading.tell(_DEFAULTS, Fate.TAKEN, "where a key in this file says nothing else")
    if not clients.tenants:
        _read_master_key(reading, clients)
    for entry in clients.tenants.values():
        entry.setdefault("keys", {"production": {}})
    return clients


def _read_tier_limits(reading: Reading, clients: Clients) -> None:
    for section in ("general_settings", "litellm_settings"):
        path = (section, "max_parallel_requests")
        value = reading.find(path)
        if value is not None and _read_limit(reading, path, "sessions_max", value, clients.tier_limits):
            reading.tell(path, Fate.TAKEN, f"tenants.toml: tiers.{TIER}.sessions_max = {value}")


def _read_master_key(reading: Reading, clients: Clients) -> None:
    """Nobody but the master key is named: its users become one tenant."""
    entry: dict[str, Any] = {"name": "LiteLLM", "tier": TIER}
    reading.report.warn(
        f"{reading.source} names no team and no key: LiteLLM keeps them in its database. List them under `teams:` and "
        "`keys:` in this file (as its /team/list and /key/list answer), and import again; or divide the one tenant"
    )
    value = reading.find(_MASTER)
    if value is not None and reading.until is not None:
        variable = reading.secret(_MASTER, value, "LITELLM_MASTER_KEY", "the master key of LiteLLM")
        if variable is not None:
            entry["keys"] = {"production": {}, "litellm-master": take_over_key(variable, reading.until)}
            reading.tell(_MASTER, Fate.TAKEN, f"a key of tenant litellm until {reading.until}, beside a new one")
    clients.tenants["litellm"] = entry


def _read_team(reading: Reading, clients: Clients, path: Key, row: dict[str, Any]) -> None:
    named_by = next((name for name in ("team_alias", "team_id") if row.get(name)), None)
    if named_by is None:
        reading.problem(path, "has no team_alias and no team_id")
        return
    slug = _new_tenant(reading, clients, (*path, named_by), str(row[named_by]))
    if slug is None:
        return
    clients.comments["tenants", slug] = f"{named(path)} of {reading.source}"
    for name in ("team_alias", "team_id"):
        if row.get(name):
            clients.slugs[str(row[name])] = slug
            reading.tell((*path, name), Fate.TAKEN, f"tenant {slug}")
    entry = clients.tenants[slug]
    _read_limits(reading, path, row, entry)
    _read_budget(reading, path, row, entry)
    if row.get("blocked") is True:
        entry["status"] = "disabled"
        reading.tell((*path, "blocked"), Fate.TAKEN, f"tenant {slug} is disabled")


def _new_tenant(reading: Reading, clients: Clients, path: Key, name: str) -> str | None:
    if len(name) > NAME_CHARS_MAX or not name.isprintable():
        reading.problem(path, f"is no name: at most {NAME_CHARS_MAX} characters on one line")
        return None
    try:
        slug = slugify(name)
    except BadName:
        reading.problem(path, "has no letter or digit of the Latin alphabet to make a tenant's id from")
        return None
    if slug in clients.tenants:
        reading.problem(path, f"would be the tenant {slug} a second time: rename one")
        return None
    clients.tenants[slug] = {"name": name, "tier": TIER}
    return slug


def _read_key(reading: Reading, clients: Clients, path: Key, row: dict[str, Any], defaults: dict[str, Any]) -> None:
    label = str(row.get("key_alias") or row.get("key_name") or f"key-{int(path[-1]) + 1}")
    team = row.get("team_id")
    if team is not None:
        slug = clients.slugs.get(str(team))
        if slug is None:
            reading.problem((*path, "team_id"), "names no team of this file")
            return
        reading.tell((*path, "team_id"), Fate.TAKEN, f"a key of tenant {slug}")
        entry: dict[str, Any] = {}
    else:
        slug = _new_tenant(reading, clients, (*path, "key_alias"), label)
        if slug is None:
            return
        clients.comments["tenants", slug] = f"{named(path)} of {reading.source}"
        entry = clients.tenants[slug]
    for name in ("key_alias", "key_name"):
        reading.tell((*path, name), Fate.TAKEN, f"key {label} of tenant {slug}")
    full = {**defaults, **row}
    _read_limits(reading, path, full, entry)
    if team is None:
        _read_budget(reading, path, full, entry)
    else:
        reading.tell((*path, "max_budget"), Fate.NOT_HERE, "tenants.toml has budgets of tenants, not of keys")
        reading.tell((*path, "budget_duration"), Fate.NOT_HERE, "tenants.toml has budgets of tenants, not of keys")
    own = _within(reading, path, entry.get("limits", {}), clients.tenants[slug]) if team is not None else {}
    _add_keys(reading, clients, slug, label, path, row, own)


def _add_keys(
    reading: Reading, clients: Clients, slug: str, label: str, path: Key, row: dict[str, Any], own: dict[str, Any]
) -> None:
    """The new key, and beside it the old one while its grace lasts."""
    keys = clients.tenants[slug].setdefault("keys", {})
    if len(label) > NAME_CHARS_MAX or not label.isprintable():
        reading.problem(path, f"has no name that a key can have: at most {NAME_CHARS_MAX} characters on one line")
        return
    if label in keys:
        reading.problem(path, f"is the second key {label!r} of tenant {slug}: rename one")
        return
    limits = {"limits": own} if own else {}
    expires = _expiry(reading, path, row)
    keys[label] = {**({"expires": expires} if expires is not None else {}), **limits}
    if row.get("blocked") is True:
        reading.tell(
            (*path, "blocked"), Fate.NOT_HERE, "the old key is blocked, so it is not taken over; the new one is not"
        )
        reading.report.warn(
            f"key {label!r} of {slug} is blocked at LiteLLM; its new key is not: remove it if it should be"
        )
        return
    place = next(((*path, name) for name in ("key", "api_key") if row.get(name)), None)
    if place is None:
        reading.tell((*path, "token"), Fate.NOT_HERE, "a hash of LiteLLM's; only the key's text could be taken over")
        return
    if reading.until is None:
        reading.tell(place, Fate.NOT_HERE, "the old key is not taken over (--grace 0)")
        return
    proposed = re.sub(r"[^A-Z0-9]+", "_", f"{slug}_{label}_LITELLM_KEY".upper())
    variable = reading.secret(place, row[place[-1]], proposed, f"the old key {label!r} of {slug}")
    if variable is not None:
        until = min(reading.until, expires) if expires is not None else reading.until
        keys[f"{label}-old"] = {**take_over_key(variable, until), **limits}
        reading.tell(place, Fate.TAKEN, f"the old key works until {until}, beside a new one")


def _expiry(reading: Reading, path: Key, row: dict[str, Any]) -> date | None:
    value = row.get("expires")
    if value is None:
        return None
    try:
        day = value if isinstance(value, date) else datetime.fromisoformat(str(value))
    except ValueError:
        reading.problem((*path, "expires"), "is no date such as 2027-01-31")
        return None
    found = day.date() if isinstance(day, datetime) else day
    reading.tell((*path, "expires"), Fate.TAKEN, f"the key expires on {found}")
    return found


def _read_limits(reading: Reading, path: Key, row: dict[str, Any], entry: dict[str, Any]) -> None:
    limits: dict[str, Any] = {}
    for name, ours in LIMITS_TAKEN.items():
        value = row.get(name)
        if value is None or not _read_limit(reading, (*path, name), ours, value, limits):
            continue
        told = f"{ours} = {value}"
        if name == "rpm_limit":
            # LiteLLM's window lets a whole minute's requests come at once.
            limits["request_burst"] = limits[ours]
        if name == "tpm_limit":
            told += " (LiteLLM counts output too; here cache reads are free, and output has its own limit)"
        reading.tell((*path, name), Fate.TAKEN, told)
    _read_model_names(reading, (*path, "models"), row.get("models"), entry, limits)
    if limits:
        entry["limits"] = limits


def _read_limit(reading: Reading, path: Key, name: str, value: Any, limits: dict[str, Any]) -> bool:
    try:
        number = read_limit(name, int(value) if isinstance(value, float) and value.is_integer() else value)
    except BadLimit as error:
        reading.problem(path, f"cannot be read: {error}")
        return False
    if number is None:
        return False
    limits[name] = number
    return True


def _read_model_names(reading: Reading, path: Key, value: Any, entry: dict[str, Any], limits: dict[str, Any]) -> None:
    if not isinstance(value, list) or not value:
        return
    asked = [str(name) for name in cast("list[Any]", value)]
    if any(name in _EVERY_MODEL for name in asked):
        reading.tell(path, Fate.TAKEN, "every model of the tier")
        return
    known = {name: reading.models.get(name, name if name.startswith("claude-") else None) for name in asked}
    ours = list(dict.fromkeys(name for name in known.values() if name is not None))
    foreign = [name for name, found in known.items() if found is None]
    left_out = f"; left out, as no model of Claude's: {', '.join(foreign)}" if foreign else ""
    if not ours:
        # An empty list would allow every model.
        entry["status"] = "disabled"
        reading.tell(path, Fate.NOT_HERE, f"no model of Claude's is among them, so the tenant is disabled{left_out}")
        return
    limits["models"] = ours
    reading.tell(path, Fate.TAKEN, f"models = {', '.join(ours)}{left_out}")


def _within(reading: Reading, path: Key, own: dict[str, Any], tenant: dict[str, Any]) -> dict[str, Any]:
    """A key's own limits, without those above its tenant's, which no key can have."""
    most = tenant.get("limits", {})
    above = [name for name, value in own.items() if isinstance(value, int) and value > most.get(name, value)]
    for name in above:
        reading.report.warn(f"{named(path)}: {name} is above its team's and was left out: the team's holds")
    return {name: value for name, value in own.items() if name not in above}


def _read_budget(reading: Reading, path: Key, row: dict[str, Any], entry: dict[str, Any]) -> None:
    if row.get("max_budget") is None:
        return
    place = (*path, "max_budget")
    try:
        amount = Decimal(str(row["max_budget"]))
        if isinstance(row["max_budget"], bool) or not amount.is_finite() or amount < 0:
            raise ValueError
        period, most, differs = _period(row.get("budget_duration"), amount)
        if most:
            check_amount(usd_to_nanos(most))
    except (InvalidOperation, ValueError):
        reading.problem(place, "is no budget: an amount of dollars, and a budget_duration such as 30d, 7d, 24h or 1mo")
        return
    if most == 0:
        entry["status"] = "disabled"
        reading.tell(place, Fate.TAKEN, "a budget of nothing: the tenant is disabled")
        return
    told = f"{most:.2f}" if most == most.quantize(_CENT) else f"{most:f}"
    entry["budget"] = {f"{period}_usd": told, "mode": "hard"}
    becomes = f"tenants.toml: budget.{period}_usd = {told}, hard"
    reading.tell(place, Fate.TAKEN, becomes)
    reading.tell((*path, "budget_duration"), Fate.TAKEN, becomes)
    if differs:
        report_as = f"${told} a {period}"
        reading.report.warn(f"{reading.source}:{reading.line(place)}: {named(place)} {differs.format(report_as)}")


_FOR_EVER = "had no period, so it was for ever; here it is {}, and again every month: set what you mean"
_OTHER = "had a period other than a day, a week or a month; it became {}, which is never more: set what you mean"


def _period(duration: Any, amount: Decimal) -> tuple[str, Decimal, str]:
    """The period that a budget falls into, the amount for it, and how that differs from what it was ("": not at all).

    What does not fit becomes the next longer period with the same amount; what is longer than a month, its part of 30
    days, so that it is never more money than it was.
    """
    if duration is None:
        return "month", amount, _FOR_EVER
    text = str(duration).strip().lower()
    found = _DURATION.fullmatch(_WORDS.get(text, text))
    if found is None or int(found.group(1)) == 0:
        raise ValueError
    days = int(found.group(1)) * _DAYS[found.group(2)]
    for period, shortest, longest in (("day", 1, 1), ("week", 7, 7), ("month", 28, 31)):
        if days <= longest:
            return period, amount, "" if days >= shortest else _OTHER
    return "month", (amount * 30 / days).quantize(_CENT, ROUND_DOWN), _OTHER
