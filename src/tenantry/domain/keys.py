"""Gateway keys: how they are made, and kept only as a keyed hash.

Form: `sk-proxy-<slug>-<random><checksum>`. The random part has 190 bits; the checksum lets a secret scanner tell a key
from what only looks like one.
"""

from __future__ import annotations

import hmac
import re
import secrets
import unicodedata
import zlib
from functools import lru_cache
from typing import Final

KEY_PREFIX: Final = "sk-proxy-"
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_CHARS: Final = 32
CHECKSUM_CHARS: Final = 6
# The longest label of a host name (RFC 1035 2.3.4): a slug may become one.
SLUG_CHARS_MAX: Final = 63

_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class BadName(ValueError):
    """A tenant's name must hold at least one letter or digit."""


def slugify(name: str) -> str:
    """A public id made from a name: `Acme GmbH` -> `acme-gmbh`.

    Raises:
        BadName: nothing of the name can be used.
    """
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:SLUG_CHARS_MAX].strip("-")
    if not slug:
        raise BadName(f"{name!r} has no letter or digit of the Latin alphabet; give a slug with --slug")
    return slug


def is_slug(text: str) -> bool:
    return _SLUG.fullmatch(text) is not None


def new_gateway_key(slug: str) -> str:
    """A new key for the tenant `slug`. It is shown once and never stored."""
    start = KEY_PREFIX + slug + "-" + "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARS))
    return start + _checksum(start)


def digest_key(pepper: bytes, key: str | bytes) -> bytes:
    """HMAC-SHA-256 of a key: what is stored and looked up in its place."""
    keyed = _keyed(pepper).copy()
    keyed.update(key.encode() if isinstance(key, str) else key)
    return keyed.digest()


@lru_cache(maxsize=8)  # a process has one
def _keyed(pepper: bytes) -> hmac.HMAC:
    """Ready for a key: to begin takes OpenSSL as long as the rest, and each new caller is looked up so."""
    return hmac.new(pepper, digestmod="sha256")


def _checksum(text: str) -> str:
    value = zlib.crc32(text.encode())
    digits = ""
    for _ in range(CHECKSUM_CHARS):
        value, digit = divmod(value, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
