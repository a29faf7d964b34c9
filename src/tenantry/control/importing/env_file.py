"""The classic set-up: `.env.proxy` and `tenant-routes.json`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from tenantry.control.importing.checking import checked
from tenantry.control.importing.dotenv import Entry, read_entries
from tenantry.control.importing.report import Imported, Report, take_over_key
from tenantry.control.importing.routes import Routes, read_routes
from tenantry.control.importing.secrets import KEY_CHARS_SAFE, Secret, classify
from tenantry.control.toml_out import Key
from tenantry.domain.keys import BadName, slugify
from tenantry.settings import SETTINGS

# The tiers that every site has from `init` on.
SHIPPED_TIERS = ("standard", "premium", "enterprise")
CLASSIC_SETTINGS = {setting.classic: name for name, setting in SETTINGS.items() if setting.classic is not None}
# One Anthropic key for all clients, as the classic proxy had it.
UPSTREAM_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_KEY", "CLAUDE_API_KEY", "ANTHROPIC_AUTH_TOKEN")
OLD_KEY_LABEL = "old-proxy"
NEW_KEY_LABEL = "production"

_TENANT = re.compile(r"TENANT_([A-Za-z0-9_]*?)_?(KEY|TIER)")
# As alike as `PROXY_PROT` and `PROXY_PORT`: a slip of the finger, not another setting.
_ALIKE = 0.85


@dataclass(slots=True)
class _Tenant:
    """What the file says about one tenant."""

    name: str
    slug: str
    key: Entry | None = None
    tier: Entry | None = None
    secret: Secret | None = None


@dataclass(slots=True)
class _Reading:
    """One import under way."""

    env_name: str
    until: date | None
    report: Report
    routes: Routes
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    tenants: dict[str, _Tenant] = field(default_factory=dict[str, _Tenant])
    upstream_key: Entry | None = None


def import_env_file(
    env: tuple[str, str], routes: tuple[str, str] | None, until: date | None, report: Report | None = None
) -> Imported:
    """Read the texts of both files; each comes with its name. Old keys work `until` (None: not at all).

    Raises:
        ImportRefused: something cannot be imported; it lists everything that cannot.
    """
    report = report or Report()
    env_name, text = env
    reading = _Reading(env_name, until, report, read_routes(routes, SHIPPED_TIERS, report))
    entries = _entries(reading, text)
    for entry in entries:
        _read_entry(reading, entry)
    _check_tenants(reading)
    report.require_sound()
    return checked(_result(reading, text, entries))


def _entries(reading: _Reading, text: str) -> list[Entry]:
    """The assignments that count: of several with one name the last, as every reader of such files has it."""
    entries, wrong = read_entries(text)
    for line, why in wrong:
        reading.report.problem(reading.env_name, line, why)
    last = {entry.name: entry.line for entry in entries}
    for entry in entries:
        if entry.line != last[entry.name]:
            reading.report.not_here(
                reading.env_name, entry.line, entry.name, f"line {last[entry.name]} sets it again, and counts"
            )
    if not entries and not wrong:
        reading.report.problem(reading.env_name, 0, "sets nothing")
    return [entry for entry in entries if entry.line == last[entry.name]]


def _read_entry(reading: _Reading, entry: Entry) -> None:
    tenant = _TENANT.fullmatch(entry.name)
    if entry.name in CLASSIC_SETTINGS:
        _read_setting(reading, entry)
    elif entry.name in UPSTREAM_KEYS:
        _read_upstream_key(reading, entry)
    elif tenant is not None:
        _read_tenant(reading, entry, *tenant.groups())
    elif entry.name.startswith("TENANTRY_"):
        reading.report.taken(
            reading.env_name, entry.line, entry.name, "a setting of this gateway, read from here as it is"
        )
    else:
        _read_unknown(reading, entry)


def _read_setting(reading: _Reading, entry: Entry) -> None:
    name = CLASSIC_SETTINGS[entry.name]
    try:
        value = SETTINGS[name].read(entry.value)
    except ValueError as error:
        # What is in the place of a URL may hold a password.
        told = "" if "@" in entry.value else f", not {entry.value!r}"
        reading.report.problem(reading.env_name, entry.line, f"{entry.name} {error}{told}")
        return
    value = value.lower() if name == "log_level" else value
    reading.settings[name] = value
    reading.report.taken(reading.env_name, entry.line, entry.name, f"tenantry.toml: {name} = {value!r}")


def _read_upstream_key(reading: _Reading, entry: Entry) -> None:
    secret = classify(entry.value)
    if secret.is_refused:
        reading.report.problem(reading.env_name, entry.line, f"{entry.name} {secret.value}")
    elif reading.upstream_key is not None:
        why = f"{reading.upstream_key.name} is the Anthropic key already"
        reading.report.not_here(reading.env_name, entry.line, entry.name, why)
    else:
        reading.upstream_key = entry
        becomes = f"the credential of every tenant without an Anthropic key of its own: env:{entry.name}"
        reading.report.taken(reading.env_name, entry.line, entry.name, becomes)


def _read_tenant(reading: _Reading, entry: Entry, name: str, what: str) -> None:
    try:
        slug = slugify(name.replace("_", " "))
    except BadName:
        reading.report.problem(
            reading.env_name, entry.line, f"{entry.name} names no tenant: write TENANT_<NAME>_{what}"
        )
        return
    tenant = reading.tenants.setdefault(slug, _Tenant(name, slug))
    if tenant.name != name:
        text = f"{entry.name} and TENANT_{tenant.name}_... would both be the tenant {slug}: rename one"
        reading.report.problem(reading.env_name, entry.line, text)
    elif what == "KEY":
        tenant.key = entry
        _read_tenant_key(reading, tenant, entry)
    else:
        tenant.tier = entry
        _read_tenant_tier(reading, tenant, entry)


def _read_tenant_key(reading: _Reading, tenant: _Tenant, entry: Entry) -> None:
    tenant.secret = classify(entry.value)
    report, where = reading.report, (reading.env_name, entry.line, entry.name)
    if tenant.secret.is_refused:
        report.problem(reading.env_name, entry.line, f"{entry.name} {tenant.secret.value}")
    elif tenant.secret is Secret.UPSTREAM:
        report.taken(
            *where, f"the Anthropic key of {tenant.slug}: credential = env:{entry.name}; clients get a new key"
        )
    elif reading.until is None:
        report.not_here(*where, f"the old key of {tenant.slug} is not taken over (--grace 0); clients get a new key")
    else:
        report.taken(*where, f"the old key of {tenant.slug}: works until {reading.until}, beside a new one")
        if len(entry.value) < KEY_CHARS_SAFE:
            report.warn(
                f"{reading.env_name}:{entry.line}: the old key of {tenant.slug} is short and can be guessed; "
                "keep its grace short"
            )


def _read_tenant_tier(reading: _Reading, tenant: _Tenant, entry: Entry) -> None:
    tier = entry.value.strip().lower()
    if tier in reading.routes.tiers:
        reading.report.taken(reading.env_name, entry.line, entry.name, f"tenants.toml: tier of {tenant.slug} = {tier}")
        return
    near = difflib.get_close_matches(tier, reading.routes.tiers, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    known = ", ".join(reading.routes.tiers)
    text = f"{entry.name} is no tier: there are {known}, and more if session_limits names them{hint}"
    reading.report.problem(reading.env_name, entry.line, text)


def _meant(name: str) -> str | None:
    """The known name that `name` is a slip of, or None."""
    upper = name.upper()
    stem = upper.rpartition("_")[0]
    known = [*CLASSIC_SETTINGS, *UPSTREAM_KEYS]
    if upper.startswith("TENANT_"):
        known += [f"{stem}_KEY", f"{stem}_TIER"]
    near = difflib.get_close_matches(upper, known, 1, _ALIKE)
    return near[0] if near else None


def _read_unknown(reading: _Reading, entry: Entry) -> None:
    meant = _meant(entry.name)
    if meant is not None:
        reading.report.problem(reading.env_name, entry.line, f"{entry.name} is not known; did you mean {meant}?")
        return
    why = "no setting of the classic proxy, and none of this gateway"
    if entry.name.startswith("TENANT_"):
        why = "of a tenant only _KEY and _TIER are known; limits and budgets are set in tenants.toml"
    reading.report.not_here(reading.env_name, entry.line, entry.name, why)


def _check_tenants(reading: _Reading) -> None:
    names = [tenant.name for tenant in reading.tenants.values() if tenant.key is not None]
    owners: dict[str, str] = {}
    for tenant in reading.tenants.values():
        if tenant.key is None and tenant.tier is not None:
            near = difflib.get_close_matches(tenant.name, names, 1)
            hint = f"; did you mean TENANT_{near[0]}_TIER?" if near else ""
            text = f"{tenant.tier.name} is there, but no TENANT_{tenant.name}_KEY{hint}"
            reading.report.problem(reading.env_name, tenant.tier.line, text)
        elif tenant.key is not None and tenant.secret is Secret.PROXY:
            other = owners.setdefault(tenant.key.value, tenant.key.name)
            if other != tenant.key.name:
                text = f"{tenant.key.name} is the same key as {other}: one key cannot be two tenants"
                reading.report.problem(reading.env_name, tenant.key.line, text)
    if not reading.tenants and not reading.report.problems:
        reading.report.problem(reading.env_name, 0, "names no tenant: there is no TENANT_<NAME>_KEY")


def _result(reading: _Reading, text: str, entries: list[Entry]) -> Imported:
    report = reading.report
    _warn_of_the_shell(reading, text, entries)
    shared = _shared_credentials(reading)
    sharing = {slug for slugs in shared.values() for slug in slugs}
    variables: dict[str, str] = {}
    comments: dict[Key, str] = {}
    tenants: dict[str, Any] = {}
    for tenant in reading.tenants.values():
        tenants[tenant.slug] = _tenant_entry(reading, tenant, sharing, variables)
        comments["tenants", tenant.slug] = f"TENANT_{tenant.name}_* of {reading.env_name}"
    for variable, slugs in shared.items():
        report.warn(
            f"{', '.join(slugs)} share one Anthropic key ({variable}), as before; shared_credential = true says so. "
            "They see each other's files, batches and limits upstream: give each a key of a workspace of its own"
        )
    tiers = reading.routes.tier_entries({_tier_of(reading, tenant) for tenant in reading.tenants.values()})
    document = ({"tiers": tiers} if tiers else {}) | {"tenants": tenants}
    return Imported(reading.settings, document, comments, report.sorted_lines(), report.warnings, variables)


def _tier_of(reading: _Reading, tenant: _Tenant) -> str:
    return tenant.tier.value.strip().lower() if tenant.tier is not None else reading.routes.default_tier


def _credential_of(reading: _Reading, tenant: _Tenant) -> str:
    """The environment variable with the Anthropic key of a tenant."""
    if tenant.key is not None and tenant.secret is Secret.UPSTREAM:
        return tenant.key.name
    if reading.upstream_key is not None:
        return reading.upstream_key.name
    return f"{tenant.name.upper()}_ANTHROPIC_KEY"


def _shared_credentials(reading: _Reading) -> Mapping[str, list[str]]:
    """Variables whose key serves several tenants, with their slugs. Two variables may hold one key."""
    texts = {tenant.key.name: tenant.key.value for tenant in reading.tenants.values() if tenant.key is not None}
    if reading.upstream_key is not None:
        texts[reading.upstream_key.name] = reading.upstream_key.value
    groups: dict[str, tuple[str, list[str]]] = {}
    for tenant in reading.tenants.values():
        variable = _credential_of(reading, tenant)
        groups.setdefault(texts.get(variable, variable), (variable, []))[1].append(tenant.slug)
    return {variable: slugs for variable, slugs in groups.values() if len(slugs) > 1}


def _tenant_entry(
    reading: _Reading, tenant: _Tenant, sharing: Collection[str], variables: dict[str, str]
) -> dict[str, Any]:
    variable = _credential_of(reading, tenant)
    if tenant.secret is not Secret.UPSTREAM and reading.upstream_key is None:
        variables[variable] = f"the Anthropic key of {tenant.slug}"
    entry: dict[str, Any] = {
        "name": " ".join(word.capitalize() for word in tenant.name.split("_") if word),
        "tier": _tier_of(reading, tenant),
        "credential": f"env:{variable}",
    }
    if tenant.slug in sharing:
        entry["shared_credential"] = True
    keys: dict[str, Any] = {NEW_KEY_LABEL: {}}
    if tenant.key is not None and tenant.secret is Secret.PROXY and reading.until is not None:
        keys[OLD_KEY_LABEL] = take_over_key(tenant.key.name, reading.until)
    return entry | {"keys": keys}


def _warn_of_the_shell(reading: _Reading, text: str, entries: list[Entry]) -> None:
    """The next step has a shell read the file; say now where it would read something else."""
    source = reading.env_name
    if text.startswith("\ufeff"):
        reading.report.warn(f"{source} begins with a byte order mark, which a shell takes for a part of the first name")
    if "\r\n" in text:
        reading.report.warn(f"{source} has Windows line ends, which a shell takes for a part of each value")
    for entry in entries:
        if entry.shell_reads:
            reading.report.warn(f"{source}:{entry.line}: {entry.name} {entry.shell_reads}")
