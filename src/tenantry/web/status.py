"""The status page, for everybody, where the settings want one: no cookie, no script; it may be kept for a while."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.control.status.board import KEPT_SECONDS, Boards
from tenantry.web.portal.showing import brand_of, show
from tenantry.web.tokens import site_of

PATH: Final = "/status"
# In front of a page that many look at when something is wrong: twice as long as a look is kept.
_CACHED: Final = f"public, max-age={int(2 * KEPT_SECONDS)}"


def status_routes() -> list[Route]:
    return [Route(PATH, _page, methods=("GET",)), Route(f"{PATH}.json", _json, methods=("GET",))]


async def _page(request: Request) -> Response:
    return await run_in_threadpool(_shown, request)


def _shown(request: Request) -> Response:
    boards: Boards = request.app.state.boards
    answer = show(request, "status", board=boards.read())
    answer.headers["cache-control"] = _CACHED
    return answer


async def _json(request: Request) -> Response:
    return await run_in_threadpool(_told, request)


def _told(request: Request) -> Response:
    boards: Boards = request.app.state.boards
    body = msgspec.json.encode({"service": brand_of(site_of(request)).name} | boards.read().as_json())
    return Response(body, headers={"content-type": "application/json", "cache-control": _CACHED})
