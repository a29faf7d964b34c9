"""Plans: the commercial terms that tenants are on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Terms:
    """A flat fee a month with usage included, a markup on what is used beyond it, and how many clients fit in.

    `markup_percent` is a decimal as text, exact. `slots` None: no limit.
    """

    fee_nanos: int = 0
    included_nanos: int = 0
    markup_percent: str = "0"
    slots: int | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_terms(stored: Mapping[str, Any]) -> Terms:
    """Terms as the store keeps them; what a newer version added is passed over."""
    return Terms(**{name: stored[name] for name in Terms.__dataclass_fields__ if name in stored})
