"""Throw-away tenants on the recording upstream: made, and removed however the run ends.

Everything a run makes carries its name, `probe-<run>-<role>`, so that what a killed run left is found and removed by
the next one. Their ledger rows stay, as all do; the tenant id in them holds the slug.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tenantry.control.isolation.canaries import CanaryUpstream, new_secret
from tenantry.control.isolation.cases import Holder
from tenantry.control.site import Site
from tenantry.domain.directory import KeyStatus
from tenantry.storage.directory import Directory
from tenantry.storage.directory.tenants import TenantChange

NAME = "Isolation probe (throw-away)"
KEY_LABEL = "isolation proof (throw-away)"
_SLUG = re.compile(r"probe-[0-9a-f]{8}(?:-[a-z]+)?")

# Wide enough that only what a group sets itself is in the way.
WIDE: dict[str, Any] = {
    "sessions_max": 64,
    "requests_per_minute": None,
    "request_burst": 1_000_000,
    "input_tokens_per_minute": None,
    "output_tokens_per_minute": None,
    "max_tokens_cap": None,
    "models": (),
    "queue_depth_max": 0,
    "queue_wait_ms_max": 0,
}


# Of the two tenants whose keys and paths are tried against each other.
SLOTS: Final = ("one", "two")


class ProofRunning(Exception):
    """Another isolation proof runs on this site. Wait for it to end."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe tenant: what its software has, and what only the recording upstream should ever see."""

    holder: Holder
    secret: str = field(repr=False)
    mark: str
    key_id: str
    credential_id: str


class Turn:
    """One proof at a time on a site: its leftovers must not be taken for those of a dead one."""

    def __init__(self, site: Site) -> None:
        """Raises: ProofRunning."""
        path = site.settings.data_dir / "isolation.lock"
        self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise ProofRunning((ProofRunning.__doc__ or "").strip()) from None

    def end(self) -> None:
        os.close(self._file)


class Probes:
    """The probes of one run."""

    def __init__(self, site: Site, run: str, upstream: CanaryUpstream) -> None:
        self._directory = site.directory
        self._upstream = upstream
        self.name = f"probe-{run}"
        self.by_role: dict[str, Probe] = {}
        self._directory.set_upstream(self.name, upstream.url)

    def slug(self, role: str) -> str:
        return f"{self.name}-{role}"

    def tenant_id(self, role: str) -> str:
        """Known before the tenant is made, and telling in every ledger row which probe it was."""
        return f"tnt_{self.slug(role)}"

    def add(self, role: str, limits: Mapping[str, Any] | None = None) -> Probe:
        """A tenant with a canary credential and a key."""
        directory, slug = self._directory, self.slug(role)
        directory.create_tenant(slug, NAME, "standard", self.tenant_id(role))
        host = f"h{len(self.by_role)}.{self.name}.invalid"  # RFC 2606; those of two probes differ in one character
        directory.set_tenant(slug, TenantChange(limits={**WIDE, **(limits or {})}, hosts=[host]))
        secret = new_secret(role)
        mark = self._upstream.admit(secret)
        credential_id = directory.add_credential(slug, secret, self.name)
        directory.bind_credential(slug, slug)
        key = directory.issue_key(slug, KEY_LABEL)
        slots: dict[str, str] = {}
        for slot in SLOTS if role in ("own", "other") else ():
            directory.add_slot(slug, slot)
            slots[slot] = directory.issue_key(slug, KEY_LABEL, slot=slot).text
        holder = Holder(slug, self.tenant_id(role), key.text, host, slots)
        probe = self.by_role[role] = Probe(holder, secret, mark, key.key_id, credential_id)
        return probe


def remove_leftovers(directory: Directory) -> list[str]:
    """Remove every probe there is, this run's or a dead one's; their names. Called again, it removes nothing."""
    removed: list[str] = []
    for row in directory.list_tenants():
        if _SLUG.fullmatch(row.slug) and row.name == NAME:
            directory.remove_tenant(row.slug, None, "isolation proof: a probe is thrown away")
            removed.append(row.slug)
    for row in directory.list_credentials():
        if _SLUG.fullmatch(row.name) and _SLUG.fullmatch(row.upstream):
            directory.remove_credential(row.name)
    for row in directory.list_upstreams():
        if _SLUG.fullmatch(row.name):
            directory.remove_upstream(row.name)
            removed.append(row.name)
    for row in directory.list_keys():
        if row.label == KEY_LABEL and row.status == KeyStatus.ACTIVE.value:
            directory.revoke_key(row.key_id)
            removed.append(row.key_id)
    return removed
