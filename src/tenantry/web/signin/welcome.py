"""/welcome: what a one-time link opens. Looking at it does not use it up: mail programs look at links by themselves."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.domain.people import PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN, BadPassword, read_name
from tenantry.storage.directory import DirectoryError
from tenantry.storage.directory.people import FIRST, Link, LinkUsed
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import render
from tenantry.web.pages_base.words import sentence
from tenantry.web.signin.entering import enter, signing_in
from tenantry.web.signin.visits import Guessing, open_form, open_page, refuse
from tenantry.web.tokens import address_of, site_of

WELCOME: Final = "/welcome"
# Where one goes on: the first thing to do is a second factor.
_THEN: Final = "/account"
_LINK_CHARS_MAX: Final = 128
_GONE: Final = 410


def welcome_routes() -> list[Route]:
    return [open_page(WELCOME, _look), open_form(WELCOME, _follow)]


def _look(request: Request) -> Response:
    token = request.query_params.get("link", "")[:_LINK_CHARS_MAX]
    link = site_of(request).directory.find_link(token)
    if link is None:
        return render(request, "signin/gone.html.j2", _GONE)
    return render(request, "signin/welcome.html.j2", refused=None, **_values(link, token, ""))


def _follow(request: Request) -> Response:
    told = posted(request)
    token = told.get("link")[:_LINK_CHARS_MAX]
    directory = site_of(request).directory.acting_as("web", address_of(request))
    link = directory.find_link(token)
    if link is None:
        guessing = Guessing(request, "")
        guessing.take()
        guessing.was_wrong("a link that does not work")
        return render(request, "signin/gone.html.j2", _GONE)
    name = told.get("name") if link.person is None else link.person.name
    try:
        known = read_name(name)
        hashed = signing_in(request).new_hash(told.raw("password"), told.raw("again"), known)
        person = directory.acting_as(f"web:{known}", address_of(request)).follow_link(token, hashed, known)
    except LinkUsed:
        return render(request, "signin/gone.html.j2", _GONE)
    except (BadPassword, DirectoryError, ValueError) as error:
        words = sentence(error)
        return refuse(request, "signin/welcome.html.j2", words, **_values(link, token, name))
    return enter(request, person, "password", _THEN)


def _values(link: Link, token: str, name: str) -> dict[str, Any]:
    return {
        "purpose": link.purpose,
        "link": token,
        "name": name if link.purpose == FIRST or link.person is None else link.person.name,
        "chars_min": PASSWORD_CHARS_MIN,
        "chars_max": PASSWORD_CHARS_MAX,
    }
