"""What is tried against every route: generated from the route table, so that a new route is covered as it is born.

The expected answers are the table of DESIGN 4.3. Everything here is pure: values in, requests as bytes out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tenantry.control.isolation import tricks
from tenantry.control.isolation.client import request
from tenantry.wire.routes import Kind, Route, Sample, sample_targets

MODEL = "claude-haiku-5-5"


@dataclass(frozen=True, slots=True)
class Holder:
    """A tenant as its software knows it. No key is ever in a repr. `host` names it, where there is one.

    `slots` are keys of its slots by their names.
    """

    slug: str
    tenant_id: str
    key: str = field(repr=False)
    host: str = ""
    slots: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


@dataclass(frozen=True, slots=True)
class Hand:
    """What a prober has in hand: itself, another tenant, one that does not exist, and keys that must not work.

    `spares` are keys by what is wrong with them: `revoked`, `expired`, `disabled`, `unknown`. `objects` are ids of the
    other tenant's objects by scope. `careful`: the tenants are real, so nothing that would be forwarded is sent.
    """

    own: Holder
    other: Holder
    nobody: Holder
    spares: dict[str, str] = field(repr=False)
    oat: str = field(repr=False)
    raw: str = field(repr=False)
    require_tenant_id: bool = False
    careful: bool = False
    objects: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Expected:
    """What has to come back. No `statuses`: anything but a refusal of the caller (401, 403).

    `upstream` says whose credential may have left: `none` of them, the `own`, or at most the own (`own?`).
    `final`: the answer carries `x-should-retry: false`.
    """

    statuses: tuple[int, ...]
    upstream: str = "none"
    error_type: str = ""
    final: bool = False

    @property
    def words(self) -> str:
        status = " or ".join(str(status) for status in self.statuses) or "neither 401 nor 403"
        kind = f" {self.error_type}" if self.error_type else ""
        leaves = {"none": "nothing upstream", "own": "own credential upstream", "own?": "upstream at most the own"}
        return f"{status}{kind}, {leaves[self.upstream]}"


NO_KEY = Expected((401,), error_type="authentication_error", final=True)
FORBIDDEN = Expected((403,), error_type="permission_error", final=True)
MALFORMED = Expected((400,))
NO_ROUTE = Expected((400, 404))
UNNAMED = Expected((400,), error_type="invalid_request_error", final=True)
UNKNOWN_OBJECT = Expected((404,), error_type="not_found_error")
OPEN = Expected((200,))
AT_MOST_OWN = Expected((200, 400, 401, 403), upstream="own?")


@dataclass(frozen=True, slots=True)
class Case:
    """One request. Cases with the same `twin` (not "") must be answered in equal bytes."""

    group: str
    title: str
    route: str
    method: bytes
    data: bytes = field(repr=False)
    expected: Expected
    twin: str = ""


WHO = "identity"
BESIDE = "headers"
HOW = "tricks"
IDS = "objects"


def generate_cases(hand: Hand) -> Iterator[Case]:
    """Every case of every route, in an order in which what is right comes first."""
    samples = list(sample_targets())
    for sample in samples:
        yield from _own(hand, sample)
    for sample in samples:
        yield from _identity(hand, sample)
        yield from _objects(hand, sample)
        yield from _tricks(hand, sample)


def _tricks(hand: Hand, sample: Sample) -> Iterator[Case]:
    for trick in tricks.list_tricks(hand.own.key, hand.own.slug, hand.other.slug, hand.nobody.slug):
        case = _tricked(hand, sample, trick)
        if case is not None:
            yield case


def body_of(route: Route, text: str = "hello", careful: bool = False, stream: bool = False) -> bytes:
    """A request body for a route; where nothing may be forwarded, one that the gateway refuses by itself."""
    if route.body_bytes_max == 0:
        return b""
    if careful:
        return b"{}"
    body: dict[str, object] = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
    if route.kind is Kind.MESSAGES:
        body |= {"max_tokens": 16}
        if stream:
            body["stream"] = True
    return json.dumps(body).encode()


def make_case(
    hand: Hand,
    group: str,
    title: str,
    sample: Sample,
    lines: list[bytes],
    expected: Expected,
    twin: str = "",
    slug: str | None = None,
    host: bytes = b"gateway",
) -> Case:
    path = sample.path if slug is None else f"/t/{slug}".encode() + sample.path
    lines = [*lines, b"anthropic-version: 2023-06-01", b"connection: close"]
    data = request(sample.method, path, lines, body_of(sample.route, careful=hand.careful), host)
    return Case(group, title, sample.name, sample.method, data, expected, twin and f"{twin} {sample.name}")


def key_line(key: str) -> bytes:
    return b"x-api-key: " + key.encode()


def own_expected(hand: Hand, sample: Sample) -> Expected:
    """What the tenant's own key gets."""
    route = sample.route
    if route.open_to_all:
        return OPEN
    if route.kind in (Kind.MESSAGES, Kind.COUNT_TOKENS, Kind.MODELS) and not route.scopes:
        # A real tenant may be at its own limit, or its upstream may be down; neither is a matter of isolation.
        return Expected((), upstream="own?") if hand.careful else Expected((200,), upstream="own")
    return Expected((), upstream="own?")


