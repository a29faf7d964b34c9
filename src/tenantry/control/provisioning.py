"""From a name to a working client, in one pass, or back to nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tenantry.control.client_guide import write_client_guide
from tenantry.control.declared.applying import Made, apply_at_once
from tenantry.control.declared.executing import NewKey
from tenantry.control.declared.model import BadDeclaration, Declaration, TenantBlock
from tenantry.control.declared.references import References
from tenantry.control.live_check import LiveCheck, LiveCheckFailed, check_live
from tenantry.control.refusals import ProvisionFailed
from tenantry.control.site import Site, endpoint_of
from tenantry.domain.keys import BadName, slugify
from tenantry.storage.directory import DirectoryError

# Stands for a secret that was handed in and is nowhere to be read again.
_GIVEN = "given:credential"


@dataclass(frozen=True, slots=True)
class CredentialChoice:
    """Either `secret`, a new key to be stored, or `name`, one that is stored. Never both."""

    secret: str | None = None
    name: str | None = None
    shared: bool = False
    upstream: str = "anthropic"


@dataclass(frozen=True, slots=True)
class Terms:
    """Whom to write to, and what the tenant may cost: nano-dollars by day, week, month.

    `model` is the one that the live call asks; the cheapest that is offered where none is said.
    """

    contact: str | None = None
    budgets: Mapping[str, int] = field(default_factory=dict[str, int])
    model: str | None = None


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
    terms: Terms = Terms(),
) -> Provisioned:
    """Apply a declaration of one tenant, make a live call with its new key, and write the client's guide.

    Raises:
        ProvisionFailed: a step failed. What the steps before it made is gone again, but for a line in the audit log.
    """
    try:
        slug = slug or slugify(name)
    except BadName as error:
        raise ProvisionFailed(str(error)) from None
    if site.directory.has_tenant(slug):
        raise _refused(
            site,
            slug,
            f"there is a tenant {slug} already: `tenantry tenants show {slug}` shows it; "
            f"`tenantry keys issue {slug}` gives it another key",
        )
    made = _make(site, slug, name, tier, choice, terms)
    progress(f"tenant {slug} ({tier})")
    try:
        return _hand_over(site, slug, made.keys[0], guide_folder, progress, terms.model)
    except BaseException as error:
        # Whatever stops it, Ctrl-C included, leaves nothing half-made behind.
        reason = str(error) or type(error).__name__
        site.directory.remove_tenant(slug, _id_of(site, made.credentials), reason)
        if isinstance(error, DirectoryError | LiveCheckFailed | OSError):
            raise ProvisionFailed(f"{reason}\nNothing of {slug} was kept; mend that and provision again.") from None
        raise


def _make(site: Site, slug: str, name: str, tier: str, choice: CredentialChoice, terms: Terms) -> Made:
    """Apply a declaration of this one tenant."""
    block = TenantBlock(
        name,
        tier,
        credential=_GIVEN if choice.secret is not None else f"vault:{choice.name}",
        shared_credential=choice.shared,
        upstream=choice.upstream if choice.secret is not None else None,
        contact=terms.contact,
        day_nanos=terms.budgets.get("day"),
        week_nanos=terms.budgets.get("week"),
        month_nanos=terms.budgets.get("month"),
    )
    declared = Declaration(tenants={slug: block}, whole=False)
    given = {_GIVEN: choice.secret} if choice.secret is not None else {}
    try:
        return apply_at_once(site, declared, References({}, given))
    except BadDeclaration as error:
        raise _refused(site, slug, "\n".join(problem.text for problem in error.problems)) from None
    except DirectoryError as error:
        raise _refused(site, slug, str(error)) from None


def _refused(site: Site, slug: str, reason: str) -> ProvisionFailed:
    site.directory.audit("provision.refused", slug, {"reason": reason})
    return ProvisionFailed(f"{reason}\nNothing was made.")


def _id_of(site: Site, names: list[str]) -> str | None:
    """The id of the credential that was made for the tenant, if one was."""
    return next((row.credential_id for row in site.directory.list_credentials() if row.name in names), None)


def _hand_over(
    site: Site, slug: str, key: NewKey, guide_folder: Path, progress: Callable[[str], None], model: str | None
) -> Provisioned:
    """A live call with the new key, and the client's guide."""
    directory = site.directory
    row = directory.get_tenant(slug)
    progress(f"credential {row.credential}")
    progress(f"gateway key ...{key.text[-4:]}")
    try:
        check = check_live(site.settings, slug, key.text, model)
    except LiveCheckFailed as error:
        if error.is_upstream and row.credential is not None:
            raise LiveCheckFailed(f"{error}\n{_where(site, row.credential)}") from None
        raise
    progress(f"live call to {check.model}: {check.milliseconds} ms")
    try:
        guide = write_client_guide(site, slug, guide_folder, check.model)
    except OSError as error:
        where = guide_folder.absolute()
        raise OSError(
            f"the guide cannot be written to {where} ({error.strerror}): go to a folder of your own"
        ) from None
    directory.audit("provision.done", slug, {"model": check.model, "simulated": check.simulated})
    return Provisioned(slug, row.tenant_id, endpoint_of(site.settings, slug), key.text, key.key_id, check, guide)


def _where(site: Site, credential: str) -> str:
    """Which upstream it was that did not answer."""
    name = next(one.upstream for one in site.directory.list_credentials() if one.name == credential)
    address = next(one.base_url for one in site.directory.list_upstreams() if one.name == name)
    return f"its upstream is {name!r}, at {address}: can this machine reach it?"
