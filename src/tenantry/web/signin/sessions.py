"""The door for people: the session that a browser's cookie holds. It fails closed."""

from __future__ import annotations

from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request

from tenantry.domain.people import Session
from tenantry.domain.roles import Principal
from tenantry.storage.columns import now_utc
from tenantry.storage.directory import Directory
from tenantry.web.pages_base.forms import read_form, require_csrf, require_own_origin
from tenantry.web.signin.cookies import SESSION, cookie_of, require_private
from tenantry.web.signin.places import asked_for, with_next
from tenantry.web.tokens import address_of, site_of

SIGN_IN: Final = "/signin"
SIGN_IN_AGAIN: Final = "/signin/again"
# A page that htmx asked for in parts goes whole to where this header says (htmx.org/headers/hx-redirect).
_HTMX, _HTMX_REDIRECT = "hx-request", "hx-redirect"


async def signed_in(request: Request) -> Principal:
    """Who is signed in. Raises HTTPException 303 to where one signs in; 401 for what htmx asked for."""
    require_private(request)
    secret = cookie_of(request, SESSION)
    found = await run_in_threadpool(site_of(request).directory.find_session, secret) if secret is not None else None
    if found is None:
        raise _elsewhere(request, with_next(SIGN_IN, asked_for(request)), "sign in first")
    request.state.session, request.state.secret = found, secret
    return found.person.principal


async def signed_in_with_form(request: Request) -> Principal:
    """The same for a form, which is read, and which has to be one of ours."""
    require_own_origin(request)
    principal = await signed_in(request)
    await read_form(request)
    require_csrf(request, request.state.secret)
    return principal


async def signed_in_with_file(request: Request) -> Principal:
    """The same for a form with a file in it."""
    require_own_origin(request)
    principal = await signed_in(request)
    await read_form(request, has_file=True)
    require_csrf(request, request.state.secret)
    return principal


async def proved_with_form(request: Request) -> Principal:
    """The same for what is dangerous: the password was asked for lately."""
    principal = await signed_in_with_form(request)
    require_recent(request)
    return principal


def require_recent(request: Request) -> None:
    """Raises HTTPException 303 to where the password is asked for again."""
    if not session_of(request).is_recent(now_utc()):
        words = "enter your password again, then repeat what you did"
        raise _elsewhere(request, with_next(SIGN_IN_AGAIN, _page_before(request)), words)


def session_of(request: Request) -> Session:
    """The session, behind the door."""
    return request.state.session


def acting(request: Request, principal: Principal) -> Directory:
    """The directory, on behalf of who asks."""
    return site_of(request).directory.acting_as(principal.actor, address_of(request))


def _page_before(request: Request) -> str:
    """Of a form: the page that it is on says it in a field `page`, or has the address that it is sent to."""
    form = getattr(request.state, "form", None)
    return (form.get("page") if form is not None else "") or asked_for(request)


def _elsewhere(request: Request, place: str, words: str) -> HTTPException:
    if _HTMX in request.headers:
        return HTTPException(401, words, {_HTMX_REDIRECT: place})
    return HTTPException(303, words, {"location": place})
