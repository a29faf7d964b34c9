"""Style sheets, scripts, pictures: in memory, each under a name with its hash, so that a browser keeps it for good."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.domain.values import value

PREFIX: Final = "/static/"
# A year, which RFC 9111 takes for "for good".
FOREVER: Final = "public, max-age=31536000, immutable"
_HASH_CHARS: Final = 12
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
}


@value
class StaticFile:
    body: bytes
    media_type: str


@cache
def _served() -> tuple[dict[str, str], dict[str, StaticFile]]:
    """The hashed name of each file, and each by its hashed name."""
    names: dict[str, str] = {}
    found: dict[str, StaticFile] = {}
    for path, body in _walk(files("tenantry.web").joinpath("static"), PurePosixPath()):
        media_type = _TYPES.get(path.suffix)
        if media_type is not None:
            digest = hashlib.sha256(body).hexdigest()[:_HASH_CHARS]
            names[str(path)] = str(path.with_suffix(f".{digest}{path.suffix}"))
            found[names[str(path)]] = StaticFile(body, media_type)
    return names, found


def static_url(name: str) -> str:
    """Where the file `name`, such as `vendor/htmx.min.js`, is served. Raises: KeyError."""
    return PREFIX + _served()[0][name]


def static_route() -> Route:
    """For everybody: nothing in them is a secret."""

    async def endpoint(request: Request) -> Response:
        found = _served()[1].get(request.path_params["name"])
        if found is None:
            raise HTTPException(404, "there is no such file")
        return Response(found.body, headers={"cache-control": FOREVER, "content-type": found.media_type})

    return Route(PREFIX + "{name:path}", endpoint)


def _walk(folder: Traversable, path: PurePosixPath) -> Iterator[tuple[PurePosixPath, bytes]]:
    for one in folder.iterdir():
        if one.is_dir():
            yield from _walk(one, path / one.name)
        else:
            yield path / one.name, one.read_bytes()
