"""What only the store can tell to be wrong in a file of tenants: names that are not there, limits that do not fit."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from tenantry.control.declared.changes import Fingerprint, leaving, target_credential
from tenantry.control.declared.model import Declaration, Problem, TenantBlock
from tenantry.control.declared.state import Standing, target_name
from tenantry.domain.limits import Limits, exceeds
from tenantry.storage.directory import SHIPPED_SESSIONS, first_limits

# Of the column that keeps a target's name.
TARGET_CHARS_MAX = 64


def check_against(
    declared: Declaration,
    standing: Standing,
    fingerprint: Fingerprint = lambda reference: None,
    why_no_host: Callable[[str], str | None] = lambda host: None,
) -> list[Problem]:
    """Everything that is wrong. `fingerprint` tells that two references hold one secret, where they are at hand;
    `why_no_host` why a name cannot be a client's own on this site.
    """
    return [
        *_check_whole(declared, standing),
        *_check_names(declared, standing),
        *_check_limits(declared, standing),
        *(_check_sharing(declared, standing) if declared.whole else ()),
        *_check_agreement(declared, standing),
        *_check_fallbacks(declared, standing, fingerprint),
        *_check_hosts(declared, standing, why_no_host),
        *_check_slots(declared, standing),
    ]


def _check_whole(declared: Declaration, standing: Standing) -> Iterator[Problem]:
    going = len(leaving(declared, standing)) if declared.whole else 0
    if going and not declared.tenants and not any("tenants" in one for one in declared.documents.values()):
        text = f"declares no tenant, and {going} are declared now; if all are to go, write [tenants] with nothing below"
        yield declared.problem((), text)
    for kind, names in (("tier", declared.tiers), ("plan", declared.plans)):
        for removed_kind, name in standing.declared:
            is_going = removed_kind == kind and name not in names and not (kind == "tier" and name in SHIPPED_SESSIONS)
            if declared.whole and is_going:
                users = _users_after(declared, standing, kind, name)
                if users:
                    yield declared.problem((), f"{kind} {name!r} is no longer declared, but {', '.join(users)} has it")


def _users_after(declared: Declaration, standing: Standing, kind: str, name: str) -> list[str]:
    """Tenants that have a tier or plan after the change. One that is kept when it leaves keeps its tier."""
    blocks = {slug: one.block for slug, one in standing.tenants.items()} | dict(declared.tenants)
    gone = {slug for slug in leaving(declared, standing) if kind == "plan" or blocks[slug].offboard == "delete"}
    return [slug for slug, block in blocks.items() if getattr(block, kind) == name and slug not in gone]


def _check_names(declared: Declaration, standing: Standing) -> Iterator[Problem]:
    tiers = {*declared.tiers, *standing.tiers}
    plans = {*declared.plans, *standing.plans}
    vault = {f"vault:{name}" for name in standing.credentials}
    for slug, block in declared.tenants.items():
        checks = [
            ("tier", block.tier, tiers),
            ("plan", block.plan, plans),
            ("upstream", block.upstream, standing.upstreams),
        ]
        for role in ("credential", "fallback"):
            reference = getattr(block, role)
            if reference is not None and reference.startswith("vault:"):
                checks.append((role, reference, vault))
        for name, value, known in checks:
            if value is not None and value not in known:
                names = [one.removeprefix("vault:") for one in known]
                value = value.removeprefix("vault:")
                text = f"there is no {name} {value!r}; {_nearest(value, names)}"
                yield declared.problem(("tenants", slug, name), text)
        yield from _check_targets(slug, block, declared, standing)


def _check_targets(slug: str, block: TenantBlock, declared: Declaration, standing: Standing) -> Iterator[Problem]:
    stood = standing.tenants.get(slug)
    has = stood.block.targets if stood is not None else ()
    for reference in block.targets:
        place = ("tenants", slug, "alerts", "targets")
        if reference.startswith("vault:") and reference not in has:
            yield declared.problem(place, f"{slug} has no alert target {reference!r}; {_nearest(reference, has)}")
        if len(target_name(slug, reference)) > TARGET_CHARS_MAX:
            text = f"{reference} is too long: with the tenant's slug it may have {TARGET_CHARS_MAX - 1} characters"
            yield declared.problem(place, text)


def _nearest(value: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(value, names, 1, 0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names) or 'none'}"


def _check_limits(declared: Declaration, standing: Standing) -> Iterator[Problem]:
    """No key may have more than its tenant, neither those that are declared nor those that stand."""
    tiers = {**standing.tiers, **declared.tiers}
    if declared.whole:
        reset = [name for kind, name in standing.declared if kind == "tier" and name not in declared.tiers]
        tiers |= {name: first_limits(name) for name in reset}
    for slug in standing.tenants.keys() | declared.tenants.keys():
        block = _block_after(slug, declared, standing)
        limits = tiers.get(block.tier, Limits()).with_changes(block.limits)
        keys = block.keys
        if keys is None:
            stood = standing.tenants.get(slug)
            keys = {label: key.block for label, key in stood.keys.items()} if stood is not None else {}
        for label, key in keys.items():
            for text in exceeds(key.limits, limits):
                yield declared.problem(("tenants", slug, "keys", label, "limits"), f"key {label!r} of {slug}: {text}")


def _block_after(slug: str, declared: Declaration, standing: Standing) -> TenantBlock:
    return declared.tenants[slug] if slug in declared.tenants else standing.tenants[slug].block


def _check_sharing(declared: Declaration, standing: Standing) -> Iterator[Problem]:
    """One key for two clients mixes their limits and their data upstream, unless that is declared."""
    users: dict[str, set[str]] = defaultdict(set)
    going = set(leaving(declared, standing)) if declared.whole else set[str]()
    for name, credential in standing.credentials.items():
        # One by one: a set without the keys of a mapping is made by a look at all of those.
        users[name] |= {slug for slug in credential.users if slug not in declared.tenants and slug not in going}
    for slug, block in declared.tenants.items():
        for reference in (block.credential, block.fallback):
            if reference is not None:
                users[target_credential(reference, standing) or reference].add(slug)
    for slug, block in declared.tenants.items():
        for role in ("credential", "fallback"):
            reference = getattr(block, role)
            target = target_credential(reference, standing) or reference
            known = standing.credentials.get(target or "")
            if target is None or block.shared_credential or (known and known.shared):
                continue
            others = users[target] - {slug}
            if others:
                text = (
                    f"{reference} would serve {slug} and {', '.join(sorted(others))}: use a key of its own, "
                    "or write shared_credential = true in each"
                )
                yield declared.problem(("tenants", slug, role), text)


def _check_agreement(declared: Declaration, standing: Standing) -> Iterator[Problem]:
    """Tenants on one credential cannot want two upstreams or workspaces of it."""
    for field in ("upstream", "workspace"):
        wanted: dict[str, tuple[str, str]] = {}
        for slug, block in declared.tenants.items():
            value = getattr(block, field)
            if value is None or block.credential is None:
                continue
            target = target_credential(block.credential, standing) or block.credential
            first, said = wanted.setdefault(target, (slug, value))
            if said != value:
                text = f"{slug} and {first} share {block.credential}, which has one {field}: {value!r} or {said!r}"
                yield declared.problem(("tenants", slug, field), text)


def _check_hosts(
    declared: Declaration, standing: Standing, why_no_host: Callable[[str], str | None]
) -> Iterator[Problem]:
    """A host is one tenant's: of those that are declared, and of those that stand and stay."""
    going = set(leaving(declared, standing)) if declared.whole else set[str]()
    owners = {
        host: slug
        for slug, one in standing.tenants.items()
        if slug not in declared.tenants and slug not in going
        for host in one.block.hosts
    }
    for slug, block in declared.tenants.items():
        for host in block.hosts:
            owner = owners.setdefault(host, slug)
            text = f"host {host} would be {owner}'s and {slug}'s: a name is one tenant's" if owner != slug else None
            text = text or why_no_host(host)
            if text is not None:
                yield declared.problem(("tenants", slug, "hosts"), text)


