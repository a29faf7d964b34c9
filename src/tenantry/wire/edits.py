"""Edits of a request body: one value is replaced, every other byte stays as it came.

The caller has inspected the body before: it is a JSON object in which no name is repeated.
"""

from __future__ import annotations

import hashlib
import json

import msgspec

from tenantry.wire.members import find_values, read_members

# The smallest prompt that any model caches is 1,024 tokens; at some four bytes a token.
SYSTEM_BYTES_MIN = 4_096
_BREAKPOINT = b'"cache_control":{"type":"ephemeral"}'


def cap_max_tokens(body: bytes, new: int) -> bytes:
    """The body with `max_tokens` set to `new`; without a `max_tokens`, or with a smaller one, as it came."""
    members = read_members(body)
    raw = members.get("max_tokens")
    if raw is None or _number(raw) <= new:
        return body
    start, end = find_values(body, members)["max_tokens"]
    return b"%b%d%b" % (body[:start], new, body[end:])


def _number(raw: msgspec.Raw) -> float:
    value = msgspec.json.decode(raw)
    return value if isinstance(value, int | float) else 0


def add_system_cache_control(body: bytes, bytes_min: int = SYSTEM_BYTES_MIN) -> bytes:
    """The body with a five-minute cache breakpoint at the end of its system prompt.

    As it came when there is a breakpoint already, or a word that might be one, or when the system prompt is smaller
    than `bytes_min` or does not end in text.
    """
    if b"cache_control" in body:
        return body
    members = read_members(body)
    raw = bytes(members.get("system", b""))
    if len(raw) < bytes_min:
        return body
    edited = _with_breakpoint(raw)
    if edited is None:
        return body
    start, end = find_values(body, members)["system"]
    return b"".join((body[:start], edited, body[end:]))


def _with_breakpoint(raw: bytes) -> bytes | None:
    """A system prompt with a breakpoint at its end; None where that cannot be."""
    system = json.loads(raw)
    if isinstance(system, str):
        return b'[{"type":"text","text":%b,%b}]' % (raw, _BREAKPOINT) if system.strip() else None
    if not isinstance(system, list) or not system:
        return None
    last = system[-1]  # pyright: ignore[reportUnknownVariableType] -- decoded JSON
    if not isinstance(last, dict) or "cache_control" in last or last.get("type") != "text":  # pyright: ignore[reportUnknownMemberType] -- decoded JSON
        return None
    text = last.get("text")  # pyright: ignore[reportUnknownVariableType,reportUnknownMemberType] -- decoded JSON
    if not isinstance(text, str) or not text.strip():
        return None
    at = raw.rindex(b"}")
    return b"%b,%b%b" % (raw[:at], _BREAKPOINT, raw[at:])


def system_fingerprint(body: bytes) -> bytes | None:
    """What a cached prefix is keyed by: model, tools and system prompt. None without a system prompt."""
    members = read_members(body)
    system = members.get("system")
    if system is None:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for name in ("model", "tools", "system"):
        part = bytes(members.get(name, b""))
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()
