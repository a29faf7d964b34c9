"""People who sign in: invited, listed, changed, disabled, deleted; and the one-time links that they are sent."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from tenantry.control.people.links import first_link, link_of
from tenantry.control.views import PersonView, View, person_view
from tenantry.domain.people import FIRST_LINK_HOURS, LINK_HOURS
from tenantry.domain.roles import Permission, Role
from tenantry.domain.values import value
from tenantry.web.answers import Refused
from tenantry.web.api.changes import RoleName, SomeTenants
from tenantry.web.api.operations import Call, Struct, operation
from tenantry.web.api.paging import Page, Paged, page_of

Email = Annotated[str, Meta(max_length=300, description="By which the OIDC provider knows them.")]


@operation("GET", "/people", Permission.ADMINS_CHANGE)
def list_people(call: Call, query: Paged) -> Page[PersonView]:
    """List people by name: what they may do, their second factor, and when they last signed in."""
    found = [person_view(one) for one in call.site.directory.list_people()]
    return page_of(call, query, found, lambda one: one.name)


@operation("GET", "/people/{name}", Permission.ADMINS_CHANGE)
def show_person(call: Call, name: str) -> PersonView:
    """Show one of them."""
    return person_view(call.site.directory.get_person(name))


@value
class LinkView(View):
    """`link` is shown only now; it works once, within so many `hours`."""

    link: str
    hours: int


class Invitation(Struct):
    """`tenants` null: for all of them."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    role: RoleName
    tenants: SomeTenants | None = None
    email: Email | None = None


@operation("POST", "/people", Permission.ADMINS_CHANGE, status=201)
def invite_person(call: Call, body: Invitation) -> LinkView:
    """Add somebody; they choose a password through a one-time link."""
    token = call.site.directory.invite_person(body.name, Role(body.role), body.email or None, body.tenants)
    return LinkView(link_of(call.site, token), LINK_HOURS)


@operation("POST", "/people/{name}/link", Permission.ADMINS_CHANGE, status=201)
def link_person(call: Call, name: str) -> LinkView:
    """Make a one-time link by which somebody chooses a new password; what they have works until then."""
    return LinkView(link_of(call.site, call.site.directory.issue_reset_link(name)), LINK_HOURS)


@operation("POST", "/first-owner-link", Permission.ADMINS_CHANGE, status=201)
def link_first_owner(call: Call) -> LinkView:
    """Make a one-time link to become the first owner who signs in, in place of an earlier one."""
    found = first_link(call.site)
    if found is None:
        raise Refused(409, "there is an owner, who invites others: under People, or with `tenantry keys people invite`")
    return LinkView(found, FIRST_LINK_HOURS)


class PersonChange(Struct):
    """`tenants` null: for all of them. `email` null: none; not said: as it is."""

    role: RoleName
    tenants: SomeTenants | None = None
    email: Email | UnsetType | None = UNSET


@operation("PUT", "/people/{name}", Permission.ADMINS_CHANGE, represents=show_person)
def change_person(call: Call, name: str, body: PersonChange) -> PersonView:
    """Say what somebody may do from now on, and for which tenants; where that is something else they sign in again."""
    email = None if body.email is UNSET else body.email or ""
    call.site.directory.change_person(name, Role(body.role), body.tenants, email)
    return show_person.act(call, name)


@operation("POST", "/people/{name}/disable", Permission.ADMINS_CHANGE, represents=show_person)
def disable_person(call: Call, name: str) -> PersonView:
    """Sign somebody out everywhere, and let them in no more."""
    call.site.directory.disable_person(name)
    return show_person.act(call, name)


@operation("POST", "/people/{name}/enable", Permission.ADMINS_CHANGE, represents=show_person)
def enable_person(call: Call, name: str) -> PersonView:
    """Let somebody in again who was disabled."""
    call.site.directory.enable_person(name)
    return show_person.act(call, name)


@operation("DELETE", "/people/{name}/second-factor", Permission.ADMINS_CHANGE, represents=show_person)
def drop_second_factor(call: Call, name: str) -> PersonView:
    """Turn off the second factor of somebody who has lost it, and their recovery codes."""
    call.site.directory.drop_second_factor(call.site.directory.get_person(name))
    return show_person.act(call, name)


@operation("DELETE", "/people/{name}", Permission.ADMINS_CHANGE, status=204, represents=show_person)
def delete_person(call: Call, name: str) -> None:
    """Remove somebody; what they did stays in the audit log."""
    call.site.directory.delete_person(name)


OPERATIONS: Final = (
    list_people,
    invite_person,
    show_person,
    change_person,
    delete_person,
    link_person,
    disable_person,
    enable_person,
    drop_second_factor,
    link_first_owner,
)
