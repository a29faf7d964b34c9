"""Routes of pages and forms, behind the door for people."""

from __future__ import annotations

import functools

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.domain.roles import Permission, Principal
from tenantry.web.pages_base.rendering import SeeOther
from tenantry.web.routing import Door, Handler, guarded
from tenantry.web.signin.sessions import (
    proved_with_form,
    session_of,
    signed_in,
    signed_in_with_file,
    signed_in_with_form,
)
from tenantry.web.tokens import site_of


def page(path: str, handler: Handler, permission: Permission | None) -> Route:
    """A page for whoever is signed in and has `permission`; None: about themselves, for everybody who is signed in."""
    return _route(path, handler, permission, signed_in, "GET")


def form(
    path: str,
    handler: Handler,
    permission: Permission | None,
    *,
    is_dangerous: bool = False,
    has_file: bool = False,
) -> Route:
    """What a form is sent to. `is_dangerous`: the password is asked for again where that was a while ago."""
    door = signed_in_with_file if has_file else proved_with_form if is_dangerous else signed_in_with_form
    return _route(path, handler, permission, door, "POST")


def _route(path: str, handler: Handler, permission: Permission | None, door: Door, method: str) -> Route:
    @functools.wraps(handler)
    def noticing(request: Request, principal: Principal) -> Response:
        answer = handler(request, principal)
        if isinstance(answer, SeeOther) and answer.notice is not None:
            site_of(request).directory.leave_notice(session_of(request).session_id, answer.notice)
        return answer

    if permission is not None:
        return guarded(path, noticing, permission, door, (method,))

    @functools.wraps(handler)
    async def endpoint(request: Request) -> Response:
        principal = await door(request)
        return await run_in_threadpool(noticing, request, principal)

    return Route(path, endpoint, methods=(method,))
