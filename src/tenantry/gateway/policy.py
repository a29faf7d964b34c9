"""What a tenant's policies make of a request: refused, passed as it is, or with one value edited (DESIGN 4.4)."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from tenantry.domain.attempts import RUNAWAY_LOOP
from tenantry.domain.errors import ApiError
from tenantry.domain.policies import CapTokens, check_policies
from tenantry.domain.prompt_budget import PolicyBlocked, Repeats, ToolLoops, Warn, check_context
from tenantry.gateway.authentication import Principal
from tenantry.wire.edits import add_system_cache_control, cap_max_tokens, system_fingerprint
from tenantry.wire.http1 import RequestHead
from tenantry.wire.inspect import MessageFields
from tenantry.wire.session_ids import find_session_id

if TYPE_CHECKING:
    from tenantry.gateway.core import Gateway

log = logging.getLogger("tenantry.gateway")


class Policies:
    """The policies' memory of this process: prefixes that repeat, tool loops."""

    def __init__(self) -> None:
        self._repeats = Repeats()
        self._loops = ToolLoops()

    def apply(
        self, gateway: Gateway, principal: Principal, head: RequestHead, fields: MessageFields, body: bytes
    ) -> tuple[bytes, str]:
        """The body to send, and a warning for the client ("" for none). `fields` follow what is edited.

        Raises:
            ApiError: the request is refused.
        """
        limits, own = principal.tenant.limits, principal.key.limits
        found = check_policies(limits, fields, own)
        if isinstance(found, ApiError):
            raise found
        if isinstance(found, CapTokens):
            body = cap_max_tokens(body, found.max_tokens)
            fields.max_tokens = found.max_tokens
        warning = ""
        if limits.context_tokens_max is not None or limits.context_tokens_warn is not None or own is not None:
            warning = self._check_context(gateway, principal, fields, body)
        if limits.tool_depth_alert is not None:
            self._watch_loop(gateway, principal, head, fields, body)
        if limits.auto_cache_system == "on" and not fields.has_cache_control:
            body = self._cache_system(principal, fields, body)
        return body, warning

    def _check_context(self, gateway: Gateway, principal: Principal, fields: MessageFields, body: bytes) -> str:
        history = gateway.till.histories.of(principal.tenant.tenant_id, fields.model)
        found = check_context(principal.tenant.limits, principal.key.limits, history.input_tokens(len(body)))
        if isinstance(found, PolicyBlocked):
            raise found
        return found.message if isinstance(found, Warn) else ""

    def _watch_loop(
        self, gateway: Gateway, principal: Principal, head: RequestHead, fields: MessageFields, body: bytes
    ) -> None:
        tenant = principal.tenant
        session_id = find_session_id(head.fields.get(b"x-claude-code-session-id"), body)
        loop = self._loops.seen(tenant.tenant_id, session_id, fields, tenant.limits.tool_depth_alert)
        if loop is not None:
            log.warning("tenant %s: a session has sent %d tool results in a row", tenant.slug, loop.depth)
            gateway.tallies.refused(tenant.tenant_id, RUNAWAY_LOOP)

    def _cache_system(self, principal: Principal, fields: MessageFields, body: bytes) -> bytes:
        """Only a prompt that is repeated is worth the dearer write to the cache."""
        fingerprint = system_fingerprint(body)
        if fingerprint is None:
            return body
        at_us = time.time_ns() // 1000
        if not self._repeats.is_repeated(principal.tenant.tenant_id, fingerprint, at_us):
            return body
        edited = add_system_cache_control(body)
        if edited is not body:
            fields.has_cache_control = fields.is_cached_here = True
        return edited
