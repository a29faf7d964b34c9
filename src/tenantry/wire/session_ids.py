"""Which conversation a request belongs to, as its client says."""

from __future__ import annotations

import re

import msgspec

# Claude Code sends a UUID.
SESSION_ID_CHARS_MAX = 128
_OLD_FORM = re.compile(r"_session_([0-9A-Za-z-]+)$")


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _Body(msgspec.Struct):
    metadata: _Metadata | None = None


class _UserId(msgspec.Struct):
    session_id: str | None = None


_BODY = msgspec.json.Decoder(_Body)
_USER_ID = msgspec.json.Decoder(_UserId)


def find_session_id(header: bytes | None, body: bytes) -> str | None:
    """The value of `X-Claude-Code-Session-Id`, or the session named in `metadata.user_id` (reference 7.5)."""
    if header:
        return _printable(header.decode("latin-1"))
    try:
        metadata = _BODY.decode(body).metadata
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    user_id = metadata.user_id if metadata is not None else None
    if not user_id:
        return None
    try:
        return _printable(_USER_ID.decode(user_id).session_id)
    except (msgspec.DecodeError, RecursionError):
        found = _OLD_FORM.search(user_id)
        return _printable(found[1]) if found else None


def _printable(text: str | None) -> str | None:
    return text if text and len(text) <= SESSION_ID_CHARS_MAX and text.isprintable() else None
