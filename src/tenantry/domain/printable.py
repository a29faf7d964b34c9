"""Text from outside, made safe to show: what a client or an upstream said must not act on the terminal that shows it.

Escape sequences (ECMA-48, in their one-byte C1 form too) move the cursor, rewrite lines and set titles; marks of
direction reorder what is read (CVE-2021-42574). Neither is printable in the sense of Unicode.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from typing import Final

REPLACEMENT: Final = "\ufffd"
# Joiners: names in Persian and many emoji are made with them, and they move nothing.
_JOINERS: Final = "\u200c\u200d"
# `str.isprintable` for the characters of plain text, by which nearly every text passes at once.
_NOT_ASCII: Final = re.compile(r"[^\x20-\x7e]")


def printable(text: str, keep: str = "") -> str:
    """`text` with U+FFFD for every character that is not printable and not in `keep`; every kind of space is one."""
    return _NOT_ASCII.sub(lambda found: _shown(found[0], keep), text)


def escaped(document: str) -> str:
    """A JSON document with every character that is not printable escaped; it says the same. Its lines stay."""
    return _NOT_ASCII.sub(lambda found: _escape(found[0]), document)


def stamp(at: datetime | None) -> str:
    """A time as RFC 3339 in UTC, "" for none; one without a zone is UTC."""
    if at is None:
        return ""
    known = at.astimezone(UTC) if at.tzinfo is not None else at
    return known.strftime("%Y-%m-%dT%H:%M:%SZ")


def _shown(mark: str, keep: str) -> str:
    if mark.isprintable() or mark in keep or mark in _JOINERS:
        return mark
    # Sums and dates of most languages have spaces that do not break, or are thin.
    return " " if unicodedata.category(mark) == "Zs" else REPLACEMENT


def _escape(mark: str) -> str:
    if mark.isprintable() or mark == "\n":
        return mark
    units = mark.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))
