"""How the process that sends through Apprise tells what came of it."""

from __future__ import annotations

from enum import StrEnum


class Fate(StrEnum):
    """What became of the message; the one word that the process writes."""

    TAKEN = "taken"
    REFUSED = "refused"
    REDIRECTED = "redirected"
    UNKNOWN = "unknown"
    TOO_MUCH = "too much"
    FAILED = "failed"
