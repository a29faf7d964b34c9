"""What a request's head alone decides: the route, the caller, and most of the head that goes upstream.

A connection keeps the call of its last head. A client repeats its head with every request, so this work is done once
for a connection, and again whenever the directory changes: what is kept belongs to one snapshot and to exactly these
bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenantry.domain.directory import Credential, Snapshot
from tenantry.gateway.authentication import Principal, authenticate
from tenantry.gateway.headers import upstream_head, upstream_head_end
from tenantry.wire.http1 import KnownHead, RequestHead
from tenantry.wire.routes import Target, find_target

if TYPE_CHECKING:
    from tenantry.gateway.server import Gateway
    from tenantry.gateway.upstream import Pool


class Call:
    """One head: `target` is its route, `known` recognises it when it comes again."""

    __slots__ = ("_credential", "_pool", "_principal", "_snapshot", "_upstream_head", "head", "known", "target")

    def __init__(self, raw: bytes, head: RequestHead) -> None:
        """Raises: NotFound."""
        self.head = head
        self.target: Target = find_target(head.method, head.target)
        self.known = KnownHead(raw, head)
        self._snapshot: Snapshot | None = None
        self._principal: Principal | None = None
        self._credential: Credential | None = None
        self._pool: Pool | None = None
        self._upstream_head = b""

    def principal(self, gateway: Gateway) -> Principal:
        """Who is calling, by the directory as it is now.

        Raises:
            ApiError: the caller is refused.
        """
        known = self._principal
        if known is not None and self._snapshot is gateway.snapshot and known.key.expires_at is None:
            return known
        snapshot = gateway.snapshot
        principal = authenticate(
            self.head.fields, self.target.slug, snapshot, gateway.pepper, gateway.settings.require_tenant_id
        )
        self._snapshot, self._principal, self._credential = snapshot, principal, None
        return principal

    def way_up(self, gateway: Gateway, caller: Principal, credential: Credential, size: int) -> tuple[Pool, bytes]:
        """Where to send the request under `credential`, and its head for a body of `size` bytes."""
        pool = self._pool
        if pool is None or self._credential is not credential:
            pool = self._pool = gateway.pools.of(credential.upstream, credential.credential_id)
            path = pool.path_prefix + self.target.path + self.target.query
            self._upstream_head = upstream_head(
                self.head, path, pool.host, caller.tenant, credential, gateway.version_default
            )
            self._credential = credential
        return pool, self._upstream_head + upstream_head_end(self.head.method, size)

    def way_to_count(self, gateway: Gateway, caller: Principal, credential: Credential) -> tuple[Pool, bytes]:
        """Where to ask how many tokens the message has, and the head of that question, but for its end."""
        pool = gateway.pools.of(credential.upstream, credential.credential_id)
        path = pool.path_prefix + b"/v1/messages/count_tokens" + self.target.query
        return pool, upstream_head(self.head, path, pool.host, caller.tenant, credential, gateway.version_default)
