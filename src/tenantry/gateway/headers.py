"""Which header fields cross the gateway, each way (reference 2.1 to 2.3)."""

from __future__ import annotations

from typing import Final

from tenantry.domain.directory import Credential, Tenant
from tenantry.wire.http1 import RequestHead, connection_options

# Hop-by-hop fields (RFC 9110 7.6.1), fields that are recomputed, and everything that says who the client is.
_REQUEST_DROPPED: Final = frozenset(
    {
        b"host",
        b"content-length",
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
        b"cookie",
        b"authorization",
        b"x-api-key",
        b"api-key",  # another upstream's name for it (reference 8)
        b"x-tenant-id",
        b"accept-encoding",
        b"anthropic-organization-id",
        b"anthropic-workspace-id",
        b"anthropic-user-profile-id",
        b"forwarded",
        b"x-real-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"via",
    }
)
_FORWARDED_PREFIX: Final = b"x-forwarded-"

# The shared quota, the organization, and the upstream's infrastructure are not the tenant's business.
RESPONSE_DROPPED: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
        b"request-id",
        b"anthropic-organization-id",
        b"anthropic-workspace-id",
        b"set-cookie",
        b"via",
        b"server",
        b"x-robots-tag",
        b"strict-transport-security",
        b"alt-svc",
        b"x-envoy-upstream-service-time",
        b"x-amzn-requestid",
    }
)
RESPONSE_DROPPED_PREFIXES: Final = (b"anthropic-ratelimit-", b"anthropic-priority-", b"anthropic-fast-", b"cf-")


def upstream_head(
    head: RequestHead, path: bytes, host: bytes, tenant: Tenant, credential: Credential, version_default: bytes
) -> bytes:
    """The head that goes upstream, but for its end: the client's open list of headers under the tenant's credential."""
    hop = connection_options(head.fields)
    lines = [
        b"%b %b HTTP/1.1\r\nhost: %b\r\nx-api-key: %b\r\naccept-encoding: identity\r\n"
        % (head.method, path, host, credential.secret.encode())
    ]
    for name, value in head.headers:
        # A server behind CGI or WSGI takes `_` for `-` (RFC 3875 4.1.18), so that it would read ours and this as one.
        plain = name.replace(b"_", b"-")
        if plain not in _REQUEST_DROPPED and name not in hop and not plain.startswith(_FORWARDED_PREFIX):
            lines.append(b"%b: %b\r\n" % (name, value))
    if b"anthropic-version" not in head.fields:
        lines.append(b"anthropic-version: %b\r\n" % version_default)
    if credential.workspace_id is not None:
        lines.append(b"anthropic-workspace-id: %b\r\n" % credential.workspace_id.encode())
    if tenant.user_profile_id is not None:
        lines.append(b"anthropic-user-profile-id: %b\r\n" % tenant.user_profile_id.encode())
    return b"".join(lines)


def upstream_head_end(method: bytes, body_bytes: int) -> bytes:
    """What completes `upstream_head` for a body of this length."""
    return b"content-length: %d\r\n\r\n" % body_bytes if method == b"POST" else b"\r\n"


def is_for_client(name: bytes) -> bool:
    """Whether a tenant may see the upstream's response field of that name, in lower case."""
    return name not in RESPONSE_DROPPED and not name.startswith(RESPONSE_DROPPED_PREFIXES)
