"""What a tenant's policies make of a request: refused, passed as it is, or with one value edited (DESIGN 4.4)."""

from __future__ import annotations

import logging
import time

from tenantry.domain.attempts import RUNAWAY_LOOP
from tenantry.domain.directory import GatewayKey, Tenant
from tenantry.domain.errors import ApiError
from tenantry.domain.estimates import Histories
from tenantry.domain.policies import CapTokens, check_policies
from tenantry.domain.prompt_budget import PolicyBlocked, Repeats, ToolLoops, Warn, check_context
from tenantry.gateway.tallies import Tallies
from tenantry.wire.edits import add_system_cache_control, cap_max_tokens, system_fingerprint
from tenantry.wire.inspect import MessageFields
from tenantry.wire.session_ids import find_session_id

log = logging.getLogger("tenantry.gateway")


class Policies:
    """The policies' memory of this process: prefixes that repeat, tool loops."""

    def __init__(self) -> None:
        self._repeats = Repeats()
        self._loops = ToolLoops()

    def apply(
        self,
        tenant: Tenant,
        key: GatewayKey,
        histories: Histories,
        tallies: Tallies,
        headers: dict[bytes, bytes],
        fields: MessageFields,
        body: bytes,
        at_us: int,
    ) -> tuple[bytes, str]:
        limits, own = tenant.limits, key.limits
        found = check_policies(limits, fields, own)
        if isinstance(found, ApiError):
            raise found
        if isinstance(found, CapTokens):
            body = cap_max_tokens(body, found.max_tokens)
            fields.max_tokens = found.max_tokens
        warning = ""
        if limits.context_tokens_max is not None or limits.context_tokens_warn is not None or own is not None:
            history = histories.of(tenant.tenant_id, fields.model)
            verdict = check_context(limits, own, history.input_tokens(len(body)))
            if isinstance(verdict, PolicyBlocked):
                raise verdict
            warning = verdict.message if isinstance(verdict, Warn) else ""
        if limits.tool_depth_alert is not None:
            session_id = find_session_id(headers.get(b"x-claude-code-session-id"), body)
            loop = self._loops.seen(tenant.tenant_id, session_id, fields, tenant.limits.tool_depth_alert)
            if loop is not None:
                log.warning("tenant %s: a session has sent %d tool results in a row", tenant.slug, loop.depth)
                tallies.refused(tenant.tenant_id, RUNAWAY_LOOP)
        if limits.auto_cache_system == "on" and not fields.has_cache_control:
            body = self._cache_system(tenant, fields, body)
        return body, warning

    def _cache_system(self, tenant: Tenant, fields: MessageFields, body: bytes) -> bytes:
        """Only a prompt that is repeated is worth the dearer write to the cache."""
        fingerprint = system_fingerprint(body)
        if fingerprint is None:
            return body
        at_us = time.time_ns() // 1000
        if not self._repeats.is_repeated(tenant.tenant_id, fingerprint, at_us):
            return body
        edited = add_system_cache_control(body)
        if edited is not body:
            fields.has_cache_control = fields.is_cached_here = True
        return edited
