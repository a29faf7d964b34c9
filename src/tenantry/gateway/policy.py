"""What a tenant's policies make of a request: refused, passed as it is, or with one value edited (DESIGN 4.4)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tenantry.domain.asked import MessageFields
from tenantry.domain.attempts import RUNAWAY_LOOP
from tenantry.domain.directory import GatewayKey, Tenant
from tenantry.domain.errors import ApiError
from tenantry.domain.estimates import Histories
from tenantry.domain.policies import CapTokens, check_policies
from tenantry.domain.prompt_budget import PolicyBlocked, Repeats, ToolLoops, Warn, check_context
from tenantry.gateway.tallies import Tallies
from tenantry.wire.edits import add_system_cache_control, cap_max_tokens, system_fingerprint
from tenantry.wire.session_ids import find_session_id

log = logging.getLogger("tenantry.gateway")


class Policies:
    """The policies' memory of this process: prefixes that repeat, tool loops.

    `known_models` are the ids that a refusal can name where a tenant's models are patterns.
    """

    __slots__ = ("_known_models", "_loops", "_repeats")

    def __init__(self, known_models: Sequence[str] = ()) -> None:
        self._known_models = known_models
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
        """The body to send, and a warning for the client ("" for none). `fields` follow what is edited.

        `headers` are those of the request, by lower-case name; `at_us` is now, in unix microseconds.

        Raises:
            ApiError: the request is refused.
        """
        limits, own = tenant.limits, key.limits
        found = check_policies(limits, fields, own, self._known_models)
        if isinstance(found, ApiError):
            raise found
        if isinstance(found, CapTokens):
            body = cap_max_tokens(fields, body, found.max_tokens)
        warning = ""
        if limits.context_tokens_max is not None or limits.context_tokens_warn is not None or own is not None:
            warning = _check_context(tenant, key, histories, fields, len(body))
        if limits.tool_depth_alert is not None:
            session_id = find_session_id(headers.get(b"x-claude-code-session-id"), fields)
            loop = self._loops.seen(tenant.tenant_id, session_id, fields, limits.tool_depth_alert)
            if loop is not None:
                log.warning(
                    "tenant %s: a session has sent %d tool results in a row",
                    tenant.slug,
                    loop.depth,
                    extra={"tenant": tenant.slug},
                )
                tallies.refused(tenant.tenant_id, RUNAWAY_LOOP)
        if limits.auto_cache_system == "on" and not fields.has_cache_control:
            body = self._cache_system(tenant, fields, body, at_us)
        return body, warning

    def _cache_system(self, tenant: Tenant, fields: MessageFields, body: bytes, at_us: int) -> bytes:
        """Only a prompt that is repeated is worth the dearer write to the cache."""
        fingerprint = system_fingerprint(fields)
        if fingerprint is None or not self._repeats.is_repeated(tenant.tenant_id, fingerprint, at_us):
            return body
        return add_system_cache_control(fields, body)


def _check_context(tenant: Tenant, key: GatewayKey, histories: Histories, fields: MessageFields, size: int) -> str:
    history = histories.of(tenant.tenant_id, fields.model)
    found = check_context(tenant.limits, key.limits, history.input_tokens(size))
    if isinstance(found, PolicyBlocked):
        raise found
    return found.message if isinstance(found, Warn) else ""
