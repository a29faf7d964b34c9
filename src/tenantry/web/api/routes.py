"""The admin API: its operations as routes, each behind its permission."""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tenantry.web.api import (
    admins,
    alerts,
    audit,
    budgets,
    credentials,
    declared,
    exports,
    gateways,
    invoices,
    keys,
    ledger,
    people,
    plans,
    portal,
    prices,
    refused,
    requests,
    site,
    slots,
    summaries,
    tenants,
    tiers,
)
from tenantry.web.api.openapi import Described
from tenantry.web.api.operations import READ, ROOT, Operation
from tenantry.web.api.running import handler_of
from tenantry.web.routing import guarded
from tenantry.web.tokens import present_token

OPERATIONS: Final[tuple[Operation, ...]] = (
    *tenants.OPERATIONS,
    *keys.OPERATIONS,
    *slots.OPERATIONS,
    *summaries.OPERATIONS,
    *portal.OPERATIONS,
    *budgets.OPERATIONS,
    *tiers.OPERATIONS,
    *requests.OPERATIONS,
    *refused.OPERATIONS,
    *credentials.OPERATIONS,
    *plans.OPERATIONS,
    *prices.OPERATIONS,
    *alerts.OPERATIONS,
    *audit.OPERATIONS,
    *admins.OPERATIONS,
    *people.OPERATIONS,
    *exports.OPERATIONS,
    *invoices.OPERATIONS,
    *ledger.OPERATIONS,
    *declared.OPERATIONS,
    *site.OPERATIONS,
    *gateways.OPERATIONS,
)

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"})


def api_routes() -> list[BaseRoute]:
    """Those of an operation each, and the description of them, which needs no token.

    Behind them, for each path, what other methods are answered.
    """
    routes: list[BaseRoute] = []
    methods: dict[str, set[str]] = {}
    for one in OPERATIONS:
        path = f"{ROOT}{one.path}"
        handler = handler_of(one)
        routes.append(guarded(path, handler, one.permission, present_token, (one.method,), of_site=one.of_site))
        methods.setdefault(path, set()).update({one.method, "HEAD"} if one.method == READ else {one.method})
    routes.append(Route(f"{ROOT}/openapi.json", Described(OPERATIONS).answer))
    return [*routes, *(guarded_against(path, allowed) for path, allowed in methods.items())]


def guarded_against(path: str, allowed: set[str]) -> Route:
    """405 for whoever has a token, with the methods that there are (RFC 9110 15.5.6)."""

    async def endpoint(request: Request) -> Response:
        await present_token(request)
        told = ", ".join(sorted(allowed))
        raise HTTPException(405, f"this is for {told}", {"allow": told})

    return Route(path, endpoint, methods=sorted(_METHODS - allowed))
