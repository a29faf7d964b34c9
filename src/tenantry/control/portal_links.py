"""Portal links, whole, and what is told of a tenant's portal: for commands, API, pages."""

from __future__ import annotations

from tenantry.control.people.passwords import Passwords, common_passwords
from tenantry.control.site import Site
from tenantry.control.views import View
from tenantry.domain.people import check_password
from tenantry.domain.portal import PortalLink
from tenantry.domain.printable import stamp
from tenantry.domain.values import value

_PATH = "/portal/open?link="


@value
class PortalLinkView(View):
    """`invoices`: whether invoices are shown to who comes by it. `state`: active, expired or revoked."""

    tenant: str
    link_id: str
    state: str
    invoices: bool
    made_by: str
    created_at: str
    expires_at: str
    revoked_at: str | None
    opened_at: str | None


@value
class PortalView(View):
    """`may_rotate`: the client rotates its own keys there. `password`: whether the link alone is not enough."""

    tenant: str
    may_rotate: bool
    password: bool


def portal_link_of(site: Site, token: str) -> str:
    """What the client follows."""
    return f"{site.settings.portal_url}{_PATH}{token}"


def portal_link_view(slug: str, link: PortalLink) -> PortalLinkView:
    return PortalLinkView(
        slug,
        link.link_id,
        link.state,
        link.shows_invoices,
        link.actor,
        stamp(link.created_at),
        stamp(link.expires_at),
        stamp(link.revoked_at) or None,
        stamp(link.opened_at) or None,
    )


def portal_view(site: Site, slug: str) -> PortalView:
    """Raises: NotInDirectory."""
    found = site.directory.portal_terms_of(slug)
    return PortalView(slug, found.may_rotate, found.has_password)


def portal_password_hash(passwords: Passwords, text: str, slug: str) -> str:
    """Of a password that the agency gives its client. Raises: BadPassword."""
    return passwords.hash(check_password(text, slug, common_passwords()))
