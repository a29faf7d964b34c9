"""The body of a count_tokens request, made from that of a Messages request."""

from __future__ import annotations

from typing import Final

from tenantry.domain.asked import MessageFields
from tenantry.wire.members import members_of, written

# What count_tokens takes (the SDK's types message_count_tokens_params, plain and beta); anything else is refused.
_COUNTED: Final = (
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "cache_control",
    "output_config",
    "context_management",
    "mcp_servers",
    "compaction",
)


def count_body(fields: MessageFields) -> bytes:
    """The members that are counted, each with the bytes that came, or as a policy has edited them."""
    members = members_of(fields)
    parts: list[bytes] = []
    for name in _COUNTED:
        value = getattr(members, name, None)
        if value:
            parts.append(b'"%b":%b' % (name.encode(), written(value)))
    return b"{%b}" % b",".join(parts)
