"""What went wrong: a page for people, problem details for programs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.domain.repeats import Repeats
from tenantry.web import answers
from tenantry.web.pages_base.rendering import render_error

_OF_PROGRAMS: Final = ("/api", "/metrics", "/healthz", "/tls", "/static", "/status.json")
log = logging.getLogger("tenantry.control")
# Where Starlette itself says no more than the phrase.
_PLAIN: Final = {404: "there is no such page here", 405: "this is not done that way: go back, and load the page again"}
_AWAY: Final = (
    "The database cannot be used at the moment: try again in a little while. "
    "The log of control and `tenantry doctor` say why."
)
_AWAY_SECONDS: Final = "5"
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


class StoreAway:
    """What is answered where the database cannot be used for a while: locked, on a full disk, or a server that is gone.

    The words for everybody name nothing of it: who may know is not known without it. The log says it once.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._faults = Repeats()

    async def __call__(self, request: Request, error: Exception) -> Response:
        self._note((str(error).splitlines() or [type(error).__name__])[0])
        refusal = HTTPException(503, _AWAY, {"retry-after": _AWAY_SECONDS})
        return await told(request, refusal)

    def _note(self, reason: str) -> None:
        with self._lock:
            self._faults.went_well(self._now())  # one that was long ago is over
            is_news = self._faults.came(reason, self._now())
        if is_news:
            log.error("the database cannot be used: %s", reason)


def _wants_page(request: Request) -> bool:
    if request.url.path.startswith(_OF_PROGRAMS):
        return False
    return "text/html" in request.headers.get("accept", "") or "hx-request" in request.headers
