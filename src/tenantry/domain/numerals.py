"""Whole numbers as fields of a head write them."""

from __future__ import annotations

import re
from typing import Final

_WHOLE: Final = re.compile(rb"[0-9]{1,18}")


def small_number(raw: bytes) -> int | None:
    """A field's value that is a whole number of at most 18 digits; None for anything else, a longer one included.

    Python refuses to read a number of more than 4,300 digits, and a head may hold one.
    """
    return int(raw) if _WHOLE.fullmatch(raw) is not None else None
