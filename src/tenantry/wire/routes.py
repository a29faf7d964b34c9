"""The route table: which paths exist, and what may be done with each.

Permission belongs to the route and is never derived from a string at run time (DESIGN 4.2). A path that is not in the
table does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import unquote_to_bytes

from tenantry.domain.errors import InvalidRequest, NotFound
from tenantry.domain.keys import KEY_PREFIX
from tenantry.wire.not_offered import why_not_found

# The API's own limit for Messages and count_tokens (reference 3.2).
BODY_BYTES_MAX: Final = 32 * 1024 * 1024


class Kind(Enum):
    MESSAGES = "messages"  # inspected, metered, journalled
    COUNT_TOKENS = "count_tokens"  # inspected, free
    MODELS = "models"  # free
    HELLO = "hello"  # answered here, without a key: Claude Code asks before it has one (reference 7.1)
    HEALTH = "health"  # answered here, without a key: says nothing but that the process serves


@dataclass(frozen=True, slots=True)
class Route:
    """`scopes` names the kinds of objects whose ids stand in the path and belong to one tenant, in their order there.

    An id of another tenant is answered like one that does not exist: 404 in equal bytes (DESIGN 4.3).
    """

    kind: Kind
    body_bytes_max: int
    open_to_all: bool = False
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PatternRoute:
    """A route whose path holds an id. `sample` shows where; the place of a scoped id has its scope's name."""

    method: bytes
    path: re.Pattern[bytes]
    sample: str
    route: Route


@dataclass(slots=True)
class Target:
    """A request target that has a route. `path`, without a tenant prefix, and `query`, with its `?`, go upstream."""

    route: Route
    path: bytes
    query: bytes
    slug: bytes | None


_MESSAGES: Final = Route(Kind.MESSAGES, BODY_BYTES_MAX)
_COUNT_TOKENS: Final = Route(Kind.COUNT_TOKENS, BODY_BYTES_MAX)
_MODELS: Final = Route(Kind.MODELS, 0)
_HELLO: Final = Route(Kind.HELLO, 0, open_to_all=True)
_HEALTH: Final = Route(Kind.HEALTH, 0, open_to_all=True)

ROUTES: dict[tuple[bytes, bytes], Route] = {
    (b"POST", b"/v1/messages"): _MESSAGES,
    (b"POST", b"/v1/messages/count_tokens"): _COUNT_TOKENS,
    (b"GET", b"/v1/models"): _MODELS,
    (b"HEAD", b"/api/hello"): _HELLO,
    (b"GET", b"/healthz"): _HEALTH,
}

PATTERN_ROUTES: list[PatternRoute] = [
    PatternRoute(b"GET", re.compile(rb"/v1/models/[A-Za-z0-9][A-Za-z0-9._:@\-]{0,127}"), "/v1/models/{model}", _MODELS),
]

# The parameters of these routes (reference appendix A); the cursors are ids of models, which are nobody's.
_QUERY_PASSED: Final = frozenset({b"beta", b"limit", b"after_id", b"before_id"})
# How a gateway key begins: what holds one does not go upstream.
_KEY: Final = KEY_PREFIX.encode()
_QUERY_VALUE: Final = re.compile(rb"[A-Za-z0-9._:@\-]{0,128}")
# No error repeats more of what a client sent than this.
QUERY_ECHO_CHARS_MAX: Final = 40
# A tenant's own endpoint, `/t/acme`, or that of one of its slots, `/t/acme.writer`.
_TENANT_PATH: Final = re.compile(rb"/t/([a-z0-9][a-z0-9\-]{0,62}(?:\.[a-z0-9][a-z0-9\-]{0,62})?)(/.*)")


def find_target(method: bytes, target: bytes) -> Target:
    """The route of a request.

    Raises:
        NotFound: no such path, or not with this method; it says what is known of the path.
        InvalidRequest: the query names an object upstream.
    """
    path, _, query = target.partition(b"?")
    if query:
        query = _passed(query)
    route = ROUTES.get((method, path))
    if route is not None:
        return Target(route, path, query, None)
    slug: bytes | None = None
    prefixed = _TENANT_PATH.fullmatch(path)
    if prefixed is not None:
        slug, path = prefixed.groups()
    # Users put `/v1` into the base URL and SDKs add their own (reference 7.6).
    if path.startswith(b"/v1/v1/"):
        path = path[3:]
    route = ROUTES.get((method, path))
    if route is None:
        route = _find_pattern(method, path)
    if route is None:
        raise NotFound(why_not_found(method, path, _methods_of(path)))
    return Target(route, path, query, slug)


def _methods_of(path: bytes) -> set[bytes]:
    found = {method for method, known in ROUTES if known == path}
    return found | {one.method for one in PATTERN_ROUTES if one.path.fullmatch(path) is not None}


def _passed(query: bytes) -> bytes:
    """Of a query, what goes upstream. Nobody else's parameters are: they may hold a key, or say who is asking.

    Raises:
        InvalidRequest: it names an object upstream.
    """
    passed: list[bytes] = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        plain = unquote_to_bytes(name.replace(b"+", b" ")).replace(b"-", b"_").strip().lower()
        if name in _QUERY_PASSED:
            if _QUERY_VALUE.fullmatch(value) is not None and _KEY not in value:
                passed.append(part)
        elif plain.endswith(b"_id") and not plain.endswith(b"tenant_id"):  # tenants are the house's own
            raise InvalidRequest(f"{plain[:QUERY_ECHO_CHARS_MAX].decode('ascii', 'replace')}: not accepted in a query")
    return b"?" + b"&".join(passed) if passed else b""


def _find_pattern(method: bytes, path: bytes) -> Route | None:
    if _KEY in path:
        return None
    for pattern in PATTERN_ROUTES:
        if pattern.method == method and pattern.path.fullmatch(path) is not None:
            return pattern.route
    return None


# Ids to fill the samples of patterns with.
SAMPLE_IDS: Final = {"model": "claude-haiku-5-5"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One way to reach a route. `name` is the route's own, such as `GET /v1/models/{model}`."""

    name: str
    method: bytes
    path: bytes
    route: Route


def sample_targets(slug: str | None = None, ids: Mapping[str, str] | None = None) -> Iterator[Sample]:
    """A method and a path for every route there is; with `slug`, each also under that tenant's prefix.

    `ids` fills the places of patterns by name, beyond `SAMPLE_IDS`; a place without an id gets a made-up one.
    """
    known = {**SAMPLE_IDS, **(ids or {})}
    samples = [(method, path.decode(), route) for (method, path), route in ROUTES.items()]
    samples += [(pattern.method, pattern.sample, pattern.route) for pattern in PATTERN_ROUTES]
    for prefix in ("",) if slug is None else ("", f"/t/{slug}"):
        for method, shape, route in samples:
            filled = _PLACE.sub(lambda place: known.get(place[1], f"{place[1]}_none"), shape)
            yield Sample(f"{method.decode()} {shape}", method, (prefix + filled).encode(), route)


_PLACE: Final = re.compile(r"\{([a-z_]+)\}")
