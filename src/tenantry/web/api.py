"""The admin API of the control process. Every route but `/healthz` and `/tls/ask` needs an admin token as a bearer."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.control.host_names import is_own_host
from tenantry.control.metrics import Metrics
from tenantry.control.site import Site
from tenantry.control.views import tenant_view
from tenantry.domain.printable import escaped
from tenantry.ledger.usage import BadMonth, current_month, month_usage
from tenantry.storage.columns import now_utc
from tenantry.storage.directory import NotInDirectory
from tenantry.storage.records import AdminRecord
from tenantry.web.guesses import Guesses
from tenantry.web.hosts import OwnHosts
from tenantry.web.metrics import PATH as METRICS
from tenantry.web.metrics import Scraped

# Far above the longest token; bounds what is hashed for an unknown caller.
TOKEN_CHARS_MAX = 512
# Tokens that are looked at side by side: fewer than an address may guess, so that right ones that come together are not
# taken for guesses.
PRESENTED_AT_ONCE = 4
# A proxy may say anything; the audit log's column holds twice that.
ADDRESS_CHARS_MAX = 64
_TOKEN_REQUIRED = "the admin token is required: Authorization: Bearer ..."  # noqa: S105 -- words

# Of a request and the name of the admin who makes it.
Handler = Callable[[Request, str], Response]


def control_app(site: Site, metrics: Metrics | None = None) -> Starlette:
    """The whole API. A new route is an admin's unless it is put in here by hand."""
    routes = [
        Route("/healthz", _healthz),
        Route("/tls/ask", _tls_ask),
        _admins("/api/v1/tenants", _tenants),
        _admins("/api/v1/tenants/{slug}/usage", _usage),
    ]
    if metrics is not None:
        scraped = Scraped(metrics)
        routes.append(scraped.open_route() if site.settings.metrics_open else _admins(METRICS, scraped.answer))
    hosts = (site.settings.control_host, *site.settings.control_hosts)
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _told, 500: _broken},
        middleware=[Middleware(OwnHosts, hosts=hosts)],
    )
    app.state.site = site
    app.state.guesses = Guesses(time.monotonic)
    app.state.presenting = asyncio.Semaphore(PRESENTED_AT_ONCE)
    return app


def _admins(path: str, handler: Handler) -> Route:
    """A route for admins. Fails closed: no token, no answer."""

    @functools.wraps(handler)
    async def endpoint(request: Request) -> Response:
        name = await _require_admin(request)
        return await run_in_threadpool(handler, request, name)

    return Route(path, endpoint)


async def _require_admin(request: Request) -> str:
    """The name of the admin who asks. Fails closed: whatever is not a token that works raises."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise HTTPException(401, _TOKEN_REQUIRED)
    guesses: Guesses = request.app.state.guesses
    address, found = _address(request), None
    async with request.app.state.presenting:
        wait_seconds = guesses.take(address)
        if not wait_seconds:
            found = await run_in_threadpool(_present, _site(request), token)
        if found is not None:
            guesses.was_right(address)
    if wait_seconds:
        await _tell_guess(request, guesses, None, "too many guesses")
        words = f"too many wrong admin tokens: try again in {wait_seconds} s"
        raise HTTPException(429, words, {"retry-after": str(wait_seconds)})
    if found is None:
        await _tell_guess(request, guesses, None, "an unknown token")
        raise HTTPException(401, _TOKEN_REQUIRED)
    state = found.state(now_utc())
    if state != "active":
        await _tell_guess(request, guesses, found.name, f"a token that is {state}")
        raise HTTPException(
            403, f"this admin token ({found.name}) is {state}: `tenantry keys admin create` makes another"
        )
    return found.name


def _present(site: Site, token: str) -> AdminRecord | None:
    found = site.directory.find_presented(token) if len(token) <= TOKEN_CHARS_MAX else None
    if found is not None and found.state(now_utc()) == "active":
        site.directory.note_use(found)
    return found


async def _tell_guess(request: Request, guesses: Guesses, name: str | None, what: str) -> None:
    """In the audit log, some lines a minute at most; a line says how many there were since the last."""
    count = guesses.to_tell()
    if count:
        directory = _site(request).directory.acting_as("api", _address(request))
        await run_in_threadpool(directory.audit, "admin.refused", name or "*", {"what": what, "count": count})


def _address(request: Request) -> str:
    return request.client.host[:ADDRESS_CHARS_MAX] if request.client is not None else ""


def _site(request: Request) -> Site:
    return request.app.state.site


def _audit_read(request: Request, admin: str, what: str, slug: str | None) -> None:
    """Reading a tenant's data is told to the audit log before the data is."""
    directory = _site(request).directory.acting_as(f"api:{admin}", _address(request))
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
    shown = _shown({"status_code": error.status_code, "detail": error.detail}, error.status_code)
    shown.headers.update(error.headers or {})
    return shown


async def _broken(_request: Request, _error: Exception) -> Response:
    """What went wrong is in the log, for whoever runs this."""
    return _shown({"status_code": 500, "detail": "Internal Server Error"}, 500)


def _shown(value: object, status: int = 200) -> Response:
    """JSON that does nothing to a terminal that it is printed on: names of models come from clients and upstreams."""
    return Response(escaped(json.dumps(value, ensure_ascii=False)).encode(), status, media_type="application/json")
