"""What a request's head alone decides: the route, who is calling, who pays, most of the head that goes upstream.

A connection keeps the caller of its last head. A client repeats its head with every request, so this work is done once
for a connection, and again whenever the directory changes: what is kept belongs to one snapshot and to exactly these
bytes. Nothing is kept across connections.
"""

from __future__ import annotations

from tenantry.domain.asks import Way
from tenantry.domain.directory import Credential, Snapshot
from tenantry.domain.holds import Account
from tenantry.domain.numerals import small_number
from tenantry.domain.policies import has_policies
from tenantry.gateway.authentication import Principal, authenticate
from tenantry.gateway.headers import (
    PEER_AHEAD,
    peer_head,
    peer_head_end,
    peer_question_end,
    upstream_head,
    upstream_head_end,
)
from tenantry.gateway.parts import Parts
from tenantry.gateway.tallies import AGENT_BYTES_MAX
from tenantry.gateway.telling import BudgetLines
from tenantry.gateway.upstream import Pool
from tenantry.ledger.templates import begin_template
from tenantry.wire.http1 import KnownHead, RequestHead
from tenantry.wire.routes import Kind, Target, find_target
from tenantry.wire.trace_context import read_traceparent


class Caller:
    """One head: `target` is its route, `known` recognises it when it comes again.

    `retries`: how often the client's SDK says that it has tried this request before. `way`: the lanes of the last
    request; the lanes know whether they still hold. `is_inspected`: the route has a body that the gateway reads;
    `is_metered`: what it asks for costs money. `is_plain`: it has a body of told length, and asks for no
    go-ahead. `is_encoded`: its body is compressed, say. `has_policies`: of tenant or key, beside lanes and
    budgets; `has_budget`: one of them has caps, or a plan that has. `shares_credential`: some credential of its tenant
    is other tenants' too. `traceparent`: the client's, where traces are made and it has one.
    """

    __slots__ = (
        "_accounts",
        "_begin_template",
        "_begun",
        "_credential",
        "_host_slug",
        "_hosts",
        "_peer",
        "_peer_head",
        "_pool",
        "_principal",
        "_snapshot",
        "_upstream_head",
        "agent",
        "budget_lines",
        "has_budget",
        "has_policies",
        "head",
        "is_encoded",
        "is_inspected",
        "is_metered",
        "is_plain",
        "known",
        "retries",
        "shares_credential",
        "target",
        "traceparent",
        "way",
    )

    def __init__(self, raw: bytes, head: RequestHead) -> None:
        """Raises: NotFound."""
        self.head = head
        self.target: Target = find_target(head.method, head.target)
        self.known = KnownHead(raw, head)
        self.agent = head.fields.get(b"user-agent", b"")[:AGENT_BYTES_MAX]
        tried = head.fields.get(b"x-stainless-retry-count")
        self.retries = (small_number(tried) or 0) if tried is not None else 0
        self._snapshot: Snapshot | None = None
        self._hosts: dict[bytes, bytes] | None = None
        self._host_slug: bytes | None = None
        self._principal: Principal | None = None
        self._accounts: tuple[Account, Account] | None = None
        self._credential: Credential | None = None
        self._pool: Pool | None = None
        self._upstream_head = b""
        self._peer = ""
        self._peer_head = b""
        self.way: Way | None = None
        self.budget_lines = BudgetLines()
        self._begun: tuple[Credential, str, bool] | None = None
        self._begin_template = b""
        kind = self.target.route.kind
        self.is_metered = kind is Kind.MESSAGES
        self.is_inspected = self.is_metered or kind is Kind.COUNT_TOKENS
        self.is_encoded = head.fields.get(b"content-encoding", b"identity").lower() != b"identity"
        told = head.fields
        self.is_plain = (
            self.is_inspected and b"expect" not in told and PEER_AHEAD not in told and head.content_length is not None
        )
        self.has_policies = self.has_budget = self.shares_credential = True
        self.traceparent: str | None = None

    def principal(self, parts: Parts) -> Principal:
        """Who is calling, by the directory as it is now.

        Raises:
            ApiError: the caller is refused.
        """
        known, snapshot = self._principal, parts.latest.snapshot
        if known is not None and known.key.expires_at is None:
            if self._snapshot is snapshot:
                return known
            # What a change does not touch is the same object in both snapshots, with all its parts.
            key = snapshot.keys.get(known.key.digest)
            is_same = key is known.key and snapshot.tenants.get(known.key.tenant_id) is known.tenant
            if is_same and self._hosts is snapshot.hosts:
                self._snapshot = snapshot
                return known
        settings = parts.settings
        principal = authenticate(
            self.head.fields,
            self.target.slug,
            snapshot,
            parts.pepper,
            settings.require_tenant_id,
            parts.clock.wall_us(),
            self._named_by_host(parts, snapshot),
        )
        self._snapshot, self._principal = snapshot, principal
        self._accounts = self._credential = self._begun = self.way = None
        self.budget_lines = BudgetLines()
        tenant, key = principal.tenant, principal.key
        self.shares_credential = any(one is not None and one.is_shared for one in (tenant.credential, tenant.fallback))
        self.has_policies = has_policies(tenant.limits) or (key.limits is not None and has_policies(key.limits))
        self.has_budget = bool(tenant.budget.caps or key.budget.caps) or tenant.allowance is not None
        if settings.keeps_traceparents:
            self.traceparent = read_traceparent(self.head.fields.get(b"traceparent", b""))
        return principal

    def _named_by_host(self, parts: Parts, snapshot: Snapshot) -> bytes | None:
        """The slug of the tenant that the `Host` names, by the directory as it is now."""
        if self._hosts is not snapshot.hosts:
            self._hosts = snapshot.hosts
            rule = parts.host_rule
            if rule.is_set or snapshot.hosts:
                self._host_slug = rule.slug_of(self.head.fields[b"host"], snapshot.hosts)
            else:
                self._host_slug = None
        return self._host_slug

    def accounts(self, parts: Parts, principal: Principal) -> tuple[Account, Account]:
        """The accounts that pay: the tenant's and the key's."""
        accounts = self._accounts
        if accounts is None:
            accounts = self._accounts = parts.till.accounts_of(principal.tenant, principal.key)
        return accounts

    def way_up(self, parts: Parts, principal: Principal, credential: Credential, size: int) -> tuple[Pool, bytes]:
        """Where to send the request under `credential`, and its head for a body of `size` bytes."""
        pool = self._pool
        if pool is None or self._credential is not credential:
            tenant_id = principal.tenant.tenant_id
            pool = self._pool = parts.pools.of(credential.upstream, credential.credential_id, tenant_id)
            path = pool.path_prefix + self.target.path + self.target.query
            self._upstream_head = upstream_head(
                self.head, path, pool.host, principal.tenant, credential, parts.version_default
            )
            self._credential = credential
        return pool, self._upstream_head + upstream_head_end(self.head.method, size)

    def head_for_peer(self, peer: str, size: int) -> bytes:
        """The head for another gateway, of a client at that address, for a body of `size` bytes."""
        return self._start_for_peer(peer) + peer_head_end(self.head, size)

    def question_for_peer(self, peer: str, size: int) -> bytes:
        """The head that asks another gateway whether it would refuse such a request before its body has come."""
        return self._start_for_peer(peer) + peer_question_end(size)

    def _start_for_peer(self, peer: str) -> bytes:
        if not self._peer_head or self._peer != peer:
            self._peer, self._peer_head = peer, peer_head(self.head, peer)
        return self._peer_head

    def begin_template(self, principal: Principal, credential: Credential, model: str, streaming: bool) -> bytes:
        """The journal's line for the beginning of an attempt, but for what differs (`ledger.templates`)."""
        known = self._begun
        if known is None or known[0] is not credential or known[1] != model or known[2] is not streaming:
            self._begun = (credential, model, streaming)
            self._begin_template = begin_template(
                principal.tenant.tenant_id,
                principal.key.key_id,
                credential.credential_id,
                credential.upstream.upstream_id,
                model,
                streaming,
            )
        return self._begin_template

    def way_to_count(self, parts: Parts, principal: Principal, credential: Credential) -> tuple[Pool, bytes]:
        """Where to ask how many tokens the message has, and the head of that question, but for its end."""
        pool = parts.pools.of(credential.upstream, credential.credential_id, principal.tenant.tenant_id)
        path = pool.path_prefix + b"/v1/messages/count_tokens" + self.target.query
        return pool, upstream_head(self.head, path, pool.host, principal.tenant, credential, parts.version_default)
