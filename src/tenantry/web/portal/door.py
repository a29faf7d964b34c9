"""The door of the portal: the cookie of who came by a link. It opens nothing else, and nothing else opens it.

Over TLS the name begins with `__Secure-`; `__Host-` would want the path `/`, where the control room is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.domain.portal import PortalVisit
from tenantry.web.pages_base.forms import read_form, require_csrf, require_own_origin
from tenantry.web.signin.cookies import is_over_tls, require_private
from tenantry.web.tokens import site_of

HOME: Final = "/portal"
PASSWORD: Final = "/portal/password"  # noqa: S105 -- a path
COOKIE: Final = "tenantry-portal"
_VALUE_CHARS_MAX: Final = 128
# In a thread, as handlers of other routes.
Visited = Callable[[Request, PortalVisit], Response]


def portal_page(path: str, handler: Visited, *, before_password: bool = False) -> Route:
    """A page for who came by a link, and has given the password where there is one."""
    return _route(path, handler, "GET", before_password)


def portal_form(path: str, handler: Visited, *, before_password: bool = False) -> Route:
    """What a form of such a page is sent to."""
    return _route(path, handler, "POST", before_password)


def _route(path: str, handler: Visited, method: str, before_password: bool) -> Route:
    @functools.wraps(handler)
    async def endpoint(request: Request) -> Response:
        require_private(request)
        if method == "POST":
            require_own_origin(request)
        visit = await _visit(request)
        if method == "POST":
            await read_form(request)
            require_csrf(request, request.state.secret)
        if not visit.is_proved and not before_password:
            raise HTTPException(303, "the password first", {"location": PASSWORD})
        return await run_in_threadpool(handler, request, visit)

    return Route(path, endpoint, methods=(method,))


async def _visit(request: Request) -> PortalVisit:
    secret = secret_of(request)
    found = await run_in_threadpool(site_of(request).directory.find_portal_visit, secret) if secret else None
    if found is None:
        raise HTTPException(401, "open the link that you were sent: a visit ends by itself after a day")
    request.state.secret = secret
    return found


def secret_of(request: Request) -> str:
    """What the cookie holds; "" where there is none."""
    found = request.cookies.get(_full_name(request), "")
    return found if len(found) <= _VALUE_CHARS_MAX else ""


def set_portal_cookie(request: Request, answer: Response, secret: str) -> None:
    """Until the browser is closed. Lax: it is set by a link in a mail."""
    answer.set_cookie(
        _full_name(request), secret, path=HOME, secure=is_over_tls(request), httponly=True, samesite="lax"
    )


def drop_portal_cookie(request: Request, answer: Response) -> None:
    answer.delete_cookie(_full_name(request), path=HOME, secure=is_over_tls(request), httponly=True, samesite="lax")


def _full_name(request: Request) -> str:
    return f"__Secure-{COOKIE}" if is_over_tls(request) else COOKIE
