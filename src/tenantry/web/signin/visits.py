"""Pages and forms of who is not signed in yet: bound to a cookie of their own, so that nobody else's page sends one."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.web.pages_base.forms import read_form, require_csrf, require_own_origin
from tenantry.web.pages_base.rendering import render
from tenantry.web.signin.cookies import VISIT, cookie_of, require_private, set_cookie
from tenantry.web.signin.throttle import Throttle
from tenantry.web.tokens import address_of, site_of

# Whoever leaves the page open for longer loads it again.
VISIT_SECONDS: Final = 24 * 3600
# In a thread, as handlers of other routes.
Visited = Callable[[Request], Response]


def open_page(path: str, handler: Visited) -> Route:
    """A page for everybody who reaches the address."""

    @functools.wraps(handler)
    async def endpoint(request: Request) -> Response:
        require_private(request)
        known = cookie_of(request, VISIT)
        secret = known or secrets.token_urlsafe(32)
        request.state.secret = secret
        answer = await run_in_threadpool(handler, request)
        if known is None:
            set_cookie(request, answer, VISIT, secret, VISIT_SECONDS)
        return answer

    return Route(path, endpoint, methods=("GET",))


def open_form(path: str, handler: Visited) -> Route:
    """What a form of such a page is sent to."""

    @functools.wraps(handler)
    async def endpoint(request: Request) -> Response:
        require_private(request)
        require_own_origin(request)
        await read_form(request)
        request.state.secret = cookie_of(request, VISIT)
        require_csrf(request, request.state.secret)
        return await run_in_threadpool(handler, request)

    return Route(path, endpoint, methods=("POST",))


class Guessing:
    """One guess at what a form asks for. `take` first; then `was_right`, or `was_wrong` with what was guessed at."""

    def __init__(self, request: Request, name: str) -> None:
        self._request = request
        self._name = name
        self._throttle: Throttle = request.app.state.throttle
        self._address = address_of(request)

    def take(self) -> None:
        """Raises: HTTPException 429."""
        wait_seconds = self._throttle.take(self._name, self._address)
        if wait_seconds:
            self.was_wrong("too many guesses")
            words = f"too many wrong attempts: try again in {wait_seconds} s"
            raise HTTPException(429, words, {"retry-after": str(wait_seconds)})

    def was_right(self, *, is_whole: bool = True) -> None:
        """`is_whole`: nothing more is asked for."""
        self._throttle.was_right(self._name, self._address, is_whole=is_whole)

    def was_wrong(self, what: str) -> None:
        """In the audit log, some lines a minute at most; a line says how many there were since the last."""
        count = self._throttle.to_tell()
        if count:
            directory = site_of(self._request).directory.acting_as("web", self._address)
            directory.audit("person.refused", self._name[:64] or "*", {"what": what, "count": count})


def refuse(request: Request, template: str, refused: str, **values: Any) -> Response:
    """The page once more, with what was wrong about what was filled in."""
    return render(request, template, 422, refused=refused, **values)