def _own(hand: Hand, sample: Sample) -> Iterator[Case]:
    """What has to work: otherwise a gateway that refuses everything would pass."""
    expected = own_expected(hand, sample)
    own, key = hand.own, key_line(hand.own.key)
    named = b"x-tenant-id: " + own.slug.encode()
    twin = "open" if sample.route.open_to_all else ""
    bare = UNNAMED if hand.require_tenant_id and not sample.route.open_to_all else expected
    yield make_case(hand, WHO, "own key", sample, [key], bare, twin)
    yield make_case(hand, WHO, "own key, own path", sample, [key], expected, twin, own.slug)
    if hand.careful:
        return
    bearer = b"authorization: Bearer " + own.key.encode()
    yield make_case(hand, WHO, "own key as Bearer, own path", sample, [bearer], expected, twin, own.slug)
    yield make_case(hand, WHO, "both headers with the same key", sample, [key, bearer], expected, twin, own.slug)
    yield make_case(hand, WHO, "own x-tenant-id by slug", sample, [key, named], expected, twin)
    by_id = b"x-tenant-id: " + own.tenant_id.encode()
    yield make_case(hand, WHO, "own x-tenant-id by id", sample, [key, by_id], expected, twin)


def _identity(hand: Hand, sample: Sample) -> Iterator[Case]:
    """The authentication table. On a route that is open to all, every caller gets the same bytes."""
    is_open = sample.route.open_to_all
    own = key_line(hand.own.key)
    for title, lines in _keyless(hand):
        for slug in (None, hand.own.slug):
            where = title if slug is None else f"{title}, on the own path"
            yield make_case(
                hand, WHO, where, sample, lines, OPEN if is_open else NO_KEY, "open" if is_open else "", slug
            )
    # A key of a slug that exists must not be told from one of a slug that does not.
    for holder in (hand.own, hand.nobody):
        lines = [key_line(tricks.made_up_key(holder.slug))]
        expected, twin = (OPEN, "open") if is_open else (NO_KEY, "unknown key")
        yield make_case(hand, WHO, f"a made-up key for {_which(hand, holder)}", sample, lines, expected, twin)
    for name, key in hand.spares.items():
        for slug in (None, hand.own.slug):
            expected = OPEN if is_open else FORBIDDEN
            yield make_case(
                hand, WHO, f"{name} key", sample, [key_line(key)], expected, "open" if is_open else "", slug
            )
    yield from _foreign(hand, sample, own)


def _foreign(hand: Hand, sample: Sample, own: bytes) -> Iterator[Case]:
    """Another tenant is named, which exists or does not: equal bytes."""
    is_open = sample.route.open_to_all
    expected, twin = (OPEN, "open") if is_open else (FORBIDDEN, "foreign")
    for holder in (hand.other, hand.nobody):
        which = _which(hand, holder)
        yield make_case(hand, WHO, f"own key, path of {which}", sample, [own], expected, twin, holder.slug)
        for how, value in (("slug", holder.slug), ("id", holder.tenant_id)):
            named = b"x-tenant-id: " + value.encode()
            yield make_case(
                hand, WHO, f"own key, x-tenant-id of {which} by {how}", sample, [own, named], expected, twin
            )
            title = f"own key, own path, x-tenant-id of {which} by {how}"
            yield make_case(hand, WHO, title, sample, [own, named], expected, twin, hand.own.slug)
        named = b"x-tenant-id: " + hand.own.slug.encode()
        yield make_case(
            hand, WHO, f"own key and x-tenant-id, path of {which}", sample, [own, named], expected, twin, holder.slug
        )
    for title, slug in (
        ("whose slug begins as the own", hand.own.slug + "-2"),
        ("whose slug the own begins with", hand.own.slug[:-1]),
    ):
        yield make_case(hand, WHO, f"own key, path of one {title}", sample, [own], expected, twin, slug)
        named = b"x-tenant-id: " + slug.encode()
        yield make_case(hand, WHO, f"own key, x-tenant-id of one {title}", sample, [own, named], expected, twin)
    other = key_line(hand.other.key)
    yield make_case(hand, WHO, "key of the other tenant, own path", sample, [other], expected, twin, hand.own.slug)
    yield make_case(
        hand, WHO, "key of the other tenant, path of nobody", sample, [other], expected, twin, hand.nobody.slug
    )
    named = b"x-tenant-id: " + hand.own.slug.encode()
    yield make_case(hand, WHO, "key of the other tenant, own x-tenant-id", sample, [other, named], expected, twin)


