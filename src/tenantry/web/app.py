"""What the control address serves. Every route but `/healthz` and `/tls/ask` has a permission and a door."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.control.host_names import is_own_host
from tenantry.control.metrics import Metrics
from tenantry.control.people.passwords import Passwords
from tenantry.control.site import Site, host
from tenantry.control.status.board import Boards
from tenantry.control.tasks import Tasks
from tenantry.domain.roles import Permission
from tenantry.web.answers import shown
from tenantry.web.api.routes import api_routes
from tenantry.web.hosts import OwnHosts, PublicHost
from tenantry.web.metrics import PATH as METRICS
from tenantry.web.metrics import Scraped
from tenantry.web.pages.live import LiveFeed
from tenantry.web.pages.routes import page_routes
from tenantry.web.pages.showing import Figures
from tenantry.web.pages_base.errors import StoreAway, broken, told
from tenantry.web.pages_base.headers import SecurityHeaders
from tenantry.web.pages_base.static import static_route
from tenantry.web.plain_paths import PlainPaths
from tenantry.web.portal.routes import portal_routes
from tenantry.web.proxies import Proxies
from tenantry.web.routing import guarded
from tenantry.web.signin.routes import signin_routes
from tenantry.web.signin.throttle import Throttle
from tenantry.web.signin.through import provider_of
from tenantry.web.status import status_routes
from tenantry.web.token_guesses import Guesses
from tenantry.web.tokens import PRESENTED_AT_ONCE, present_token, site_of


def control_app(site: Site, metrics: Metrics | None = None) -> Starlette:
    """All of it. What stands here without `guarded` is for everybody who reaches the address."""
    routes = [Route("/healthz", _healthz), Route("/tls/ask", _tls_ask), *api_routes()]
    routes += [static_route(), *signin_routes(), *page_routes(), *portal_routes()]
    if site.settings.status_page:
        routes += status_routes()
    if metrics is not None:
        routes.append(_metrics_route(Scraped(metrics), is_open=site.settings.metrics_open))
    settings = site.settings
    hosts = (settings.control_host, urlsplit(settings.control_url).hostname or "", *settings.control_hosts)
    public = urlsplit(settings.portal_url).hostname or ""
    away = StoreAway(time.monotonic)
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: told, OperationalError: away, PoolTimeout: away, 500: broken},
        middleware=[
            Middleware(Proxies, networks=settings.control_tls_proxy),
            Middleware(SecurityHeaders),
            Middleware(OwnHosts, hosts=(*hosts, public)),
            Middleware(PublicHost, host=public if public not in hosts else ""),
            Middleware(PlainPaths),
        ],
    )
    app.state.site = site
    app.state.guesses = Guesses(time.monotonic)
    app.state.throttle = Throttle(site.engine, time.monotonic)
    app.state.provider = provider_of(settings)
    app.state.passwords = Passwords()
    app.state.figures, app.state.live = Figures(site), LiveFeed()
    app.state.tasks, app.state.boards = Tasks(site.engine, host()), Boards(site)
    app.state.presenting = asyncio.Semaphore(PRESENTED_AT_ONCE)
    return app


def _metrics_route(scraped: Scraped, *, is_open: bool) -> Route:
    if is_open:
        return scraped.open_route()
    return guarded(METRICS, scraped.answer, Permission.METRICS_READ, present_token)


async def _healthz(_request: Request) -> Response:
    return shown({"status": "ok"})


async def _tls_ask(request: Request) -> Response:
    """Whether a server in front may get a certificate for a name (Caddy's on-demand TLS): 200 for those of this site.

    It needs no token, for Caddy sends none. Who is on this machine learns from it who is a client, and nothing more.
    """
    is_known = await run_in_threadpool(is_own_host, site_of(request), request.query_params.get("domain", ""))
    return shown({"known": is_known}, 200 if is_known else 404)
