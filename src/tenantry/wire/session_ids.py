"""Which conversation a request belongs to, as its client says."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from tenantry.domain.asked import MessageFields
from tenantry.wire.members import members_of
from tenantry.wire.shapes import Metadata, UserId

# Claude Code sends a UUID.
SESSION_ID_CHARS_MAX: Final = 128
# What Claude Code sends has 160 bytes (reference 7.5); the API takes 256 characters.
METADATA_BYTES_MAX: Final = 4_096
_OLD_FORM: Final = re.compile(r"_session_([0-9A-Za-z-]+)$")


_METADATA: Final = msgspec.json.Decoder(Metadata | None)
_USER_ID: Final = msgspec.json.Decoder(UserId)


def find_session_id(header: bytes | None, fields: MessageFields) -> str | None:
    """The value of `X-Claude-Code-Session-Id`, or the session named in `metadata.user_id` (reference 7.5)."""
    if header:
        return _printable(header.decode("latin-1"))
    raw = members_of(fields).metadata
    if not raw or len(raw) > METADATA_BYTES_MAX:
        return None
    try:
        metadata: Metadata | None = _METADATA.decode(raw)
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
