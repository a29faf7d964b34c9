"""The body of a count_tokens request, made from that of a Messages request."""

from __future__ import annotations

import json

from tenantry.wire.members import read_members

# What count_tokens takes (the SDK's types message_count_tokens_params, plain and beta); anything else is refused.
_COUNTED = (
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


def count_body(body: bytes) -> bytes:
    """The members that are counted, each with the bytes that came. The body has been inspected before."""
    members = read_members(body)
    parts = [b"%b:%b" % (json.dumps(name).encode(), bytes(members[name])) for name in _COUNTED if name in members]
    return b"{%b}" % b",".join(parts)
