"""Who is asking: the authentication table of DESIGN 4.3, whole.

Fails closed: every path out of `authenticate` that is not a `Principal` is an error answer. Keys are compared by their
HMAC digest, so the comparison tells nothing about the text of any key. No text of a key is logged or echoed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tenantry.domain.directory import GatewayKey, KeyStatus, Snapshot, Tenant, TenantStatus
from tenantry.domain.errors import (
    ApiError,
    AuthenticationFailed,
    ConflictingKeys,
    ForeignTenant,
    KeyNotActive,
    MissingKey,
    MissingTenant,
    TenantDisabled,
    UpstreamKeyPresented,
)
from tenantry.domain.keys import digest_key

# Anthropic keys and consumer logins all begin so (reference 2.4, 10.2).
_UPSTREAM_KEY_PREFIX: Final = b"sk-ant-"
# Far above the longest gateway key; bounds what is hashed for an unknown caller.
_KEY_BYTES_MAX: Final = 512


@dataclass(init=False, slots=True)
class Principal:
    """Who is calling."""

    tenant: Final[Tenant]
    key: Final[GatewayKey]

    def __init__(self, tenant: Tenant, key: GatewayKey) -> None:
        self.tenant = tenant
        self.key = key


def authenticate(
    fields: dict[bytes, bytes],
    slug: bytes | None,
    snapshot: Snapshot,
    pepper: bytes,
    require_tenant_id: bool,
    at_us: int,
    host_slug: bytes | None = None,
) -> Principal:
    """The tenant and key of a request whose header fields are `fields` and whose path names `slug` (or None).

    Whatever a request names has to be its key's: the tenant, and the slot where one is named (`acme.writer`). A key of
    the whole tenant is no slot's.

    `at_us` is now, in unix microseconds; `host_slug` is whom the `Host` names (`domain.hosts`), or None.

    Raises:
        ApiError: one of the refusals of DESIGN 4.3.
    """
    presented = _presented_key(fields)
    key = snapshot.keys.get(digest_key(pepper, presented))
    if key is None:
        raise AuthenticationFailed
    tenant = snapshot.tenants[key.tenant_id]
    if key.status is not KeyStatus.ACTIVE or _is_expired(key, at_us):
        raise _of(tenant, KeyNotActive())
    if tenant.status is not TenantStatus.ACTIVE:
        raise _of(tenant, TenantDisabled())
    named = fields.get(b"x-tenant-id")
    own = tenant.slug.encode()
    endpoint = own + b"." + key.slot.encode() if key.slot else own
    if (slug is not None and slug not in (own, endpoint)) or (host_slug is not None and host_slug != own):
        raise ForeignTenant
    if named is not None and named not in (own, endpoint, tenant.tenant_id.encode()):
        raise ForeignTenant
    if require_tenant_id and slug is None and named is None and host_slug is None:
        raise MissingTenant
    return Principal(tenant, key)


def _of(tenant: Tenant, error: ApiError) -> ApiError:
    error.tenant_id = tenant.tenant_id
    return error


def _presented_key(fields: dict[bytes, bytes]) -> bytes:
    header_key = fields.get(b"x-api-key")
    authorization = fields.get(b"authorization")
    bearer: bytes | None = None
    if authorization is not None:
        scheme, _, value = authorization.partition(b" ")
        bearer = value.strip()
        if scheme.lower() != b"bearer":
            raise MissingKey
    presented = header_key or bearer
    if not presented:
        raise MissingKey
    for candidate in (header_key, bearer):
        if candidate is not None and candidate.startswith(_UPSTREAM_KEY_PREFIX):
            raise UpstreamKeyPresented
    if header_key is not None and bearer is not None and header_key != bearer:
        raise ConflictingKeys
    if len(presented) > _KEY_BYTES_MAX:
        raise AuthenticationFailed
    return presented


def _is_expired(key: GatewayKey, at_us: int) -> bool:
    return key.expires_at is not None and key.expires_at <= datetime.fromtimestamp(at_us / 1_000_000, UTC)
