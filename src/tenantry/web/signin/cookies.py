"""The cookies, which is all that a browser keeps.

Over TLS their names begin with `__Host-`: a browser takes such a cookie only over TLS, for this host alone, so that
nobody else under the domain can set one (RFC 6265bis 4.1.3). On loopback without TLS the names have no prefix.
"""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.web.hosts import LOOPBACK_NAMES, host_name

SESSION: Final = "tenantry"
# Of who is not signed in: what their forms are bound to.
VISIT: Final = "tenantry-visit"
OIDC: Final = "tenantry-oidc"
# Far above the longest; bounds what is hashed for an unknown caller.
_VALUE_CHARS_MAX: Final = 1024


def cookie_of(request: Request, name: str) -> str | None:
    """What a cookie of ours holds."""
    found = request.cookies.get(_full_name(request, name))
    return found if found and len(found) <= _VALUE_CHARS_MAX else None


def set_cookie(request: Request, answer: Response, name: str, secret: str, seconds: int | None = None) -> None:
    """Until the browser is closed, or for so many seconds.

    Lax: who comes from a mail or from the OIDC provider is signed in; what changes anything needs more than the cookie.
    """
    answer.set_cookie(
        _full_name(request, name),
        secret,
        max_age=seconds,
        path="/",
        secure=is_over_tls(request),
        httponly=True,
        samesite="lax",
    )


def drop_cookie(request: Request, answer: Response, name: str) -> None:
    answer.delete_cookie(
        _full_name(request, name), path="/", secure=is_over_tls(request), httponly=True, samesite="lax"
    )


def is_over_tls(request: Request) -> bool:
    return request.url.scheme == "https"


def require_private(request: Request) -> None:
    """Raises HTTPException 403: a page that was asked for over a network without TLS, as far as we are told."""
    name = host_name(request.headers.get("host", "").encode("latin-1"))
    if not is_over_tls(request) and name not in LOOPBACK_NAMES:
        raise HTTPException(
            403,
            "nobody signs in without TLS: if a TLS proxy stands in front, name its address in control_tls_proxy, and "
            "have it send X-Forwarded-Proto",
        )


def _full_name(request: Request, name: str) -> str:
    return f"__Host-{name}" if is_over_tls(request) else name
