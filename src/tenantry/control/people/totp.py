"""Codes of an app (TOTP, RFC 6238): six digits, a new one each 30 s, SHA-1, which is what every app does."""

from __future__ import annotations

import base64
import hmac
import secrets
import struct
from typing import Final
from urllib.parse import quote

STEP_SECONDS: Final = 30
DIGITS: Final = 6
# A step either way: clocks differ, and typing takes time (RFC 6238 5.2).
STEPS_OFF: Final = 1
_SECRET_BYTES: Final = 20  # RFC 4226 4, R6


def new_secret() -> str:
    """160 bits, as an app takes them: base32 without padding."""
    return base64.b32encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def code_at(secret: str, step: int) -> str:
    """HOTP (RFC 4226 5.3) of the number of the step."""
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", step), "sha1")
    offset = digest[-1] & 15
    number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}d}"


def step_at(seconds: float) -> int:
    return int(seconds // STEP_SECONDS)


def step_of(secret: str, code: str, seconds: float) -> int | None:
    """The step that `code` is of, around the time `seconds` since 1970; None: it is of none of them."""
    plain = "".join(code.split())
    if len(plain) != DIGITS or not (plain.isascii() and plain.isdigit()):
        return None
    now, found = step_at(seconds), None
    for step in range(now - STEPS_OFF, now + STEPS_OFF + 1):
        if hmac.compare_digest(code_at(secret, step), plain):
            found = step
    return found


def address_of(secret: str, name: str, issuer: str) -> str:
    """What an app reads from the picture (Google Authenticator, Key URI Format)."""
    label = quote(f"{issuer}:{name}", safe="")
    return f"otpauth://totp/{label}?secret={secret}&issuer={quote(issuer)}&digits={DIGITS}&period={STEP_SECONDS}"
