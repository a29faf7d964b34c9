"""From a name to a working client, in one pass, or back to nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tenantry.control.client_guide import endpoint_of, write_client_guide
from tenantry.control.live_check import LiveCheck, LiveCheckFailed, check_live
from tenantry.control.site import Site
from tenantry.domain.keys import BadName, slugify
from tenantry.storage.directory import DirectoryError


class ProvisionFailed(Exception):
    """Nothing was kept; the message says which step failed and why."""


@dataclass(frozen=True, slots=True)
class CredentialChoice:
    """Either `secret`, a new key to be stored, or `name`, one that is stored. Never both."""

    secret: str | None = None
    name: str | None = None
    shared: bool = False
    upstream: str = "anthropic"


@dataclass(frozen=True, slots=True)
class Provisioned:
    """`key` is known only now."""

    slug: str
    tenant_id: str
    endpoint: str
    key: str
    key_id: str
    check: LiveCheck
    guide: Path


def provision(
    site: Site,
    name: str,
    tier: str,
    choice: CredentialChoice,
    guide_folder: Path,
    slug: str | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Provisioned:
    """Slug, tenant, credential, key, a live call with the new key, and the client's guide.

    Raises:
        ProvisionFailed: a step failed. What the steps before it made is gone again, but for a line in the audit log.
    """
    try:
        slug = slug or slugify(name)
    except BadName as error:
        raise ProvisionFailed(str(error)) from None
    directory = site.directory
    try:
        tenant_id = directory.create_tenant(slug, name, tier)
    except DirectoryError as error:
        directory.audit("provision.refused", slug, {"reason": str(error)})
        raise ProvisionFailed(str(error)) from None
    progress(f"tenant {slug} ({tier})")
    made: list[str] = []
    try:
        return _equip(site, slug, tenant_id, name, choice, guide_folder, made, progress)
    except BaseException as error:
        # Whatever stops it, Ctrl-C included, leaves nothing half-made behind.
        reason = str(error) or type(error).__name__
        directory.remove_tenant(slug, made[0] if made else None, reason)
        if isinstance(error, DirectoryError | LiveCheckFailed | OSError):
            raise ProvisionFailed(f"{reason}\nNothing of {slug} was kept; mend that and provision again.") from None
        raise


def _equip(
    site: Site,
    slug: str,
    tenant_id: str,
    name: str,
    choice: CredentialChoice,
    guide_folder: Path,
    made: list[str],
    progress: Callable[[str], None],
) -> Provisioned:
    """The steps behind the tenant's row. A credential that is made here is put into `made`."""
    directory = site.directory
    credential = choice.name
    if choice.secret is not None:
        credential = directory.find_credential(choice.secret)
        if credential is None:
            credential = slug
            made.append(directory.add_credential(slug, choice.secret, choice.upstream, shared=choice.shared))
    if credential is None:
        raise DirectoryError("no credential was named")
    directory.bind_credential(slug, credential, declare_shared=choice.shared)
    progress(f"credential {credential}")
    key = directory.issue_key(slug, "first key")
    progress(f"gateway key {key.hint}")
    check = check_live(site.settings, slug, key.text)
    progress(f"live call to {check.model}: {check.milliseconds} ms")
    guide = write_client_guide(site, slug, guide_folder, check.model)
    directory.audit("provision.done", slug, {"model": check.model, "simulated": check.simulated})
    return Provisioned(slug, tenant_id, endpoint_of(site.settings, slug), key.text, key.key_id, check, guide)


def ensure_sandbox_credential(site: Site, base_url: str, secret: str) -> None:
    """The sandbox as an upstream, with a shared credential named `sandbox`."""
    site.directory.set_upstream("sandbox", base_url)
    if all(row.name != "sandbox" for row in site.directory.list_credentials()):
        site.directory.add_credential("sandbox", secret, "sandbox", shared=True)
