"""The links to a client's own page: made, seen, taken back; what that page allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.portal_links import portal_link_of, portal_password_hash
from tenantry.domain.people import PASSWORD_CHARS_MIN, BadPassword
from tenantry.domain.portal import LINK_DAYS, LINK_DAYS_MAX
from tenantry.domain.roles import Permission, Principal
from tenantry.storage.directory import DirectoryError
from tenantry.web.pages.showing import first_time, new_mark, show, tenant_of
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.pages_base.words import sentence
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of

_DIGITS_MAX: Final = 4


def show_portal(request: Request, principal: Principal) -> Response:
    return _shown(request, principal, {}, {})


def make_link(request: Request, principal: Principal) -> Response:
    """The link is in the answer, and nowhere stored."""
    tenant, form = tenant_of(request), posted(request)
    days = form.get("days")
    if not (days.isascii() and days.isdigit() and len(days) <= _DIGITS_MAX and 1 <= int(days) <= LINK_DAYS_MAX):
        return _shown(request, principal, {"days": days}, {"days": f"A number of days from 1 to {LINK_DAYS_MAX}."})
    if not first_time(request, form.get("once")):
        words = "That form had been sent already: its link was shown then. Make another if it is lost."
        return see_other(f"/tenants/{tenant.slug}/portal", words)
    shows_invoices = principal.may(Permission.INVOICES_READ, tenant.slug)
    try:
        _, token = acting(request, principal).issue_portal_link(tenant.slug, int(days), shows_invoices=shows_invoices)
    except DirectoryError as error:
        return _shown(request, principal, {"days": days}, {"form": str(error)})
    return _shown(request, principal, {}, {}, link=portal_link_of(site_of(request), token))


def set_terms(request: Request, principal: Principal) -> Response:
    """Whether the client may rotate; a password: another, none, or as it is."""
    tenant, form = tenant_of(request), posted(request)
    text, hashed = form.raw("password"), None
    if "no_password" in form:
        hashed = ""
    elif text:
        try:
            hashed = portal_password_hash(request.app.state.passwords, text, tenant.slug)
        except BadPassword as error:
            return _shown(request, principal, {}, {"password": sentence(error)})
    acting(request, principal).set_portal(tenant.slug, "may_rotate" in form, hashed)
    return see_other(f"/tenants/{tenant.slug}/portal", f"The portal of {tenant.slug} is changed.")


def revoke(request: Request, principal: Principal) -> Response:
    tenant, link_id = tenant_of(request), str(request.path_params["link_id"])
    try:
        acting(request, principal).revoke_portal_link(tenant.slug, link_id)
    except DirectoryError as error:
        return see_other(f"/tenants/{tenant.slug}/portal", str(error))
    return see_other(f"/tenants/{tenant.slug}/portal", "The link is taken back: whoever came by it is let out at once.")


def _shown(
    request: Request,
    principal: Principal,
    typed: Mapping[str, str],
    problems: Mapping[str, str],
    link: str | None = None,
) -> Response:
    tenant, directory = tenant_of(request), site_of(request).directory
    return show(
        request,
        principal,
        "portal",
        422 if problems else 200,
        tenant=tenant,
        links=directory.list_portal_links(tenant.slug),
        terms=directory.portal_terms_of(tenant.slug),
        link=link,
        typed={"days": str(LINK_DAYS), **typed},
        problems=problems,
        once=new_mark(),
        chars_min=PASSWORD_CHARS_MIN,
    )
