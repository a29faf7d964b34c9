"""Carries out changes on a directory, within the transaction that it is handed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from tenantry.control.apprise_urls import is_apprise_url
from tenantry.control.declared.changes import Change, own_credential, wanted_credentials
from tenantry.control.declared.model import Declaration, KeyBlock, TenantBlock
from tenantry.control.declared.references import References
from tenantry.control.declared.state import Standing, target_name
from tenantry.storage.columns import now_utc
from tenantry.storage.directory import Directory, DirectoryError, first_limits
from tenantry.storage.directory.alert_targets import APPRISE, WEBHOOK
from tenantry.storage.directory.credentials import Binding, NewCredential
from tenantry.storage.directory.keys import WantedKey
from tenantry.storage.directory.plans import Agreed
from tenantry.storage.directory.tenants import NewTenant, TenantChange

# How long a key goes on that its `rotate_days` replaced: time to hand the new one to a client that is on holiday.
ROTATION_GRACE_DAYS = 7
UPSTREAM = "anthropic"

_COLUMNS = {
    "name": "name",
    "tier": "tier",
    "plan": "plan",
    "status": "status",
    "contact": "contact",
    "user_profile": "user_profile_id",
    "disconnect": "disconnect",
    "offboard": "offboard",
    "declared": "declared",
    "budget_mode": "budget_mode",
}
_AGREED = {"plan_slots", "plan_from"}
_BUDGETS = {"month_nanos": "month", "week_nanos": "week", "day_nanos": "day"}


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made, its text known only now. Without a `key_id` it is the signing secret of a webhook."""

    tenant: str
    label: str
    key_id: str
    text: str = field(repr=False)


