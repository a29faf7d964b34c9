"""What each tenant uses now, and what it was refused: read from files and rows that gateways leave behind.

Every live gateway rewrites `<journal>/<run id>/lanes.json` each second. A file that its gateway has left, or has not
written for a while, says nothing any more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from sqlalchemy import Engine, func, select

from tenantry.domain.limits import Limits
from tenantry.ledger.journal import STANDING_FILE, is_alive
from tenantry.storage.tables import refusals

# Ten times the time between two writings.
LANES_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class LaneUse:
    """One tenant's use. What remains is None where nothing limits it."""

    sessions: int = 0
    waiting: int = 0
    requests_remaining: int | None = None
    input_tokens_remaining: int | None = None
    output_tokens_remaining: int | None = None

    @staticmethod
    def idle(limits: Limits) -> LaneUse:
        """Of a tenant that no gateway tells of: nothing is in use, and its buckets are full."""
        return LaneUse(
            0,
            0,
            limits.request_burst if limits.requests_per_minute is not None else None,
            limits.input_tokens_per_minute,
            limits.output_tokens_per_minute,
        )

    def plus(self, other: LaneUse) -> LaneUse:
        """The use in two gateways together: each has buckets of its own."""
        return LaneUse(
            self.sessions + other.sessions,
            self.waiting + other.waiting,
            _sum(self.requests_remaining, other.requests_remaining),
            _sum(self.input_tokens_remaining, other.input_tokens_remaining),
            _sum(self.output_tokens_remaining, other.output_tokens_remaining),
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


@dataclass(frozen=True, slots=True)
class LanesNow:
    """How many gateways told their use, and the use of each tenant that has any, by internal id."""

    gateways: int
    tenants: dict[str, LaneUse]


class _LanesFile(msgspec.Struct):
    at: float
    tenants: dict[str, LaneUse]


_DECODER = msgspec.json.Decoder(_LanesFile)


def read_lanes(journal_dir: Path, now: float | None = None) -> LanesNow:
    """The use in all live gateways. `now` is unix seconds."""
    now = time.time() if now is None else now
    gateways = 0
    tenants: dict[str, LaneUse] = {}
    for told in _told(journal_dir):
        if abs(now - told.at) > LANES_SECONDS_MAX:
            continue
        gateways += 1
        for tenant_id, use in told.tenants.items():
            known = tenants.get(tenant_id)
            tenants[tenant_id] = use if known is None else known.plus(use)
    return LanesNow(gateways, tenants)


def _told(journal_dir: Path) -> Iterator[_LanesFile]:
    for file in sorted(journal_dir.glob(f"*/{STANDING_FILE}")):
        try:
            if is_alive(file.parent):
                yield _DECODER.decode(file.read_bytes())
        except (OSError, msgspec.DecodeError):
            continue  # just removed, or not whole: the next second's may be


@dataclass(frozen=True, slots=True)
class Refusal:
    """How often a tenant was refused for one reason, and when last."""

    reason: str
    count: int
    last_at: datetime


def list_refusals(engine: Engine, tenant_id: str) -> list[Refusal]:
    """What a tenant was refused, over all gateways that ever ran, most frequent first."""
    count = func.sum(refusals.c.count).label("total")
    last = func.max(refusals.c.last_at_us).label("last_at_us")
    query = (
        select(refusals.c.reason, count, last)
        .where(refusals.c.tenant_id == tenant_id)
        .group_by(refusals.c.reason)
        .order_by(count.desc(), refusals.c.reason)
    )
    with engine.connect() as connection:
        return [
            Refusal(row.reason, int(row.total), datetime.fromtimestamp(row.last_at_us // 1_000_000, UTC))
            for row in connection.execute(query)
        ]
