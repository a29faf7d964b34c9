"""/people: who may sign in, for owners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.control.people.links import link_of
from tenantry.domain.people import LINK_HOURS, Person
from tenantry.domain.roles import Permission, Principal, Role
from tenantry.storage.directory import Directory, DirectoryError, NotInDirectory
from tenantry.web.pages_base.forms import Posted, posted
from tenantry.web.pages_base.rendering import render, see_other
from tenantry.web.pages_base.routing import form, page
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of

PEOPLE: Final = "/people"
ONE: Final = "/people/{name}"
_MAY: Final = Permission.ADMINS_CHANGE
# What a role is for, where one is chosen.
ROLES: Final = {
    Role.OWNER: "everything, and who else may do what",
    Role.OPERATOR: "tenants, keys, credentials, limits, budgets, alerts; no invoices",
    Role.BILLING: "plans, prices, invoices, margins, budgets; no keys",
    Role.VIEWER: "looks, and changes nothing",
}
Change = Callable[[Directory, Person, Posted], str]


def people_routes() -> list[Route]:
    return [
        page(PEOPLE, _people, _MAY),
        form(PEOPLE, _invite, _MAY, is_dangerous=True),
        page(ONE, _one, _MAY),
        form(f"{ONE}/link", _link, _MAY, is_dangerous=True),
        _change("change", _set),
        _change("disable", _disable),
        _change("enable", _enable),
        _change("totp-off", _drop_second),
        form(f"{ONE}/delete", _delete, _MAY, is_dangerous=True),
    ]


def _people(request: Request, _principal: Principal) -> Response:
    return _list(request, None, {})


def _list(request: Request, refused: str | None, filled: dict[str, Any]) -> Response:
    directory = site_of(request).directory
    return render(
        request,
        "signin/people.html.j2",
        200 if refused is None else 422,
        refused=refused,
        people=directory.list_people(),
        roles=ROLES,
        slugs=[one.slug for one in directory.list_tenants()],
        filled={"name": "", "email": "", "role": Role.OPERATOR, "tenants": None} | filled,
    )


def _invite(request: Request, principal: Principal) -> Response:
    told = posted(request)
    filled: dict[str, Any] = {
        "name": told.get("name"),
        "email": told.get("email"),
        "role": told.get("role"),
        "tenants": _slugs(told),
    }
    try:
        token = acting(request, principal).invite_person(
            filled["name"], _role(told), filled["email"] or None, filled["tenants"]
        )
    except DirectoryError as error:
        return _list(request, _sentence(error), filled)
    return _link_shown(request, filled["name"], token, is_new=True)


def _one(request: Request, _principal: Principal) -> Response:
    return _one_shown(request, _person(request), None)


def _one_shown(request: Request, person: Person, refused: str | None) -> Response:
    directory = site_of(request).directory
    return render(
        request,
        "signin/person.html.j2",
        200 if refused is None else 422,
        refused=refused,
        person=person,
        roles=ROLES,
        slugs=[one.slug for one in directory.list_tenants()],
        sessions=directory.list_sessions(person),
    )


def _link(request: Request, principal: Principal) -> Response:
    person = _person(request)
    try:
        token = acting(request, principal).issue_reset_link(person.name)
    except DirectoryError as error:
        return _one_shown(request, person, _sentence(error))
    return _link_shown(request, person.name, token, is_new=False)


def _link_shown(request: Request, name: str, token: str, *, is_new: bool) -> Response:
    link = link_of(site_of(request), token)
    return render(request, "signin/link.html.j2", name=name, link=link, hours=LINK_HOURS, is_new=is_new)


def _change(what: str, change: Change) -> Route:
    """A form that does one thing to one person, and goes back to their page."""

    def handler(request: Request, principal: Principal) -> Response:
        person = _person(request)
        try:
            notice = change(acting(request, principal), person, posted(request))
        except DirectoryError as error:
            return _one_shown(request, person, _sentence(error))
        return see_other(f"{PEOPLE}/{person.name}", notice)

    return form(f"{ONE}/{what}", handler, _MAY, is_dangerous=True)


def _set(directory: Directory, person: Person, told: Posted) -> str:
    directory.change_person(person.name, _role(told), _slugs(told), told.get("email"))
    return f"What {person.name} may do is changed."


def _disable(directory: Directory, person: Person, _told: Posted) -> str:
    directory.disable_person(person.name)
    return f"{person.name} is disabled, and signed out everywhere."


def _enable(directory: Directory, person: Person, _told: Posted) -> str:
    directory.enable_person(person.name)
    return f"{person.name} may sign in again."


def _drop_second(directory: Directory, person: Person, _told: Posted) -> str:
    directory.drop_second_factor(person)
    return f"{person.name} signs in without a second factor now."


def _delete(request: Request, principal: Principal) -> Response:
    person = _person(request)
    try:
        acting(request, principal).delete_person(person.name)
    except DirectoryError as error:
        return _one_shown(request, person, _sentence(error))
    return see_other(PEOPLE, f"{person.name} is removed.")


def _person(request: Request) -> Person:
    found = site_of(request).directory.find_person(request.path_params["name"])
    if found is None:
        raise HTTPException(404, "there is nobody of that name")
    return found


def _role(told: Posted) -> Role:
    try:
        return Role(told.get("role"))
    except ValueError:
        raise NotInDirectory("choose a role") from None


def _slugs(told: Posted) -> list[str] | None:
    """The tenants that were ticked, where some are to be; None: all."""
    return told.all("tenant") if told.get("scope") == "some" else None


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?')) else '.'}"
