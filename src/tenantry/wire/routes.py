"""The route table: which paths exist, and what may be done with each.

Permission belongs to the route and is never derived from a string at run time (DESIGN 4.2). A path that is not in the
table does not exist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from tenantry.domain.errors import NotFound

# The API's own limit for Messages and count_tokens (reference 3.2).
BODY_BYTES_MAX = 32 * 1024 * 1024


class Kind(Enum):
    MESSAGES = "messages"  # inspected, metered, journalled
    COUNT_TOKENS = "count_tokens"  # inspected, free
    MODELS = "models"  # free
    HELLO = "hello"  # answered here, without a key: Claude Code asks before it has one (reference 7.1)
    HEALTH = "health"  # answered here, without a key: says nothing but that the process serves


@dataclass(frozen=True, slots=True)
class Route:
    kind: Kind
    body_bytes_max: int
    open_to_all: bool = False


@dataclass(slots=True)
class Target:
    """A request target that has a route. `path` is what goes upstream, without a tenant prefix; `query` has its `?`."""

    route: Route
    path: bytes
    query: bytes
    slug: bytes | None


_MESSAGES = Route(Kind.MESSAGES, BODY_BYTES_MAX)
_COUNT_TOKENS = Route(Kind.COUNT_TOKENS, BODY_BYTES_MAX)
_MODELS = Route(Kind.MODELS, 0)
_HELLO = Route(Kind.HELLO, 0, open_to_all=True)
_HEALTH = Route(Kind.HEALTH, 0, open_to_all=True)

ROUTES: dict[tuple[bytes, bytes], Route] = {
    (b"POST", b"/v1/messages"): _MESSAGES,
    (b"POST", b"/v1/messages/count_tokens"): _COUNT_TOKENS,
    (b"GET", b"/v1/models"): _MODELS,
    (b"HEAD", b"/api/hello"): _HELLO,
    (b"GET", b"/healthz"): _HEALTH,
}

_MODEL_PATH = re.compile(rb"/v1/models/[A-Za-z0-9][A-Za-z0-9._:@\-]{0,127}")
_TENANT_PATH = re.compile(rb"/t/([a-z0-9][a-z0-9\-]{0,62})(/.*)")


def find_target(method: bytes, target: bytes) -> Target:
    """The route of a request.

    Raises:
        NotFound: no such path, or not with this method.
    """
    path, mark, query = target.partition(b"?")
    route = ROUTES.get((method, path))
    if route is not None:
        return Target(route, path, mark + query, None)
    slug: bytes | None = None
    prefixed = _TENANT_PATH.fullmatch(path)
    if prefixed is not None:
        slug, path = prefixed.groups()
    # Users put `/v1` into the base URL and SDKs add their own (reference 7.6).
    if path.startswith(b"/v1/v1/"):
        path = path[3:]
    route = ROUTES.get((method, path))
    if route is None and method == b"GET" and _MODEL_PATH.fullmatch(path) is not None:
        route = _MODELS
    if route is None:
        raise NotFound
    return Target(route, path, mark + query, slug)
