"""What is tried with the `Host` of a request: it names a tenant as the path does, and nothing else does so."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.control.isolation.cases import (
    FORBIDDEN,
    MALFORMED,
    OPEN,
    WHO,
    Case,
    Expected,
    Hand,
    key_line,
    make_case,
    own_expected,
)
from tenantry.wire.routes import Sample, sample_targets

# What front servers and frameworks take for a host.
_NOT_THE_HOST = ("x-forwarded-host", "x-host", "x-original-host", "x-forwarded-server", "x-http-host-override")


def cases_by_host(hand: Hand) -> Iterator[Case]:
    """Pairs of host, path and key; none where the tenants have no host of their own."""
    if hand.own.host and hand.other.host:
        for sample in sample_targets():
            yield from _own(hand, sample)
            yield from _foreign(hand, sample)
            yield from _malformed(hand, sample)


def _shapes(host: str) -> Iterator[tuple[str, bytes]]:
    """Ways to write the same name."""
    name = host.encode()
    yield "", name
    yield ", in capitals", name.upper()
    yield ", with a port", name + b":443"
    yield ", with a trailing dot", name + b"."
    yield ", in capitals with port and dot", name.upper() + b".:8443"


def _own(hand: Hand, sample: Sample) -> Iterator[Case]:
    """What has to work: otherwise a gateway that refuses every host would pass."""
    if hand.careful and not sample.route.open_to_all:
        return
    expected, key, own = own_expected(hand, sample), key_line(hand.own.key), hand.own
    twin = "open" if sample.route.open_to_all else ""
    for words, host in _shapes(own.host):
        yield make_case(hand, WHO, f"own key, own host{words}", sample, [key], expected, twin, host=host)
    host = own.host.encode()
    yield make_case(hand, WHO, "own key, own host and path", sample, [key], expected, twin, own.slug, host)
    for name in _NOT_THE_HOST:
        lines = [key, f"{name}: {hand.other.host}".encode()]
        title = f"own key, own host and path, {name} of the other tenant"
        yield make_case(hand, WHO, title, sample, lines, expected, twin, own.slug, host)
    lines = [key, f"forwarded: host={hand.other.host}".encode()]
    title = "own key, own host and path, forwarded for that of the other tenant"
    yield make_case(hand, WHO, title, sample, lines, expected, twin, own.slug, host)


def _foreign(hand: Hand, sample: Sample) -> Iterator[Case]:
    """Host, path, header and key of which one is another tenant's: refused in the bytes of a foreign path."""
    expected, twin = (OPEN, "open") if sample.route.open_to_all else (FORBIDDEN, "foreign")
    own, other = hand.own, hand.other
    key, its_key, its_host = key_line(own.key), key_line(other.key), other.host.encode()
    named = f"x-tenant-id: {own.slug}".encode()

    def case(title: str, lines: list[bytes], host: bytes, slug: str | None = None) -> Case:
        return make_case(hand, WHO, title, sample, lines, expected, twin, slug, host)

    for words, host in _shapes(other.host):
        yield case(f"own key, host of the other tenant{words}", [key], host)
        yield case(f"own key, own path, host of the other tenant{words}", [key], host, own.slug)
    yield case("own key and x-tenant-id, host of the other tenant", [key, named], its_host)
    yield case("own key, own host, path of the other tenant", [key], own.host.encode(), other.slug)
    yield case("own key, own host, path of nobody", [key], own.host.encode(), hand.nobody.slug)
    foreign_name = f"x-tenant-id: {other.slug}".encode()
    yield case("own key, own host, x-tenant-id of the other tenant", [key, foreign_name], own.host.encode())
    yield case("key of the other tenant, own host", [its_key], own.host.encode())
    yield case("key of the other tenant, its path, own host", [its_key], own.host.encode(), other.slug)
    for name in _NOT_THE_HOST:
        lines = [key, f"{name}: {own.host}".encode()]
        yield case(f"own key, host of the other tenant, own {name}", lines, its_host)


def _malformed(hand: Hand, sample: Sample) -> Iterator[Case]:
    """RFC 9112 3.2: more than one Host, or one that is none, is 400."""
    own, key = hand.own.host.encode(), key_line(hand.own.key)
    expected: Expected = MALFORMED
    its = b"host: " + hand.other.host.encode()
    yield make_case(hand, WHO, "own host, then that of the other tenant", sample, [its, key], expected, host=own)
    for title, host in (
        ("two names in one", own + b", " + hand.other.host.encode()),
        ("a path behind it", own + b"/t/" + hand.other.slug.encode()),
        ("a user before it", hand.other.host.encode() + b"@" + own),
        ("a port that is none", own + b":x"),
        ("a blank within", own[:4] + b" " + own[4:]),
        ("an empty one", b""),
    ):
        yield make_case(hand, WHO, f"own key, host with {title}", sample, [key], expected, host=host)
