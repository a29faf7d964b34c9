"""Values as the columns keep them."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime


def utc(value: datetime | None) -> datetime | None:
    """SQLite gives times back without their zone; every time stored is UTC."""
    return value if value is None or value.tzinfo is not None else value.replace(tzinfo=UTC)


def now_utc() -> datetime:
    return datetime.now(UTC)


def new_id(prefix: str) -> str:
    """An internal id, such as `tnt_` and 20 hexadecimal digits."""
    return f"{prefix}_{secrets.token_hex(10)}"


def aware(value: datetime) -> datetime:
    """The same for a column that always has a value."""
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
