"""What went wrong: a page for people, problem details for programs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.web import answers
from tenantry.web.pages_base.rendering import render_error

_OF_PROGRAMS: Final = ("/api", "/metrics", "/healthz", "/tls", "/static", "/status.json")
# Where Starlette itself says no more than the phrase.
_PLAIN: Final = {404: "there is no such page here", 405: "this is not done that way: go back, and load the page again"}
_REDIRECTS: Final = range(300, 400)


async def told(request: Request, error: Exception) -> Response:
    """The answer to a request that was refused, or is to be made elsewhere."""
    if not isinstance(error, HTTPException) or not _wants_page(request):
        return await answers.told(request, error)
    if error.status_code in _REDIRECTS:
        return Response(status_code=error.status_code, headers=error.headers)
    phrase = HTTPStatus(error.status_code).phrase
    detail = _PLAIN.get(error.status_code, phrase) if error.detail == phrase else error.detail
    answer = render_error(request, error.status_code, phrase, detail)
    answer.headers.update(error.headers or {})
    return answer


async def broken(request: Request, error: Exception) -> Response:
    """What went wrong is in the log, for whoever runs this."""
    if not _wants_page(request):
        return await answers.broken(request, error)
    return render_error(request, 500, "Something broke", "The log of control says what went wrong.")


def _wants_page(request: Request) -> bool:
    if request.url.path.startswith(_OF_PROGRAMS):
        return False
    return "text/html" in request.headers.get("accept", "") or "hx-request" in request.headers
