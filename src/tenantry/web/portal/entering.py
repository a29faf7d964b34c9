"""Into the portal by a link, by the password where there is one, and out again."""

from __future__ import annotations

from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.control.people.passwords import Passwords
from tenantry.domain.portal import PortalVisit
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.portal.door import (
    HOME,
    PASSWORD,
    drop_portal_cookie,
    portal_form,
    portal_page,
    secret_of,
    set_portal_cookie,
)
from tenantry.web.portal.showing import acting_for, show
from tenantry.web.signin.cookies import require_private
from tenantry.web.signin.visits import Guessing
from tenantry.web.tokens import address_of, site_of

OPEN: Final = "/portal/open"
_LINK_CHARS_MAX: Final = 128
_GONE: Final = 410


def entering_routes() -> list[Route]:
    return [
        Route(OPEN, _open, methods=("GET",)),
        portal_page(PASSWORD, _ask, before_password=True),
        portal_form(PASSWORD, _prove, before_password=True),
        portal_form("/portal/leave", _leave, before_password=True),
    ]


async def _open(request: Request) -> Response:
    """A session of its own each time, and at once to an address without the token: it is in no history and no copy."""
    require_private(request)
    return await run_in_threadpool(_opened, request)


def _opened(request: Request) -> Response:
    token = request.query_params.get("link", "")
    directory = site_of(request).directory.acting_as("portal", address_of(request))
    secret = directory.open_portal(token) if 0 < len(token) <= _LINK_CHARS_MAX else None
    if secret is None:
        return show(request, "gone", _GONE)
    before = secret_of(request)
    if before:
        directory.close_portal(before)
    answer = see_other(HOME)
    set_portal_cookie(request, answer, secret)
    return answer


def _ask(request: Request, visit: PortalVisit) -> Response:
    if visit.is_proved:
        return see_other(HOME)
    return show(request, "password", refused=None)


def _prove(request: Request, visit: PortalVisit) -> Response:
    """Guesses are counted by tenant: a name with a blank in it is nobody's who signs in to the control room."""
    guessing = Guessing(request, f"portal {visit.slug}")
    guessing.take()
    stored = site_of(request).directory.portal_password_of(visit.tenant_id)
    passwords: Passwords = request.app.state.passwords
    if stored is None or not passwords.is_of(stored, posted(request).raw("password")):
        guessing.was_wrong("a wrong portal password")
        return show(request, "password", 422, refused="The password is wrong.")
    guessing.was_right()
    answer = see_other(HOME)
    secret = acting_for(request, visit).prove_portal_visit(visit, secret_of(request), stored)
    set_portal_cookie(request, answer, secret)
    return answer


def _leave(request: Request, _visit: PortalVisit) -> Response:
    site_of(request).directory.close_portal(secret_of(request))
    answer = show(request, "left")
    drop_portal_cookie(request, answer)
    return answer
