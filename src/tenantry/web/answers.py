"""How the control address answers: JSON, and problem details for what went wrong (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.domain.printable import escaped

PROBLEM = "application/problem+json"


class Refused(HTTPException):
    """A request that is refused, with what a program may want to know besides, as members of the problem."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(status, detail, headers)
        self.members = members


def shown(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that does nothing to a terminal that it is printed on: names of models come from clients and upstreams."""
    return Response(_text(value), status, headers, media_type="application/json")


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> Response:
    """What went wrong, and what to do. `members`: what a program may want to know besides."""
    told = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail} | members
    return Response(_text(told), status, headers, media_type=PROBLEM)


async def told(_request: Request, error: Exception) -> Response:
    """The answer to a request that was refused."""
    if not isinstance(error, HTTPException):
        raise error
    members = error.members if isinstance(error, Refused) else {}
    return problem(error.status_code, error.detail, error.headers, **members)


async def broken(_request: Request, _error: Exception) -> Response:
    """What went wrong is in the log, for whoever runs this."""
    return problem(500, "Internal Server Error: the log of control says what went wrong")


def _text(value: object) -> bytes:
    return escaped(json.dumps(value, ensure_ascii=False)).encode()
