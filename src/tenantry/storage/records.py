"""Rows as the values that leave the store."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Row

from tenantry.domain.directory import UNLIMITED, Tier, Upstream
from tenantry.domain.limits import Limits, read_limits


def read_changes(stored: str) -> dict[str, Any]:
    """Limits as a row keeps them.

    Raises:
        BadLimit: the store holds what no version of this program wrote.
    """
    return read_limits(json.loads(stored)) if stored != "{}" else {}


def read_tier(row: Row[*tuple[Any, ...]], column: str = "limits") -> Tier:
    """A tier from its row, or from `column` of a joined one."""
    return Tier(row.tier if column != "limits" else row.name, Limits().with_changes(read_changes(getattr(row, column))))


def read_upstream(row: Row[*tuple[Any, ...]]) -> Upstream:
    """An upstream from its row."""
    return Upstream(
        row.upstream_id,
        row.name,
        row.base_url,
        row.ca_file,
        row.connect_seconds,
        row.answer_seconds,
        UNLIMITED.with_changes(read_changes(row.capacity)),
        bool(row.shares_capacity),
    )
