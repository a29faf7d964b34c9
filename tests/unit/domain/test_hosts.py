"""Which host names a tenant has, and what else a Host may say."""

from __future__ import annotations

import pytest

from tenantry.domain.hosts import HOST_CHARS_MAX, BadHost, HostRule, check_host, plain_host

RULE = HostRule("claude.agency.example", "claude.agency.example")
OWN = {b"ai.client.example": b"acme"}


@pytest.mark.parametrize(
    ("field", "slug"),
    [
        (b"acme.claude.agency.example", b"acme"),
        (b"ACME.Claude.Agency.Example:443", b"acme"),
        (b"acme.claude.agency.example.:8443", b"acme"),
        (b"nobody-1.claude.agency.example", b"nobody-1"),
        (b"ai.client.example", b"acme"),
        (b"AI.CLIENT.EXAMPLE.", b"acme"),
        (b"claude.agency.example", None),
        (b"acme.claude.agency.example..", None),
        (b"www.acme.claude.agency.example", None),
        (b".claude.agency.example", None),
        (b"-.claude.agency.example", None),
        (b"a_b.claude.agency.example", None),
        (b"acme.claude.agency.example.evil.example", None),
        (b"acmeclaude.agency.example", None),
        (b"a" * 64 + b".claude.agency.example", None),
        (b"ai.client.example.evil.example", None),
        (b"127.0.0.1:3000", None),
        (b"[::1]:3000", None),
        (b"acm%65.claude.agency.example", None),
    ],
)
def test_a_host_names_a_tenant_or_nobody(field: bytes, slug: bytes | None) -> None:
    assert RULE.slug_of(field, OWN) == slug


def test_the_name_of_the_site_itself_is_no_tenants_even_below_the_domain() -> None:
    rule = HostRule("agency.example", "claude.agency.example")
    assert rule.slug_of(b"claude.agency.example", {}) is None
    assert rule.slug_of(b"acme.agency.example", {}) == b"acme"


def test_without_a_domain_only_clients_own_names_decide() -> None:
    rule = HostRule("", "127.0.0.1")
    assert rule.slug_of(b"acme.claude.agency.example", OWN) is None
    assert rule.slug_of(b".", OWN) is None
    assert rule.slug_of(b"ai.client.example:1", OWN) == b"acme"


def test_the_domain_decides_before_a_clients_own_name_does() -> None:
    assert RULE.slug_of(b"beta.claude.agency.example", {b"beta.claude.agency.example": b"acme"}) == b"beta"


@pytest.mark.parametrize(
    "name",
    ["ai.client.example", "a.b", "xn--bcher-kva.example", "1.2.3.example", f"{'a' * 63}.example", "a." * 125 + "bcd"],
)
def test_names_that_can_be_a_clients_own(name: str) -> None:
    assert len(name) <= HOST_CHARS_MAX
    assert check_host(name) == name
    assert plain_host(name.upper().encode() + b".:443") == name.encode()


@pytest.mark.parametrize(
    "name",
    [
        "", "localhost", "AI.client.example", "ai.client.example.", "ai.client.example:443", "*.client.example",
        "https://ai.client.example", "ai..example", "-ai.example", "ai-.example", "a_b.example", "127.0.0.1",
        "[::1]", f"{'a' * 64}.example", "a." * 126 + "bc", "ai.client.example/x", "bücher.example", "ai.client.123",
        "ai.client.example\n",
    ],
)  # fmt: skip
def test_names_that_cannot(name: str) -> None:
    with pytest.raises(BadHost):
        check_host(name)
