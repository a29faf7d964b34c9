"""Durations as people write them: 30m, 24h, 7d."""

from __future__ import annotations

import re
from datetime import timedelta

# Ten years: beyond any life of a key, and far below what a date can hold.
DURATION_MAX = timedelta(days=3650)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FORM = re.compile(r"([0-9]{1,9})([smhd])")


class BadDuration(ValueError):
    """A duration is a whole number with s, m, h or d behind it, such as 30m, 24h or 7d, ten years at most; or 0."""


def read_duration(text: str) -> timedelta:
    """Raises: BadDuration."""
    if text == "0":
        return timedelta(0)
    found = _FORM.fullmatch(text)
    duration = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found is not None else None
    if duration is None or duration > DURATION_MAX:
        raise BadDuration(f"{text!r}: {(BadDuration.__doc__ or '').strip()}")
    return duration
