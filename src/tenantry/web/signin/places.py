"""Where somebody goes on after signing in: a path of ours, and nowhere else."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlsplit

from starlette.requests import Request

HOME: Final = "/"
_PATH_CHARS_MAX: Final = 512


def own_path(text: str | None) -> str:
    """`text` where it is a path on this site, else the first page.

    A browser takes `//host`, `/\\host` and a path with a tab or line break in it for another site's (WHATWG URL 4.4).
    """
    if not text or len(text) > _PATH_CHARS_MAX or not text.isascii() or not text.isprintable():
        return HOME
    if not text.startswith("/") or text.startswith("//") or "\\" in text or " " in text:
        return HOME
    try:
        parts = urlsplit(text)
    except ValueError:
        return HOME
    if parts.scheme or parts.netloc or parts.path.startswith("//"):
        return HOME
    # Not back to where one signs in.
    return HOME if parts.path.startswith(("/signin", "/signout", "/welcome")) else text


def with_next(path: str, target: str) -> str:
    """`path` with where to go on afterwards."""
    target = own_path(target)
    return path if target == HOME else f"{path}?next={quote(target, safe='/')}"


def asked_for(request: Request) -> str:
    """The page that a request is for: for one that changes something, the page that it came from."""
    if request.method in ("GET", "HEAD"):
        query = request.url.query
        return own_path(request.url.path + (f"?{query}" if query else ""))
    return own_path(request.url.path)
