"""Admin tokens, and who the caller is."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from tenantry.control.views import AdminView, View, admin_view
from tenantry.domain.printable import stamp
from tenantry.domain.roles import ALLOWED, Permission
from tenantry.domain.values import value
from tenantry.web.api.changes import ExpiresDays, Grace, RoleName, SomeTenants, ends_after, stops_after
from tenantry.web.api.operations import Call, Struct, operation
from tenantry.web.api.paging import Page, Paged, page_of

# Described here, and looked at by the directory, in whose words it is refused on the command line, too.
TokenName = Annotated[
    str, Meta(extra_json_schema={"minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$"})
]


@value
class Whoami(View):
    """`tenants` null: all of the site."""

    name: str
    role: str
    tenants: list[str] | None
    permissions: list[str]


@operation("GET", "/whoami", Permission.TENANTS_READ)
def whoami(call: Call) -> Whoami:
    """Say who the token is, what it may do and for whom."""
    me = call.principal
    tenants = sorted(me.tenants) if me.tenants is not None else None
    return Whoami(me.name, me.role.value, tenants, sorted(one.value for one in ALLOWED[me.role]))


@operation("GET", "/admin-tokens", Permission.ADMINS_CHANGE)
def list_admin_tokens(call: Call, query: Paged) -> Page[AdminView]:
    """List admin tokens: last characters, role, tenants, and when they were last used."""
    found = [admin_view(one) for one in call.site.directory.list_admins()]
    return page_of(call, query, found, lambda one: one.name)


@operation("GET", "/admin-tokens/{name}", Permission.ADMINS_CHANGE)
def show_admin_token(call: Call, name: str) -> AdminView:
    """Show one admin token. Its text was shown when it was made, and is kept nowhere."""
    call.site.directory.require_admin(name)
    return next(admin_view(one) for one in call.site.directory.list_admins() if one.name == name)


class NewToken(Struct):
    """`tenants` null: all of the site."""

    name: TokenName
    role: RoleName
    tenants: SomeTenants | None = None
    expires_days: ExpiresDays | None = None


@value
class NewTokenView(View):
    """`token` is shown only now. `old_until`: the one before works so long."""

    name: str
    token: str
    role: str
    tenants: list[str] | None
    expires_at: str | None
    old_until: str | None = None


@operation("POST", "/admin-tokens", Permission.ADMINS_CHANGE, status=201, located="/admin-tokens/{name}")
def create_admin_token(call: Call, body: NewToken) -> NewTokenView:
    """Make an admin token."""
    ends_at = ends_after(body.expires_days)
    token = call.site.directory.create_admin(body.name, ends_at, body.role, body.tenants)
    tenants = sorted(set(body.tenants)) if body.tenants is not None else None
    return NewTokenView(body.name, token, body.role, tenants, stamp(ends_at) or None)


class TokenRotation(Struct):
    """`grace`: how long the old one goes on."""

    grace: Grace = "0"
    expires_days: ExpiresDays | None = None


@operation("POST", "/admin-tokens/{name}/rotate", Permission.ADMINS_CHANGE, status=201, located="/admin-tokens/{name}")
def rotate_admin_token(call: Call, name: str, body: TokenRotation) -> NewTokenView:
    """Make a new token under the same name, role and tenants; the old one stops, at once or after the time of grace."""
    token = call.site.directory.rotate_admin(name, stops_after(body.grace), ends_after(body.expires_days))
    seen = show_admin_token.act(call, name)
    return NewTokenView(name, token, seen.role, seen.tenants, seen.expires_at or None, seen.old_until or None)


@operation("POST", "/admin-tokens/{name}/revoke", Permission.ADMINS_CHANGE)
def revoke_admin_token(call: Call, name: str) -> AdminView:
    """Stop an admin token for good, from the next request on."""
    call.site.directory.revoke_admin(name)
    return show_admin_token.act(call, name)


OPERATIONS: Final = (
    whoami,
    list_admin_tokens,
    create_admin_token,
    show_admin_token,
    rotate_admin_token,
    revoke_admin_token,
)
