"""Which header fields cross the gateway. The names stand here once more, so that none is lost from the tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tenantry.domain.directory import Credential, Tenant, TenantStatus, Upstream
from tenantry.domain.limits import Limits
from tenantry.gateway.headers import upstream_head, upstream_head_end
from tenantry.gateway.upstream.head import head_of
from tenantry.wire.http1 import parse_request_head

CREDENTIAL = Credential("crd_1", "acme", Upstream("ups_1", "first", "http://first"), "sandbox-acme")
TENANT = Tenant("tnt_acme", "acme", "Acme", TenantStatus.ACTIVE, "test", Limits(), CREDENTIAL)
# Reference 2.1 and 2.3: hop-by-hop, recomputed, and everything that says who the client is.
DROPPED = [
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "cookie",
    "authorization",
    "x-api-key",
    "api-key",
    "x-tenant-id",
    "accept-encoding",
    "anthropic-organization-id",
    "anthropic-workspace-id",
    "anthropic-user-profile-id",
    "forwarded",
    "x-real-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-user",
]
# Reference 2.2: the quota and the organization that tenants share, and infrastructure.
HIDDEN = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "request-id",
    "anthropic-organization-id",
    "anthropic-workspace-id",
    "set-cookie",
    "via",
    "server",
    "x-robots-tag",
    "strict-transport-security",
    "alt-svc",
    "x-envoy-upstream-service-time",
    "x-amzn-requestid",
    "cf-ray",
    "cf-cache-status",
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-unified-status",
    "anthropic-priority-input-tokens-remaining",
    "anthropic-fast-output-tokens-remaining",
]


def head_for(*lines: str, tenant: Tenant = TENANT, credential: Credential = CREDENTIAL) -> list[bytes]:
    """The lines of the head that goes upstream for a request with these."""
    told = "".join(f"{line}\r\n" for line in lines)
    head = parse_request_head(f"POST /v1/messages HTTP/1.1\r\nhost: gateway\r\n{told}\r\n".encode())
    sent = upstream_head(head, b"/v1/messages", b"first", tenant, credential, b"2023-06-01")
    return sent.removesuffix(b"\r\n").split(b"\r\n")


def test_a_request_leaves_under_its_tenants_credential_and_nothing_else() -> None:
    framing = ("content-length: 3",), ("transfer-encoding: chunked",)
    for lines in framing:
        assert head_for("x-api-key: sk-proxy-acme-A", *lines, "expect: 100-continue", "upgrade: h2c") == [
            b"POST /v1/messages HTTP/1.1",
            b"host: first",
            b"x-api-key: sandbox-acme",
            b"accept-encoding: identity",
            b"anthropic-version: 2023-06-01",
        ]


@pytest.mark.parametrize("name", DROPPED)
@pytest.mark.parametrize("write", [str, str.upper, lambda name: name.replace("-", "_")], ids=["plain", "upper", "cgi"])
def test_what_says_who_the_client_is_stays_here(name: str, write: type[str]) -> None:
    assert not any(b"canary" in line for line in head_for(f"{write(name)}: canary"))


def test_what_the_client_declares_for_this_hop_stays_here_and_ours_does_not() -> None:
    tenant = replace(TENANT, user_profile_id="uprof_acme")
    lines = head_for("connection: close, X-Mine, anthropic-user-profile-id, x-api-key", "x-mine: canary", tenant=tenant)
    assert b"x-api-key: sandbox-acme" in lines
    assert b"anthropic-user-profile-id: uprof_acme" in lines
    assert not any(b"canary" in line or line.startswith(b"connection") for line in lines)


def test_what_the_api_its_sdks_and_claude_code_send_passes_as_it_came() -> None:
    wanted = [
        b"anthropic-version: 2026-10-21",
        b"anthropic-beta: a-1,b-2",
        b"user-agent: me/1",
        b"content-type: application/json",
        b"accept: application/json",
        b"x-stainless-timeout: NOT_GIVEN",
        b"x-stainless-helper-method: stream",
        b"x-app: cli",
        b"x-claude-code-session-id: 2af556a1",
        b"x-claude-code-managed-settings-checksum: 1",
        b"x-claude-1p-request-class: main",
        b"anthropic-dangerous-direct-browser-access: true",
        b"traceparent: 00-1-2-01",
    ]
    lines = head_for(*(line.decode() for line in wanted), "anthropic-beta: c-3")
    assert lines[4:] == [*wanted, b"anthropic-beta: c-3"]


# What an upstream has no use for, or what says who somebody is in words of another house.
@pytest.mark.parametrize(
    "name",
    [
        "x-project",
        "x_api_key",
        "x-goog-api-key",
        "anthropic-account-id",
        "x-stainless-api-key",
        "x_stainless_organization",
        "x-claude-code-user-email",
        "x-claude-code-hostname",
        "x-claude-code-device-id",
        "x-stainless-apikey",
        "x-stainless-userid",
        "x-stainless-mail",
        "x-claude-code-workspace-id",
        "openai-organization",
        "x-client-ip",
        "x-original-forwarded-for",
        "origin",
        "referer",
        "x-amz-security-token",
        "baggage",
    ],
)
@pytest.mark.parametrize("write", [str, str.upper, lambda name: name.replace("-", "_")], ids=["plain", "upper", "cgi"])
def test_what_nobody_has_declared_harmless_stays_here(name: str, write: type[str]) -> None:
    assert not any(b"canary" in line for line in head_for(f"{write(name)}: canary"))


@pytest.mark.parametrize(
    "value", ["sk-proxy-globex-A", "me/1 (sk-proxy-globex-A)", "secret-of-acme", "x secret-of-acme y"]
)
@pytest.mark.parametrize("field", ["x-api-key: secret-of-acme", "authorization: Bearer secret-of-acme"])
def test_a_gateway_key_leaves_in_no_field(value: str, field: str) -> None:
    for name in ("user-agent", "anthropic-beta", "x-app", "x-claude-code-session-id"):
        assert not any(b"sk-proxy" in line or b"secret-of" in line for line in head_for(field, f"{name}: {value}"))


def test_under_a_credential_of_several_tenants_no_request_can_be_taken_for_anothers() -> None:
    """Upstream, an idempotency key is one of the credential's: what it has answered may be another tenant's."""
    for name in ("idempotency-key", "idempotency_key"):
        head = parse_request_head(f"POST /v1/messages HTTP/1.1\r\nhost: h\r\n{name}: order-17\r\n\r\n".encode())
        for credential, passes in ((CREDENTIAL, True), (replace(CREDENTIAL, is_shared=True), False)):
            sent = upstream_head(head, b"/v1/messages", b"h", TENANT, credential, b"2023-06-01")
            assert (b"order-17" in sent) is passes, name


def test_workspace_and_profile_are_those_of_the_credential_and_the_tenant() -> None:
    credential, tenant = replace(CREDENTIAL, workspace_id="wrkspc_acme"), replace(TENANT, user_profile_id="uprof_acme")
    lines = head_for(
        "anthropic-workspace-id: wrkspc_globex",
        "anthropic_workspace_id: wrkspc_globex",
        "anthropic-user-profile-id: uprof_globex",
        tenant=tenant,
        credential=credential,
    )
    assert lines[4:] == [
        b"anthropic-version: 2023-06-01",
        b"anthropic-workspace-id: wrkspc_acme",
        b"anthropic-user-profile-id: uprof_acme",
    ]


def test_the_length_is_that_of_the_body_that_is_sent() -> None:
    assert upstream_head_end(b"POST", 12) == b"content-length: 12\r\n\r\n"
    assert upstream_head_end(b"GET", 0) == b"\r\n"


@pytest.mark.parametrize("name", HIDDEN)
def test_what_an_upstream_says_of_its_customer_and_of_itself_is_not_the_tenants(name: str) -> None:
    head = head_of(200, [(name.encode(), b"canary"), (b"content-type", b"x")])
    assert head.lines_for_client() == b"content-type: x\r\n"


@pytest.mark.parametrize("name", ["content-type", "retry-after", "x-should-retry", "content-encoding", "x-new", "date"])
def test_what_an_answer_says_to_its_client_passes(name: str) -> None:
    assert head_of(200, [(name.encode(), b"x")]).lines_for_client() == b"%b: x\r\n" % name.encode()
