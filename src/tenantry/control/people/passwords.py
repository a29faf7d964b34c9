"""Passwords: argon2id (RFC 9106), so that what is stored is of no use to a thief.

Each hash takes memory and time on purpose, so only a few are made at once: who guesses can keep them busy, and cannot
eat the machine's memory.
"""

from __future__ import annotations

import threading
from functools import cache
from importlib.resources import files
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from tenantry.domain.people import PASSWORD_CHARS_MAX, same_password

# RFC 9106 section 4, the second recommended option: 64 MiB, three passes, some 0.1 s of one core.
MEMORY_KIB: Final = 64 * 1024
PASSES: Final = 3
LANES: Final = 4
# Side by side: 128 MiB at most.
HASHES_AT_ONCE: Final = 2


class Passwords:
    """Hashes passwords, and compares them. Asked by several threads."""

    def __init__(self, memory_kib: int = MEMORY_KIB, passes: int = PASSES) -> None:
        self._hasher = PasswordHasher(passes, memory_kib, LANES, type=Type.ID)
        self._at_once = threading.BoundedSemaphore(HASHES_AT_ONCE)
        self._lock = threading.Lock()
        self._decoy: str | None = None

    def hash(self, password: str) -> str:
        with self._at_once:
            return self._hasher.hash(password)

    def is_of(self, stored: str | None, text: str) -> bool:
        """Whether `text` is the password that `stored` is of; None, of nobody, takes the same time."""
        password = same_password(text[: PASSWORD_CHARS_MAX + 1])
        against = stored if stored is not None else self._nobodys()
        with self._at_once:
            try:
                self._hasher.verify(against, password)
            except (VerificationError, InvalidHashError):
                return False
        return stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether it was made with other parameters than those of today."""
        return self._hasher.check_needs_rehash(stored)

    def _nobodys(self) -> str:
        """Of a password that nobody has, made once."""
        with self._lock:
            if self._decoy is None:
                self._decoy = self.hash("of nobody at all")
            return self._decoy


@cache
def common_passwords() -> frozenset[str]:
    """Those of twelve characters and more that guessers try first (docs/decisions/0017)."""
    text = files("tenantry.control.people").joinpath("common_passwords.txt").read_text("utf-8")
    return frozenset(text.splitlines())