class Executor:
    """One apply. `keys` are those that were made, `added` the names of the credentials."""

    def __init__(self, directory: Directory, declared: Declaration, standing: Standing, references: References) -> None:
        self._directory = directory
        self._declared = declared
        self._standing = standing
        self._references = references
        self._by_source = {one.source: name for name, one in standing.credentials.items() if one.source is not None}
        self._names = set(standing.credentials)
        self._by_fingerprint = {one.fingerprint: name for name, one in standing.credentials.items()}
        self._wanted = wanted_credentials(declared, standing)
        self._referred = {ref for block in declared.tenants.values() for ref in (block.credential, block.fallback)}
        self._new_credentials: list[NewCredential] = []
        self.keys: list[NewKey] = []
        self.added: list[str] = []

    def run(self, changes: list[Change]) -> None:
        """Each kind in its turn: a name is there before it is used, and given up before somebody else takes it.

        Raises:
            DirectoryError: the directory refuses; nothing of the transaction may be kept.
            SecretUnavailable: a secret is not at hand.
        """
        by_action: dict[str, list[Change]] = defaultdict(list)
        for change in changes:
            by_action[change.action].append(change)
        for action, step in self._steps().items():
            for change in by_action.pop(action, []):
                step(change)
            if action == "tenant.remove":
                self._put_tenants(by_action.pop("tenant.add", []), by_action.pop("tenant.set", []))
            elif action == "key.set":
                self._issue_keys([*by_action.pop("key.issue", []), *by_action.pop("key.take", [])])
        if by_action:
            raise ValueError(f"unknown changes: {', '.join(by_action)}")

    def _steps(self) -> dict[str, Callable[[Change], object]]:
        return {
            "tier.set": lambda one: self._directory.put_tier(one.subject, self._declared.tiers[one.subject]),
            "plan.set": self._put_plan,
            "tenant.remove": self._remove_tenant,
            "credential.rotate": self._rotate_credential,
            "credential.share": self._share_credential,
            "credential.move": self._move_credential,
            "credential.workspace": self._set_workspace,
            "target.replace": lambda one: self._set_target(one.subject, one.after),
            "slot.remove": lambda one: self._directory.remove_slot(one.subject, one.field),
            "slot.add": lambda one: self._directory.add_slot(one.subject, one.field, self._slot(one)),
            "slot.set": lambda one: self._directory.set_slot(one.subject, one.field, self._slot(one), None),
            "key.revoke": lambda one: self._directory.revoke_key(self._key_id(one)),
            "key.set": self._set_key,
            "key.rotate": self._rotate_key,
            "tier.reset": self._reset_tier,
            "tier.remove": lambda one: self._directory.remove_tier(one.subject),
            "plan.remove": lambda one: self._directory.remove_plan(one.subject),
        }

    def _put_plan(self, change: Change) -> None:
        day = self._declared.plan_days.get(change.subject)
        is_new_day = day is not None and self._standing.plan_days.get(change.subject) != day
        is_other = self._standing.plans.get(change.subject) != self._declared.plans[change.subject]
        self._directory.put_plan(change.subject, change.after, day if is_new_day or is_other else None)

    def _slot(self, change: Change) -> Mapping[str, Any]:
        return (self._block(change.subject).slots or {})[change.field]

    def _block(self, slug: str) -> TenantBlock:
        return self._declared.tenants[slug]

    def _reset_tier(self, change: Change) -> None:
        """A tier that ships never goes; it is again as it ships."""
        self._directory.put_tier(change.subject, first_limits(change.subject))
        self._directory.forget_declared_tier(change.subject)

    # Tenants

    def _remove_tenant(self, change: Change) -> None:
        tenant = self._standing.tenants[change.subject]
        self._directory.release_credential(change.subject)
        self._directory.offboard_tenant(change.subject, change.after == "delete")
        for name in {tenant.credential, tenant.fallback} - {None}:
            credential = self._standing.credentials[str(name)]
            # What came from outside can come again; a credential that was added by hand is the agency's to delete.
            if (
                credential.source is not None
                and credential.users == frozenset((change.subject,))
                and credential.name not in self._wanted
            ):
                self._directory.remove_credential(credential.name)
                self._names.discard(credential.name)
                self._by_source.pop(credential.source)
                self._by_fingerprint.pop(credential.fingerprint, None)

    def _put_tenants(self, added: list[Change], changes: list[Change]) -> None:
        """New tenants all at once, those that stand one by one."""
        fields: dict[str, dict[str, Any]] = {change.subject: {} for change in added}
        for change in changes:
            fields.setdefault(change.subject, {})[change.field] = change.after
        rebound = [slug for slug, values in fields.items() if values.keys() & {"credential", "fallback"}]
        for slug in rebound:
            if slug in self._standing.tenants:
                self._directory.release_credential(slug)
        self._release_hosts(fields)
        new = [change.subject for change in added]
        self._directory.create_tenants(
            [
                NewTenant(slug, self._block(slug).name, self._block(slug).tier, self._change(slug, fields[slug]))
                for slug in new
            ]
        )
        for slug, values in fields.items():
            if slug in self._standing.tenants:
                self._directory.set_tenant(slug, self._change(slug, values))
            self._put_sales(slug, values)
            if "thresholds" in values:
                self._directory.set_thresholds(slug, values["thresholds"])
            if "targets" in values:
                self._set_targets(slug)
        bindings = [binding for slug in rebound for binding in self._bindings(slug)]
        self._directory.add_credentials(self._new_credentials)
        self._new_credentials = []
        self._directory.bind_credentials(bindings)

    def _put_sales(self, slug: str, values: Mapping[str, Any]) -> None:
        """What was agreed on with the plan, and billing details. The logo is not a file's, and stays."""
        block = self._block(slug)
        if self._is_agreed(slug, values):
            self._directory.assign_plan(slug, Agreed(block.plan, block.plan_from, block.plan_slots))
        if "billing" in values and block.billing is not None:
            tenant_id = self._directory.get_tenant(slug).tenant_id
            self._directory.set_billing(slug, replace(block.billing, logo=self._directory.billing_of(tenant_id).logo))

    def _is_agreed(self, slug: str, values: Mapping[str, Any]) -> bool:
        """Whether a plan is taken with a day or a number of slots: also one that stays the same under another plan."""
        block = self._block(slug)
        is_said = block.plan_slots is not None or block.plan_from is not None
        return bool(values.keys() & _AGREED) or ("plan" in values and is_said)

    def _change(self, slug: str, values: dict[str, Any]) -> TenantChange:
        # A plan with a day or a number of slots is agreed on apart (`_put_sales`).
        apart = {"plan"} if self._is_agreed(slug, values) else set[str]()
        columns: dict[str, Any] = {
            _COLUMNS[name]: "" if value is None else value
            for name, value in values.items()
            if name in _COLUMNS and name not in apart
        }
        limits = self._block(slug).limits if "limits" in values else None
        amounts = {period: values[name] for name, period in _BUDGETS.items() if name in values}
        hosts = values.get("hosts")
        return TenantChange(
            limits=limits, only_limits=limits is not None, keys_follow=True, budgets=amounts, hosts=hosts, **columns
        )

    def _release_hosts(self, fields: Mapping[str, Mapping[str, Any]]) -> None:
        """A name that goes from one tenant to another is given up before it is taken."""
        wanted = {host: slug for slug, values in fields.items() for host in values.get("hosts") or ()}
        for slug, values in fields.items():
            stood = self._standing.tenants.get(slug)
            if stood is None or "hosts" not in values:
                continue
            kept = [host for host in stood.block.hosts if wanted.get(host, slug) == slug]
            if len(kept) != len(stood.block.hosts):
                self._directory.set_tenant(slug, TenantChange(hosts=kept, keys_follow=True))

    def _set_targets(self, slug: str) -> None:
        stood = self._standing.tenants.get(slug)
        before = stood.block.targets if stood is not None else ()
        after = self._block(slug).targets
        for reference in before:
            if reference not in after:
                self._directory.remove_alert_target(target_name(slug, reference))
        for reference in after:
            if reference not in before:
                self._set_target(slug, reference)

    def _set_target(self, slug: str, reference: str) -> None:
        """A new target, or another URL for one that stands, which goes on getting the kinds of alerts it got."""
        url = self._references.get(reference)
        kind = WEBHOOK if url.startswith(("https://", "http://")) else APPRISE
        if kind == APPRISE and not is_apprise_url(url):
            raise DirectoryError(f"{reference} of {slug} is no URL that alerts can go to")
        name = target_name(slug, reference)
        rows = self._directory.list_alert_targets(slug)
        kinds = next((row.kinds for row in rows if row.name == name), ())
        secret = self._directory.set_alert_target(name, kind, url, slug, kinds)
        if secret is not None:
            self.keys.append(NewKey(slug, f"signing secret of {reference}", "", secret))

    # Credentials

    def _bindings(self, slug: str) -> Iterator[Binding]:
        block = self._block(slug)
        for role, reference in (("credential", block.credential), ("fallback", block.fallback)):
            if reference is not None:
                name = self._stored(slug, role, reference)
                yield Binding(slug, name, block.shared_credential, role == "fallback")

    def _stored(self, slug: str, role: str, reference: str) -> str:
        """The name of the credential that a reference means; one that is not stored yet is to be."""
        if reference.startswith("vault:"):
            return reference.removeprefix("vault:")
        if reference in self._by_source:
            return self._by_source[reference]
        secret = self._references.get(reference)
        source = self._source(reference)
        fingerprint = self._directory.fingerprint(secret)
        twin = self._by_fingerprint.get(fingerprint)
        own = own_credential(slug, role, self._wanted, self._standing)
        if twin is not None:
            name = self._name_twin(twin, reference)
        elif own is not None:
            name = own
            self._replace_secret(own, secret, source)
            self._forget_source(own)
        else:
            name = self._add_credential(slug, role, secret, source)
        self._by_fingerprint[fingerprint] = name
        if source is not None:
            self._by_source[source] = name
        return name

    def _name_twin(self, twin: str, reference: str) -> str:
        """A key that is stored already goes by the new reference, unless another tenant knows it by the old one."""
        known = self._standing.credentials.get(twin)
        source = known.source if known is not None else next(s for s, name in self._by_source.items() if name == twin)
        if source is not None and source in self._referred:
            raise DirectoryError(f"{reference} holds the same key as {source}: write {source} in both places")
        if self._source(reference) is not None:
            self._directory.add_credentials(self._new_credentials)
            self._new_credentials = []
            self._directory.set_source(twin, reference)
            self._forget_source(twin)
        return twin

    def _forget_source(self, name: str) -> None:
        self._by_source = {source: known for source, known in self._by_source.items() if known != name}

    def _add_credential(self, slug: str, role: str, secret: str, source: str | None) -> str:
        block = self._block(slug)
        first = slug if role == "credential" else f"{slug[:50]}-fallback"
        name, number = first, 1
        while name in self._names:
            number += 1
            name = f"{first[:56]}-{number}"
        upstream = block.upstream or UPSTREAM
        is_first = role == "credential"
        self._new_credentials.append(
            NewCredential(
                name,
                secret,
                upstream,
                shared=is_first and block.shared_credential,
                workspace_id=block.workspace if is_first else None,
                source=source,
            )
        )
        self._names.add(name)
        self.added.append(name)
        return name

    @staticmethod
    def _source(reference: str) -> str | None:
        """What is kept of a reference. A secret that was handed in has none that could be read again."""
        return reference if reference.startswith(("env:", "file:")) else None

    def _rotate_credential(self, change: Change) -> None:
        secret = self._references.get(change.after)
        fingerprint = self._directory.fingerprint(secret)
        if self._by_fingerprint.get(fingerprint) != change.before:  # another tenant on it was first
            self._replace_secret(change.before, secret, change.after)
            self._by_fingerprint[fingerprint] = change.before

    def _replace_secret(self, name: str, secret: str, source: str | None) -> None:
        self._directory.replace_secret(name, secret, source)
        self._by_fingerprint = {known: one for known, one in self._by_fingerprint.items() if one != name}

    def _share_credential(self, change: Change) -> None:
        row = self._directory.credential_of(change.subject)
        if not row.shared:
            self._directory.share_credential(row.name)

    def _move_credential(self, change: Change) -> None:
        row = self._directory.credential_of(change.subject)
        if row.upstream != change.after:
            self._directory.move_credential(row.name, change.after)

    def _set_workspace(self, change: Change) -> None:
        row = self._directory.credential_of(change.subject)
        if row.workspace_id != change.after:
            self._directory.set_workspace(row.name, change.after)

    # Keys

    def _key_id(self, change: Change) -> str:
        return self._standing.tenants[change.subject].keys[change.field].key_id

    def _key_block(self, change: Change) -> KeyBlock:
        keys = self._block(change.subject).keys
        return keys[change.field] if keys is not None else KeyBlock()

    def _set_key(self, change: Change) -> None:
        block = self._key_block(change)
        self._directory.set_key(self._key_id(change), block.expires_at, block.rotate_days, block.limits)

    def _issue_keys(self, changes: list[Change]) -> None:
        """New keys, and those that are taken over, which nobody has to be told."""
        blocks = [self._key_block(change) for change in changes]
        wanted = [
            WantedKey(
                change.subject,
                change.field,
                block.expires_at,
                block.limits,
                block.rotate_days,
                self._references.get(block.digest_of) if block.digest_of is not None else None,
                block.slot,
            )
            for change, block in zip(changes, blocks, strict=True)
        ]
        for change, key in zip(changes, self._directory.issue_keys(wanted), strict=True):
            if change.action == "key.issue":
                self.keys.append(NewKey(change.subject, change.field, key.key_id, key.text))

    def _rotate_key(self, change: Change) -> None:
        key = self._directory.rotate_key(self._key_id(change), now_utc() + timedelta(days=ROTATION_GRACE_DAYS))
        self.keys.append(NewKey(change.subject, change.field, key.key_id, key.text))
