"""What a tenant used in a month, read from the ledger and from nothing else."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, func, select

from tenantry.domain.money import format_usd
from tenantry.storage.tables import ledger

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


class BadMonth(ValueError):
    """A month is written YYYY-MM, such as 2026-11."""


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """Sums for one model. `requests` counts attempts; `unpriced_requests` of them have no cost yet."""

    model: str
    requests: int
    input_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    cache_read_tokens: int
    output_tokens: int
    web_search_requests: int
    cost_nanos: int
    unpriced_requests: int


@dataclass(frozen=True, slots=True)
class UsageReport:
    month: str
    time_zone: str
    models: list[ModelUsage]
    outcomes: dict[str, int]

    @property
    def requests(self) -> int:
        return sum(model.requests for model in self.models)

    @property
    def cost_nanos(self) -> int:
        return sum(model.cost_nanos for model in self.models)

    def as_json(self, slug: str) -> dict[str, Any]:
        """The report as JSON values; money both exact and for reading."""
        return {
            "tenant": slug,
            "month": self.month,
            "time_zone": self.time_zone,
            "requests": self.requests,
            "cost_nanos": self.cost_nanos,
            "cost_usd": format_usd(self.cost_nanos),
            "outcomes": self.outcomes,
            "models": [asdict(model) | {"cost_usd": format_usd(model.cost_nanos)} for model in self.models],
        }


_SUMMED = (
    "input_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "cache_read_tokens",
    "output_tokens",
    "web_search_requests",
)


def current_month(zone: ZoneInfo) -> str:
    return datetime.now(zone).strftime("%Y-%m")


def month_usage(engine: Engine, tenant_id: str, month: str, zone: ZoneInfo) -> UsageReport:
    """The usage of one calendar month in the agency's time zone; an attempt counts when it ended.

    Raises:
        BadMonth: `month` is not YYYY-MM.
    """
    start_us, end_us = month_bounds_us(month, zone)
    in_month = (
        ledger.c.tenant_id == tenant_id,
        ledger.c.ended_at_us >= start_us,
        ledger.c.ended_at_us < end_us,
    )
    model = func.coalesce(ledger.c.model_served, ledger.c.model_requested).label("model")
    sums = [func.sum(ledger.c[name]).label(name) for name in _SUMMED]
    query = (
        select(
            model,
            func.count().label("requests"),
            *sums,
            func.coalesce(func.sum(ledger.c.cost_nanos), 0).label("cost_nanos"),
            (func.count() - func.count(ledger.c.cost_nanos)).label("unpriced_requests"),
        )
        .where(*in_month)
        .group_by(model)
        .order_by(model)
    )
    by_outcome = select(ledger.c.outcome, func.count()).where(*in_month).group_by(ledger.c.outcome)
    with engine.connect() as connection:
        models = [
            ModelUsage(
                row.model,
                row.requests,
                *(int(getattr(row, name)) for name in _SUMMED),
                cost_nanos=int(row.cost_nanos),
                unpriced_requests=row.unpriced_requests,
            )
            for row in connection.execute(query)
        ]
        outcomes = {row[0]: row[1] for row in connection.execute(by_outcome)}
    return UsageReport(month, zone.key, models, outcomes)


def month_bounds_us(month: str, zone: ZoneInfo) -> tuple[int, int]:
    """The first instant of a month and of the next, in unix microseconds. Raises: BadMonth."""
    found = _MONTH.fullmatch(month)
    if found is None or int(found.group(1)) < 1970:
        raise BadMonth(f"{month!r}: {(BadMonth.__doc__ or '').strip()}")
    year, number = int(found.group(1)), int(found.group(2))
    start = datetime(year, number, 1, tzinfo=zone)
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=zone)
    return int(start.timestamp()) * 1_000_000, int(end.timestamp()) * 1_000_000
