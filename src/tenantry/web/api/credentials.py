"""Upstream credentials. A secret goes in and never comes out."""

from __future__ import annotations

from typing import Final

from tenantry.control.credential_check import Verdict, check_credential
from tenantry.control.live_everywhere import health_everywhere
from tenantry.control.site import UPSTREAM
from tenantry.control.tenant_detail import TenantDetail, tenant_detail
from tenantry.control.views import CredentialView, View, credential_views
from tenantry.domain.roles import Permission
from tenantry.domain.values import value
from tenantry.ledger.live import dead_credentials
from tenantry.storage.directory import NotInDirectory
from tenantry.web.api.changes import Name, Secret
from tenantry.web.api.operations import Call, Struct, operation
from tenantry.web.api.paging import Page, Paged, page_of
from tenantry.web.api.tenants import show_tenant


class CredentialsQuery(Paged):
    upstream: Name | None = None


@operation("GET", "/credentials", Permission.CREDENTIALS_READ)
def list_credentials(call: Call, query: CredentialsQuery) -> Page[CredentialView]:
    """List credentials: their last characters, upstream, who uses them, and which are out of money."""
    found = [one for one in _views(call) if query.upstream in (None, one.upstream)]
    return page_of(call, query, sorted(found, key=lambda one: one.name), lambda one: one.name)


@operation("GET", "/credentials/{name}", Permission.CREDENTIALS_READ)
def show_credential(call: Call, name: str) -> CredentialView:
    """Show one credential."""
    for one in _views(call):
        if one.name == name:
            return one
    raise NotInDirectory(f"there is no credential {name!r}")


def _views(call: Call) -> list[CredentialView]:
    directory = call.site.directory
    dead = dead_credentials(health_everywhere(call.site.engine, call.site.settings.journal_dir))
    return credential_views(directory.list_credentials(), directory.list_tenants(), dead)


class NewCredential(Struct):
    """`shared`: several tenants may use it. `workspace_id` is selected with each request."""

    name: Name
    secret: Secret
    upstream: Name = UPSTREAM
    shared: bool = False
    workspace_id: Name | None = None


@operation("POST", "/credentials", Permission.CREDENTIALS_CHANGE, status=201, located="/credentials/{name}")
def add_credential(call: Call, body: NewCredential) -> CredentialView:
    """Store a credential, encrypted."""
    call.site.directory.add_credential(
        body.name, body.secret.strip(), body.upstream, shared=body.shared, workspace_id=body.workspace_id
    )
    return show_credential.act(call, body.name)


class NewSecret(Struct):
    secret: Secret


@operation("POST", "/credentials/{name}/rotate", Permission.CREDENTIALS_CHANGE, represents=show_credential)
def rotate_credential(call: Call, name: str, body: NewSecret) -> CredentialView:
    """Put a new secret in the place of the old one; requests in flight end under the old."""
    call.site.directory.replace_secret(name, body.secret.strip())
    return show_credential.act(call, name)


@value
class CheckedView(View):
    """`verdict`: works, refused or unreachable; `found` what its upstream said."""

    name: str
    upstream: str
    verdict: str
    found: str
    milliseconds: int
    base_url: str


@operation("POST", "/credentials/{name}/check", Permission.CREDENTIALS_CHANGE, is_atomic=False)
def check(call: Call, name: str) -> CheckedView:
    """Ask the credential's upstream whether it works; when it does, gateways use it again at once."""
    credential = call.site.directory.open_credential(name)
    done = check_credential(credential)
    if done.verdict is Verdict.WORKS:
        call.site.directory.credential_works(name)
    where = credential.upstream
    return CheckedView(name, where.name, done.verdict.value, done.found, done.milliseconds, where.base_url)


class Move(Struct):
    upstream: Name


@operation("POST", "/credentials/{name}/move", Permission.CREDENTIALS_CHANGE, represents=show_credential)
def move_credential(call: Call, name: str, body: Move) -> CredentialView:
    """Switch a credential, and with it its tenants, to another upstream; clients change nothing."""
    call.site.directory.move_credential(name, body.upstream)
    return show_credential.act(call, name)


class Binding(Struct):
    """`shared` declares that several tenants may use it."""

    name: Name
    shared: bool = False


@operation("PUT", "/tenants/{slug}/credential", Permission.CREDENTIALS_CHANGE, represents=show_tenant)
def bind_credential(call: Call, slug: str, body: Binding) -> TenantDetail:
    """Serve a tenant with this credential."""
    call.site.directory.bind_credential(slug, body.name, declare_shared=body.shared, as_fallback=False)
    return tenant_detail(call.site, slug)


@operation("PUT", "/tenants/{slug}/fallback", Permission.CREDENTIALS_CHANGE, represents=show_tenant)
def bind_fallback(call: Call, slug: str, body: Binding) -> TenantDetail:
    """Let a tenant fall back to this credential when its first one cannot serve."""
    call.site.directory.bind_credential(slug, body.name, declare_shared=body.shared, as_fallback=True)
    return tenant_detail(call.site, slug)


@operation("DELETE", "/tenants/{slug}/fallback", Permission.CREDENTIALS_CHANGE, represents=show_tenant)
def drop_fallback(call: Call, slug: str) -> TenantDetail:
    """Let a tenant fall back to nothing."""
    call.site.directory.drop_fallback(slug)
    return tenant_detail(call.site, slug)


OPERATIONS: Final = (
    list_credentials,
    add_credential,
    show_credential,
    rotate_credential,
    check,
    move_credential,
    bind_credential,
    bind_fallback,
    drop_fallback,
)
