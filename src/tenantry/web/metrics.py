"""`/metrics`, for Prometheus: for admins, or for whoever reaches the address where `metrics_open` says so."""

from __future__ import annotations

import threading

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.control.exposition import CONTENT_TYPE
from tenantry.control.metrics import Metrics
from tenantry.domain.roles import Principal

PATH = "/metrics"


class Scraped:
    """The page, made once at a time, however many ask."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._making = threading.Lock()

    def answer(self, _request: Request, _principal: Principal | None = None) -> Response:
        with self._making:
            return Response(self._metrics.page(), headers={"content-type": CONTENT_TYPE, "cache-control": "no-store"})

    def open_route(self) -> Route:
        """For everybody."""

        async def endpoint(request: Request) -> Response:
            return await run_in_threadpool(self.answer, request)

        return Route(PATH, endpoint)
