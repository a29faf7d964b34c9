"""Portals of clients: links made, listed, revoked; what a portal allows."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from tenantry.control.people.passwords import Passwords
from tenantry.control.portal_links import (
    PortalLinkView,
    PortalView,
    portal_link_of,
    portal_link_view,
    portal_password_hash,
    portal_view,
)
from tenantry.control.views import View
from tenantry.domain.people import PASSWORD_CHARS_MAX, BadPassword
from tenantry.domain.portal import LINK_DAYS, LINK_DAYS_MAX
from tenantry.domain.roles import Permission
from tenantry.domain.values import value
from tenantry.web.answers import Refused
from tenantry.web.api.operations import Call, Struct, operation
from tenantry.web.api.paging import Page, Paged, page_of


@operation("GET", "/tenants/{slug}/portal", Permission.TENANTS_READ)
def show_portal(call: Call, slug: str) -> PortalView:
    """Show what a tenant's portal allows, and whether it asks for a password."""
    return portal_view(call.site, slug)


class PortalPatch(Struct):
    """What is not said stays. `password` null: the link is enough."""

    may_rotate: bool | UnsetType = UNSET
    password: Annotated[str, Meta(max_length=PASSWORD_CHARS_MAX)] | UnsetType | None = UNSET


@operation("PATCH", "/tenants/{slug}/portal", Permission.TENANTS_CHANGE, represents=show_portal)
def set_portal(call: Call, slug: str, body: PortalPatch) -> PortalView:
    """Say whether the client may rotate its own keys, and give its portal a password."""
    hashed: str | None = None
    if body.password is not UNSET:
        passwords: Passwords = call.request.app.state.passwords
        try:
            hashed = portal_password_hash(passwords, body.password, slug) if body.password else ""
        except BadPassword as error:
            raise Refused(422, str(error)) from None
    call.site.directory.set_portal(slug, None if body.may_rotate is UNSET else body.may_rotate, hashed)
    return portal_view(call.site, slug)


@operation("GET", "/tenants/{slug}/portal-links", Permission.TENANTS_READ)
def list_portal_links(call: Call, slug: str, query: Paged) -> Page[PortalLinkView]:
    """List a tenant's portal links, by id: until when they work, and when they were opened last."""
    found = [portal_link_view(slug, one) for one in call.site.directory.list_portal_links(slug)]
    return page_of(call, query, sorted(found, key=lambda one: one.link_id), lambda one: one.link_id)


@operation("GET", "/tenants/{slug}/portal-links/{link_id}", Permission.TENANTS_READ)
def show_portal_link(call: Call, slug: str, link_id: str) -> PortalLinkView:
    """Show one link. Its address was shown when it was made, and is kept nowhere."""
    for one in call.site.directory.list_portal_links(slug):
        if one.link_id == link_id:
            return portal_link_view(slug, one)
    raise Refused(404, f"{slug} has no portal link {link_id[:64]!r}")


class NewPortalLink(Struct):
    """`invoices`: show issued invoices there, where the token may see them."""

    invoices: bool = True
    days: Annotated[int, Meta(ge=1, le=LINK_DAYS_MAX)] = LINK_DAYS


@value
class IssuedPortalLink(View):
    """`link` is shown only now."""

    tenant: str
    link_id: str
    link: str
    expires_at: str
    invoices: bool


@operation(
    "POST",
    "/tenants/{slug}/portal-links",
    Permission.TENANTS_CHANGE,
    status=201,
    located="/tenants/{tenant}/portal-links/{link_id}",
)
def issue_portal_link(call: Call, slug: str, body: NewPortalLink) -> IssuedPortalLink:
    """Make a link to a tenant's portal, for the client; with invoices where the token may see them."""
    shows_invoices = body.invoices and call.principal.may(Permission.INVOICES_READ, slug)
    made, token = call.site.directory.issue_portal_link(slug, body.days, shows_invoices=shows_invoices)
    told = portal_link_view(slug, made)
    return IssuedPortalLink(slug, made.link_id, portal_link_of(call.site, token), told.expires_at, told.invoices)


@operation(
    "POST", "/tenants/{slug}/portal-links/{link_id}/revoke", Permission.TENANTS_CHANGE, represents=show_portal_link
)
def revoke_portal_link(call: Call, slug: str, link_id: str) -> PortalLinkView:
    """Take a link back: whoever came by it is let out at once."""
    call.site.directory.revoke_portal_link(slug, link_id)
    return show_portal_link.act(call, slug, link_id)


OPERATIONS: Final = (
    show_portal,
    set_portal,
    list_portal_links,
    issue_portal_link,
    show_portal_link,
    revoke_portal_link,
)
