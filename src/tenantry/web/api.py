"""The admin API of the control process. Every route but `/healthz` and `/tls/ask` needs the admin token as a bearer."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.control.host_names import is_own_host
from tenantry.control.site import Site
from tenantry.control.views import tenant_view
from tenantry.domain.printable import escaped
from tenantry.ledger.usage import BadMonth, current_month, month_usage
from tenantry.storage.directory import NotInDirectory

# Of a request and the name of the admin who makes it.
Handler = Callable[[Request, str], Response]


def control_app(site: Site) -> Starlette:
    """The whole API. A new route is an admin's unless it is put in here by hand."""
    routes = [
        Route("/healthz", _healthz),
        Route("/tls/ask", _tls_ask),
        _admins("/api/v1/tenants", _tenants),
        _admins("/api/v1/tenants/{slug}/usage", _usage),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _told, 500: _broken})
    app.state.site = site
    return app


def _admins(path: str, handler: Handler) -> Route:
    """A route for admins. Fails closed: no token, no answer."""

    @functools.wraps(handler)
    def guarded(request: Request) -> Response:
        return handler(request, _require_admin(request))

    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(guarded, request)

    return Route(path, endpoint)


def _require_admin(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    name = _site(request).directory.find_admin(token) if scheme.lower() == "bearer" and token else None
    if name is None:
        raise HTTPException(401, "the admin token is required: Authorization: Bearer ...")
    return name


def _site(request: Request) -> Site:
    return request.app.state.site


def _audit_read(request: Request, admin: str, what: str, slug: str | None) -> None:
    """Reading a tenant's data is told to the audit log before the data is."""
    address = request.client.host if request.client is not None else ""
    directory = _site(request).directory.acting_as(f"api:{admin}", address)
    directory.audit(f"read.{what}", slug or "*", {"tenant": slug})


async def _healthz(_request: Request) -> Response:
    return _shown({"status": "ok"})


async def _tls_ask(request: Request) -> Response:
    """Whether a server in front may get a certificate for a name (Caddy's on-demand TLS): 200 for those of this site.

    It needs no token, for Caddy sends none. Who is on this machine learns from it who is a client, and nothing more.
    """
    is_known = await run_in_threadpool(is_own_host, _site(request), request.query_params.get("domain", ""))
    return _shown({"known": is_known}, 200 if is_known else 404)


def _tenants(request: Request, admin: str) -> Response:
    site = _site(request)
    _audit_read(request, admin, "tenants", None)
    return _shown(
        [
            tenant_view(site.settings, row).as_json() | {"limits": row.limits.as_json()}
            for row in site.directory.list_tenants()
        ]
    )


def _usage(request: Request, admin: str) -> Response:
    site, slug = _site(request), str(request.path_params["slug"])
    zone = site.settings.zone
    try:
        tenant = site.directory.get_tenant(slug)
        _audit_read(request, admin, "usage", slug)
        month = request.query_params.get("month") or current_month(zone)
        report = month_usage(site.engine, tenant.tenant_id, month, zone)
    except NotInDirectory as error:
        raise HTTPException(404, str(error)) from None
    except BadMonth as error:
        raise HTTPException(400, str(error)) from None
    return _shown(report.as_json(slug))


async def _told(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _shown({"status_code": error.status_code, "detail": error.detail}, error.status_code)


async def _broken(_request: Request, _error: Exception) -> Response:
    """What went wrong is in the log, for whoever runs this."""
    return _shown({"status_code": 500, "detail": "Internal Server Error"}, 500)


def _shown(value: object, status: int = 200) -> Response:
    """JSON that does nothing to a terminal that it is printed on: names of models come from clients and upstreams."""
    return Response(escaped(json.dumps(value, ensure_ascii=False)).encode(), status, media_type="application/json")
