"""Who may use the gateway, and with what: the values that a gateway holds in memory.

A `Snapshot` is everything the data plane needs to decide on a request, read from the store in one transaction.
It is replaced when the directory changes and never edited; what did not change is the same object in the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from tenantry.domain.budgets import Budget
from tenantry.domain.limits import Limits


class TenantStatus(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"


class Disconnect(StrEnum):
    """What becomes of an answer when its client has gone: read on for the bill, or broken off."""

    DRAIN = "drain"
    CANCEL = "cancel"


class KeyStatus(StrEnum):
    ACTIVE = "active"
    REVOKED = "revoked"


# Of limits.
NO_NAMES: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Tier:
    """A named set of limits."""

    name: str
    limits: Limits


# Of a tenant or key that has no budget.
NO_BUDGET: Final = Budget((), "hard")

# What an upstream can take when nothing is configured: whatever it says itself.
UNLIMITED: Final = Limits(sessions_max=1_000_000, requests_per_minute=None, request_burst=1_000_000)


@dataclass(frozen=True, slots=True)
class Upstream:
    """A Messages API the gateway forwards to.

    `base_url` has scheme and authority and may have a path prefix, never a trailing slash. `ca_file` is a PEM bundle
    that replaces the system's store; None means the system's store. `capacity` is what it can take: each credential,
    or all of them together when `shares_capacity`.
    """

    upstream_id: str
    name: str
    base_url: str
    ca_file: str | None = None
    connect_seconds: float = 5.0
    answer_seconds: float = 600.0
    capacity: Limits = UNLIMITED
    shares_capacity: bool = False


@dataclass(frozen=True, slots=True)
class Credential:
    """A decrypted upstream key. The secret is in memory only and never in a repr.

    `workspace_id` is sent as `anthropic-workspace-id` when set (reference 2.1). `is_shared`: other tenants may go out
    under it, so that an id of something upstream may be theirs. `checked_at`: when a check by hand last found it to
    work; what was known of it before says nothing any more.
    """

    credential_id: str
    name: str
    upstream: Upstream
    secret: str = field(repr=False)
    workspace_id: str | None = None
    is_shared: bool = False
    checked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """A client of the agency. `limits` are its tier's with its own changes, those of `own_limits`; `tier` is a name.

    `fallback` is the credential to try when the first cannot serve. `user_profile_id` is sent as
    `anthropic-user-profile-id` when set (reference 10.3). `hosts` are the client's own names (`domain/hosts.py`).
    """

    tenant_id: str
    slug: str
    name: str
    status: TenantStatus
    tier: str
    limits: Limits
    credential: Credential | None
    fallback: Credential | None = None
    user_profile_id: str | None = None
    disconnect: Disconnect = Disconnect.DRAIN
    budget: Budget = NO_BUDGET
    hosts: tuple[str, ...] = ()
    own_limits: frozenset[str] = NO_NAMES


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """A gateway key as the data plane knows it: by digest, never by its text.

    `limits`: its tenant's with those of `own_limits`; None where it has none of its own.

    `budget` is on top of its tenant's: both hold at once.
    """

    key_id: str
    tenant_id: str
    digest: bytes
    status: KeyStatus
    expires_at: datetime | None = None
    limits: Limits | None = None
    budget: Budget = NO_BUDGET
    own_limits: frozenset[str] = NO_NAMES


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The directory at one version: `keys` by HMAC digest, `tenants` by internal id, slugs by the clients' own `hosts`.

    Where no host has changed, `hosts` is the same object in the next snapshot.
    """

    version: int
    keys: dict[bytes, GatewayKey]
    tenants: dict[str, Tenant]
    hosts: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])


@dataclass(frozen=True, slots=True)
class Change:
    """A snapshot that follows another: the internal ids of the tenants and the digests of the keys that differ.

    Those that are gone or new are among them; None means that everything may differ. A tenant's own change does not
    put its keys into `keys`. Whatever is in neither is the same object in both snapshots, and so are its parts.
    """

    snapshot: Snapshot
    tenants: frozenset[str] | None
    keys: frozenset[bytes] | None

    def parts(self, most: int) -> Iterator[Change]:
        """The same change in steps, each of at most so many tenants and as many keys; at least one."""
        tenants = list(self.snapshot.tenants if self.tenants is None else self.tenants)
        keys = list(self.snapshot.keys if self.keys is None else self.keys)
        for first in range(0, max(len(tenants), len(keys), 1), most):
            step = slice(first, first + most)
            yield Change(self.snapshot, frozenset(tenants[step]), frozenset(keys[step]))
