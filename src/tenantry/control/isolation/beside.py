"""Headers beside those that say who a caller is: none of them may change what a caller is taken for.

Each is tried alone, and in rows: all of them, and for each binary digit of their numbers those that have it and those
that have not. So every two come together in a request, and nearly every two in one without many of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tenantry.control.isolation import tricks
from tenantry.control.isolation.cases import (
    BESIDE,
    FORBIDDEN,
    NO_KEY,
    Case,
    Expected,
    Hand,
    key_line,
    make_case,
    own_expected,
)
from tenantry.wire.routes import Sample, sample_targets

# What SDKs and Claude Code send (reference 2.1), what proxies add, what gateways are known to trust.
_HEADERS: Final = (
    *("accept: application/json", "accept-encoding: gzip", "accept-language: de", "anthropic-beta: tools-2024-04-04"),
    *("anthropic-dangerous-direct-browser-access: true", "cache-control: no-cache", "content-encoding: identity"),
    *("cookie: session=admin", "forwarded: for=127.0.0.1", "from: admin@example.com", "idempotency-key: one"),
    *("if-none-match: *", "origin: http://localhost", "pragma: no-cache", "priority: u=0", "range: bytes=0-1"),
    *(
        "referer: http://localhost/",
        "sec-fetch-site: same-origin",
        "traceparent: 00-0123456789abcdef-01",
        "via: 1.1 me",
    ),
    *(
        "true-client-ip: 127.0.0.1",
        "cf-connecting-ip: 127.0.0.1",
        "user-agent: anthropic-sdk-python/2.10",
        "x-app: cli",
    ),
    *("x-claude-code-session-id: 1", "x-client-ip: 127.0.0.1", "x-correlation-id: 1", "x-debug: 1", "x-internal: 1"),
    *(
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: localhost",
        "x-forwarded-proto: https",
        "x-forwarded-user: admin",
    ),
    *("x-http-method-override: GET", "x-original-host: localhost", "x-real-ip: 127.0.0.1", "x-request-id: 1"),
    *("x-requested-with: XMLHttpRequest", "x-stainless-helper-method: stream", "x-stainless-lang: python"),
    *(
        "x-stainless-retry-count: 1",
        "x-stainless-timeout: 600",
        "x-forwarded-client-cert: By=admin",
        "x-remote-user: admin",
    ),
    *("anthropic-organization-id: org", "anthropic-workspace-id: wrkspc", "anthropic-user-profile-id: uprof"),
    *(
        "anthropic_workspace_id: wrkspc",
        "x_tenant_id: admin",
        "x_forwarded_for: 127.0.0.1",
        "proxy-authorization: Basic eDp5",
    ),
)
# Where a key may stand, too, by another upstream's custom or a server's spelling (RFC 3875 4.1.18).
KEY_NAMES: Final = ("x_api_key", "X_Api_Key", "api-key", "api_key")
OWN: Final = "own key"
HEADERS: Final = tuple(line.encode() for line in _HEADERS)


def rows() -> Iterator[tuple[str, list[bytes]]]:
    """Each header alone by its name, and the rows."""
    for line in HEADERS:
        yield line.partition(b":")[0].decode(), [line]
    yield "all others", list(HEADERS)
    for digit in range((len(HEADERS) - 1).bit_length()):
        for side in (0, 1):
            chosen = [line for number, line in enumerate(HEADERS) if number >> digit & 1 == side]
            yield f"half of the others ({digit}{'ab'[side]})", chosen


def cases_beside(hand: Hand) -> Iterator[Case]:
    """Every caller that has to be refused, and the own tenant's, with every row of headers."""
    for sample in sample_targets():
        if sample.route.open_to_all:
            continue
        for title, lines, slug, expected in _callers(hand, sample):
            yield _beside(hand, sample, title, "nothing", lines, slug, expected)
            for name, beside in rows():
                yield _beside(hand, sample, title, name, [*lines, *beside], slug, expected)
            if title == OWN:
                for name in KEY_NAMES:
                    line = f"{name}: {hand.own.key}".encode()
                    yield _beside(hand, sample, title, f"{name} with the same key", [*lines, line], slug, expected)
            if slug != hand.own.slug or expected is FORBIDDEN:
                bearer = b"authorization: Bearer " + lines[0].partition(b": ")[2]
                yield _beside(hand, sample, title, "authorization", [*lines, bearer], slug, expected)


def _beside(
    hand: Hand, sample: Sample, title: str, name: str, lines: list[bytes], slug: str, expected: Expected
) -> Case:
    twin = "" if expected.upstream != "none" else f"beside {title}"
    return make_case(hand, BESIDE, f"{title}, beside {name}", sample, lines, expected, twin, slug)


def _callers(hand: Hand, sample: Sample) -> Iterator[tuple[str, list[bytes], str, Expected]]:
    own, slug = key_line(hand.own.key), hand.own.slug
    named = b"x-tenant-id: "
    if not hand.careful:
        yield OWN, [own], slug, own_expected(hand, sample)
    yield "own key, path of the other tenant", [own], hand.other.slug, FORBIDDEN
    yield "own key, x-tenant-id of the other tenant", [own, named + hand.other.slug.encode()], slug, FORBIDDEN
    both = [own, named + slug.encode()]
    yield "own key and x-tenant-id, path of the other tenant", both, hand.other.slug, FORBIDDEN
    for name, key in hand.spares.items():
        yield f"{name} key", [key_line(key)], slug, FORBIDDEN
    yield "a made-up key", [key_line(tricks.made_up_key(slug))], slug, NO_KEY
