"""Edits of a request body: one value is replaced, every other byte stays as it came.

The caller has inspected the body before: it is a JSON object in which no name is repeated.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from tenantry.domain.asked import MessageFields
from tenantry.wire.members import find_values, members_of
from tenantry.wire.shapes import TextBlock

# The smallest prompt that any model caches is 1,024 tokens; at some four bytes a token.
SYSTEM_BYTES_MIN: Final = 4_096
_BREAKPOINT: Final = b'"cache_control":{"type":"ephemeral"}'


_TEXT: Final = msgspec.json.Decoder(str)
_BLOCKS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_LAST: Final = msgspec.json.Decoder(TextBlock)


def cap_max_tokens(fields: MessageFields, body: bytes, new: int) -> bytes:
    """The body with `max_tokens` set to `new`; without a `max_tokens`, or with a smaller one, as it came.

    `fields` were read from the body, and follow the edit.
    """
    if fields.max_tokens is None or fields.max_tokens <= new:
        return body
    members = members_of(fields)
    start, end = find_values(body, members)["max_tokens"]
    fields.max_tokens = new
    members.max_tokens = msgspec.Raw(b"%d" % new)
    return b"%b%d%b" % (body[:start], new, body[end:])


def add_system_cache_control(fields: MessageFields, body: bytes, bytes_min: int = SYSTEM_BYTES_MIN) -> bytes:
    """The body with a five-minute cache breakpoint at the end of its system prompt; `fields` follow the edit.

    As it came when there is a breakpoint already, or a word that might be one, or when the system prompt is smaller
    than `bytes_min` or does not end in text.
    """
    members = members_of(fields)
    if fields.has_cache_control or len(members.system) < bytes_min or b"cache_control" in body:
        return body
    edited = _with_breakpoint(bytes(members.system))
    if edited is None:
        return body
    start, end = find_values(body, members)["system"]
    fields.has_cache_control = fields.is_cached_here = True
    members.system = msgspec.Raw(edited)
    return b"".join((body[:start], edited, body[end:]))


def _with_breakpoint(raw: bytes) -> bytes | None:
    """A system prompt with a breakpoint at its end; None where that cannot be."""
    try:
        if raw.startswith(b'"'):
            text: str = _TEXT.decode(raw)
            return b'[{"type":"text","text":%b,%b}]' % (raw, _BREAKPOINT) if text.strip() else None
        blocks: list[msgspec.Raw] = _BLOCKS.decode(raw)
        last: TextBlock = _LAST.decode(blocks[-1]) if blocks else TextBlock("")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if last.type != "text" or last.cache_control or not last.text.strip():
        return None
    at = raw.rindex(b"}")
    return b"%b,%b%b" % (raw[:at], _BREAKPOINT, raw[at:])


def system_fingerprint(fields: MessageFields) -> bytes | None:
    """What a cached prefix is keyed by: model, tools and system prompt. None without a system prompt."""
    members = members_of(fields)
    if not members.system:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for part in (fields.model.encode(), members.tools, members.system):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()