def _which(hand: Hand, holder: Holder) -> str:
    if holder is hand.own:
        return "the own tenant"
    return "the other tenant" if holder is hand.other else "a tenant that does not exist"


def _keyless(hand: Hand) -> Iterator[tuple[str, list[bytes]]]:
    """Callers without a valid gateway key."""
    own, other = hand.own.key.encode(), hand.other.key.encode()
    yield "no key", []
    yield "no key, x-tenant-id of the other tenant", [b"x-tenant-id: " + hand.other.slug.encode()]
    yield "garbage as key", [b'x-api-key: !"$%&/()=?`']
    yield "an empty key", [b"x-api-key:"]
    yield "a key of 5,000 characters", [b"x-api-key: " + b"x" * 5000]
    yield "Basic authentication", [b"authorization: Basic c2stcHJveHk6eA=="]
    yield "the key under an unknown scheme", [b"authorization: Token " + own]
    yield "two keys in one Bearer", [b"authorization: Bearer " + own + b", " + other]
    yield "the key in a cookie", [b"cookie: x-api-key=" + own]
    yield "the key as proxy-authorization", [b"proxy-authorization: Bearer " + own]
    yield "both headers, own and the other's", [b"x-api-key: " + own, b"authorization: Bearer " + other]
    yield "both headers, the other's and own", [b"x-api-key: " + other, b"authorization: Bearer " + own]
    for name, key in (("consumer token (sk-ant-oat)", hand.oat), ("raw Anthropic key (sk-ant-api)", hand.raw)):
        yield f"{name} as x-api-key", [b"x-api-key: " + key.encode()]
        yield f"{name} as Bearer", [b"authorization: Bearer " + key.encode()]
        yield f"own key and {name} as Bearer", [b"x-api-key: " + own, b"authorization: Bearer " + key.encode()]
    for title, key in tricks.near_misses(own):
        yield title, [b"x-api-key: " + key]


def _objects(hand: Hand, sample: Sample) -> Iterator[Case]:
    """Ids of the other tenant's objects, against ids that nobody has."""
    if not sample.route.scopes:
        return
    for title, ids in (("an object of the other tenant", hand.objects), ("an object that does not exist", {})):
        foreign = next(one for one in sample_targets(ids=ids) if one.name == sample.name)
        lines = [key_line(hand.own.key)]
        yield make_case(hand, IDS, title, foreign, lines, UNKNOWN_OBJECT, "object", hand.own.slug)


def _tricked(hand: Hand, sample: Sample, trick: tricks.Trick) -> Case | None:
    expected, twin = _of_trick(sample, trick)
    if expected.upstream != "none" and hand.careful:
        return None
    path = trick.path.replace(tricks.PATH, sample.path) if trick.path else sample.path
    body = body_of(sample.route, careful=hand.careful)
    lines = [b"anthropic-version: 2023-06-01", *trick.lines]
    if trick.framing is None:
        data = request(sample.method, path, [*lines, b"connection: close"], body)
    else:
        framing_lines, tail = trick.framing
        data = request(sample.method, path, [*lines, *framing_lines]) + tail
    return Case(HOW, trick.title, sample.name, sample.method, data, expected, twin and f"{twin} {sample.name}")


def _of_trick(sample: Sample, trick: tricks.Trick) -> tuple[Expected, str]:
    """What a trick has to come to on this route."""
    if trick.outcome == tricks.MALFORMED:
        return MALFORMED, ""
    if trick.outcome == tricks.NO_ROUTE:
        return NO_ROUTE, trick.twin
    if sample.route.open_to_all:
        return OPEN, "open"
    if trick.outcome == tricks.FOREIGN:
        return FORBIDDEN, "foreign"
    if trick.outcome == tricks.NO_KEY:
        return NO_KEY, ""
    return AT_MOST_OWN, ""
