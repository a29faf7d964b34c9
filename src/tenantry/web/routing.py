"""Routes, each with the permission that it needs and the door that its callers come through.

There is no other way to make one: a route without a permission does not come to be.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.domain.roles import OF_ONE_TENANT, Permission, Principal

# Of a request and who makes it. It runs in a thread, and may ask the store.
Handler = Callable[[Request, Principal], Response]
# Finds who asks, or raises HTTPException: a bearer token, the cookie of somebody signed in.
Door = Callable[[Request], Awaitable[Principal]]
# In a path, the tenant that it is about.
SLUG: Final = "slug"


def guarded(
    path: str,
    handler: Handler,
    permission: Permission,
    door: Door,
    methods: Sequence[str] = ("GET",),
    *,
    of_site: bool = False,
) -> Route:
    """A route for whoever comes through `door` and has `permission`, for the tenant that the path names, if any.

    A path without a tenant, under a permission that can be had for some tenants only, lists what the caller may see:
    its handler asks `Principal.may` for each. `of_site`: it is the whole site's, and nobody's who has some tenants.
    """

    @functools.wraps(handler)
    async def endpoint(request: Request) -> Response:
        principal = await door(request)
        require(principal, permission, request.path_params.get(SLUG), of_site=of_site)
        return await run_in_threadpool(handler, request, principal)

    return Route(path, endpoint, methods=methods)


def require(principal: Principal, permission: Permission, slug: str | None, *, of_site: bool = False) -> None:
    """Raises HTTPException: 404 for a tenant that is not the caller's, as for one that is not there; 403 otherwise."""
    if principal.may(permission, slug) and not (of_site and principal.tenants is not None):
        return
    is_listing = slug is None and principal.tenants is not None and permission in OF_ONE_TENANT and not of_site
    if is_listing and any(principal.may(permission, one) for one in principal.tenants or ()):
        return
    if slug is not None and principal.tenants is not None and slug not in principal.tenants:
        raise HTTPException(404, f"there is no tenant {slug!r}")
    whose = " of some tenants" if principal.tenants is not None else ""
    raise HTTPException(403, f"{principal.name} is {principal.role}{whose} and may not: {permission}")