def _check_slots(declared: Declaration, standing: Standing) -> Iterator[Problem]:
    """Slots are as many as the plan has or as were agreed on, and keys are for those that there are."""
    plans = {**standing.plans, **declared.plans}
    for slug, block in declared.tenants.items():
        stood = standing.tenants.get(slug)
        there = block.slots
        if there is None:
            there = (stood.block.slots or {}) if stood is not None else {}
        for label, key in (block.keys or {}).items():
            if key.slot and key.slot not in there:
                text = f"{slug} has no slot {key.slot!r}; {_nearest(key.slot, there)}"
                yield declared.problem(("tenants", slug, "keys", label, "slot"), text)
        terms = plans.get(block.plan or "")
        agreed = block.plan_slots
        if agreed is None and stood is not None and stood.block.plan == block.plan:
            agreed = stood.block.plan_slots
        most = agreed if agreed is not None else terms.slots if terms is not None else None
        if block.slots is not None and most is not None and len(block.slots) > most:
            count = len(block.slots)
            where = f"plan_slots agrees on {most}" if agreed is not None else f"plan {block.plan} has {most}"
            text = f"{slug} declares {count} slots, and {where}: plan_slots = {count} agrees on more"
            yield declared.problem(("tenants", slug, "slots"), text)


def _check_fallbacks(declared: Declaration, standing: Standing, fingerprint: Fingerprint) -> Iterator[Problem]:
    """A fallback that is the credential itself cannot serve where that one cannot."""
    for slug, block in declared.tenants.items():
        if block.credential is None or block.fallback is None:
            continue
        if _identity(block.credential, standing, fingerprint) == _identity(block.fallback, standing, fingerprint):
            text = f"the fallback {block.fallback} is the credential {block.credential} itself: name another key"
            yield declared.problem(("tenants", slug, "fallback"), text)


def _identity(reference: str, standing: Standing, fingerprint: Fingerprint) -> object:
    """The secret behind a reference; the stored credential, or the reference, where that is not at hand."""
    name = target_credential(reference, standing)
    stored = standing.credentials.get(name or "")
    found = None if reference.startswith("vault:") else fingerprint(reference)
    return found or (stored.fingerprint if stored is not None else reference)
