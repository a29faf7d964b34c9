"""The header by which a request says which trace it belongs to (W3C Trace Context, level 1)."""

from __future__ import annotations

import re
from typing import Final

# Section 3.2: version, trace id, parent id, flags. Version 255 is none, and neither id may be all zeros.
_TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def read_traceparent(told: bytes) -> str | None:
    """The header as it is, or None where it is none. A later version may say more behind it: that is left out."""
    found = _TRACEPARENT.match(told)
    if found is None or (
        len(told) > found.end() and (told[:2] == b"00" or told[found.end() : found.end() + 1] != b"-")
    ):
        return None
    return found[0].decode("ascii")
