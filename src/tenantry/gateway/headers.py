"""Which header fields cross the gateway, each way (reference 2.1 to 2.3)."""

from __future__ import annotations

from typing import Final

from tenantry.domain.directory import Credential, Tenant
from tenantry.domain.keys import KEY_PREFIX
from tenantry.wire.http1 import RequestHead, connection_options

# Between gateways of a site: whose request one passes on, and that the other one does not grant for it. They are read
# of a gateway alone, and a client's own, or an upstream's, goes nowhere.
PEER_CLIENT: Final = b"x-tenantry-client"
PEER_REFUSED: Final = b"x-tenantry-hop"
PEER_REFUSED_LINE: Final = PEER_REFUSED + b": elsewhere\r\n"
# A question, ahead of a body of so many bytes (0: not known): would it be refused whatever it says?
PEER_AHEAD: Final = b"x-tenantry-ahead"
# What is of the connection to a client, and is made anew for that to another gateway.
_NOT_FOR_PEER: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"content-length",
        b"expect",
        b"te",
        b"trailer",
        b"upgrade",
        PEER_CLIENT,
        PEER_REFUSED,
        PEER_AHEAD,
    }
)
_OF_CONNECTIONS: Final = frozenset({b"close", b"keep-alive", b""})

# What may pass towards an upstream (reference 2.1): content, the API's own switches, the client's software, tracing.
# Everything else stays here: it is of this hop, is made anew, says who the client is, or was never meant for upstream.
_REQUEST_PASSED: Final = frozenset(
    {
        b"accept",
        b"anthropic-beta",
        b"anthropic-dangerous-direct-browser-access",
        b"anthropic-version",
        b"content-type",
        b"idempotency-key",
        b"traceparent",
        b"tracestate",
        b"user-agent",
        b"x-app",
    }
)
# Upstream knows of no tenants: under a credential of several, one's word could bring another's answer.
_OF_THE_CREDENTIAL: Final = b"idempotency-key"
# What SDKs and Claude Code tell of themselves, of which each release has more; what a sandbox is asked to play.
_REQUEST_PASSED_PREFIXES: Final = (b"x-stainless-", b"x-claude-code-", b"x-claude-1p-", b"x-sandbox-")
# Words of a name that passes by its prefix which say that it is about somebody, or opens something.
_NEVER_PASSED_WORDS: Final = frozenset(
    b"account address api apikey auth authorization bearer client cookie device email forwarded host hostname identity"
    b" ip key mail organization org password profile secret tenant token user userid username workspace".split()
)
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
        PEER_REFUSED,
    }
)
RESPONSE_DROPPED_PREFIXES: Final = (b"anthropic-ratelimit-", b"anthropic-priority-", b"anthropic-fast-", b"cf-")


def upstream_head(
    head: RequestHead, path: bytes, host: bytes, tenant: Tenant, credential: Credential, version_default: bytes
) -> bytes:
    """The head that goes upstream, but for its end: what of the client's may pass, under the tenant's credential."""
    hop, keys = connection_options(head.headers), _keys_in(head.fields)
    lines = [
        b"%b %b HTTP/1.1\r\nhost: %b\r\nx-api-key: %b\r\naccept-encoding: identity\r\n"
        % (head.method, path, host, credential.secret.encode())
    ]
    for name, value in head.headers:
        if credential.is_shared and name.replace(b"_", b"-") == _OF_THE_CREDENTIAL:
            continue
        if name not in hop and _may_pass(name) and not any(key in value for key in keys):
            lines.append(b"%b: %b\r\n" % (name, value))
    if b"anthropic-version" not in head.fields:
        lines.append(b"anthropic-version: %b\r\n" % version_default)
    if credential.workspace_id is not None:
        lines.append(b"anthropic-workspace-id: %b\r\n" % credential.workspace_id.encode())
    if tenant.user_profile_id is not None:
        lines.append(b"anthropic-user-profile-id: %b\r\n" % tenant.user_profile_id.encode())
    return b"".join(lines)


def _may_pass(name: bytes) -> bool:
    """Whether a client's field of that name, in lower case, goes upstream."""
    # A server behind CGI or WSGI takes `_` for `-` (RFC 3875 4.1.18): a name counts as what it could be read as.
    plain = name.replace(b"_", b"-")
    return plain in _REQUEST_PASSED or (
        plain.startswith(_REQUEST_PASSED_PREFIXES) and _NEVER_PASSED_WORDS.isdisjoint(plain.split(b"-"))
    )


def _keys_in(fields: dict[bytes, bytes]) -> list[bytes]:
    """What no value may hold that leaves the house: how gateway keys begin, and the keys of this request."""
    keys = [KEY_PREFIX.encode(), fields.get(b"x-api-key", b""), fields.get(b"authorization", b"").rpartition(b" ")[2]]
    return [key for key in keys if key]


def peer_head(head: RequestHead, peer: str) -> bytes:
    """The head for the gateway that grants, but for its end: as it came from the client at the address `peer`."""
    lines = [b"%b %b HTTP/1.1\r\n%b: %b\r\n" % (head.method, head.target, PEER_CLIENT, peer.encode() or b"unknown")]
    for name, value in head.headers:
        if name not in _NOT_FOR_PEER:
            lines.append(b"%b: %b\r\n" % (name, value))
    options = connection_options(head.headers) - _OF_CONNECTIONS
    if options:
        lines.append(b"connection: %b\r\n" % b", ".join(sorted(options)))  # which fields go no further than that
    return b"".join(lines)


def peer_head_end(head: RequestHead, body_bytes: int) -> bytes:
    """What completes `peer_head` for a body of this length."""
    has_body = head.chunked or b"content-length" in head.fields
    return b"content-length: %d\r\n\r\n" % body_bytes if has_body else b"\r\n"


def peer_question_end(body_bytes: int) -> bytes:
    """What completes `peer_head` for a question ahead of a body of this length."""
    return b"%b: %d\r\ncontent-length: 0\r\n\r\n" % (PEER_AHEAD, body_bytes)


def upstream_head_end(method: bytes, body_bytes: int) -> bytes:
    """What completes `upstream_head` for a body of this length."""
    return b"content-length: %d\r\n\r\n" % body_bytes if method == b"POST" else b"\r\n"


def is_for_client(name: bytes) -> bool:
    """Whether a tenant may see the upstream's response field of that name, in lower case."""
    return name not in RESPONSE_DROPPED and not name.startswith(RESPONSE_DROPPED_PREFIXES)
