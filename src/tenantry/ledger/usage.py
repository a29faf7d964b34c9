"""What a tenant used in a month, read from the sums of the ledger and from nothing else."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, Engine, func, select

from tenantry.domain.attempts import Outcome
from tenantry.domain.money import format_usd
from tenantry.domain.periods import MONTH, BadPeriod, read_period
from tenantry.domain.plans import PRICED_TOKENS
from tenantry.storage.database import reading
from tenantry.storage.tables import gateway_keys, usage_rollup


class BadMonth(ValueError):
    """A month is written YYYY-MM, such as 2026-11."""


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """Sums for one model. `requests` counts attempts; `unpriced_requests` of them have no cost yet.

    An adjustment counts in the month in which it was booked: it adds to the cost alone, and takes one from
    `unpriced_requests` where it priced an attempt, so in a later month than the attempt's that figure may be below 0.
    """

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
    saved_nanos: int


@dataclass(frozen=True, slots=True)
class SlotUsage:
    """Sums for one slot, "" for keys of the whole tenant. `requests` counts attempts, `tokens` those of all classes."""

    slot: str
    requests: int
    tokens: int
    cost_nanos: int


@dataclass(frozen=True, slots=True)
class UsageReport:
    """`orphaned_nanos` is the cost of attempts whose gateway died, within the whole: an estimate, not what was told.

    `slots` add up to the whole; none where the tenant uses none.
    """

    month: str
    time_zone: str
    models: list[ModelUsage]
    outcomes: dict[str, int]
    orphaned_nanos: int
    slots: list[SlotUsage] = field(default_factory=list[SlotUsage])

    @property
    def requests(self) -> int:
        return sum(model.requests for model in self.models)

    @property
    def saved_nanos(self) -> int:
        """What cache breakpoints that the gateway added have saved."""
        return sum(model.saved_nanos for model in self.models)

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
            "orphaned_nanos": self.orphaned_nanos,
            "orphaned_usd": format_usd(self.orphaned_nanos),
            "saved_by_caching_nanos": self.saved_nanos,
            "outcomes": self.outcomes,
            "models": [asdict(model) | {"cost_usd": format_usd(model.cost_nanos)} for model in self.models],
            "slots": [asdict(one) | {"cost_usd": format_usd(one.cost_nanos)} for one in self.slots],
        }


@dataclass(frozen=True, slots=True)
class TenantUse:
    """What a tenant used in a month, by internal id. `requests` counts attempts, `tokens` those of all classes."""

    tenant_id: str
    requests: int
    tokens: int
    cost_nanos: int
    unpriced_requests: int


_SUMMED = (
    "input_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "cache_read_tokens",
    "output_tokens",
    "web_search_requests",
    "cost_nanos",
    "unpriced",
    "saved_nanos",
)


def current_month(zone: ZoneInfo) -> str:
    return datetime.now(zone).strftime("%Y-%m")


def month_usage(engine: Engine, tenant_id: str, month: str, zone: ZoneInfo) -> UsageReport:
    """The usage of one calendar month in the agency's time zone; an attempt counts when it ended.

    Raises:
        BadMonth: `month` is not YYYY-MM.
    """
    start_us, end_us = month_bounds_us(month, zone)
    columns = usage_rollup.c
    in_month = (columns.tenant_id == tenant_id, columns.quarter_us >= start_us, columns.quarter_us < end_us)
    query = (
        select(columns.model, func.sum(columns.attempts), *(func.sum(columns[name]) for name in _SUMMED))
        .where(*in_month)
        .group_by(columns.model)
        .order_by(columns.model)
    )
    by_outcome = (
        select(columns.outcome, func.sum(columns.attempts + columns.adjustments), func.sum(columns.cost_nanos))
        .where(*in_month)
        .group_by(columns.outcome)
    )
    with reading(engine) as connection:
        models = [ModelUsage(model, *map(int, sums)) for model, *sums in connection.execute(query)]
        found = {outcome: (int(count), int(nanos)) for outcome, count, nanos in connection.execute(by_outcome)}
        slots = _by_slot(connection, in_month)
    _, orphaned_nanos = found.get(Outcome.ORPHANED.value, (0, 0))
    return UsageReport(
        month, zone.key, models, {name: count for name, (count, _) in found.items()}, orphaned_nanos, slots
    )


def month_uses(engine: Engine, month: str, zone: ZoneInfo) -> list[TenantUse]:
    """Of every tenant that has a row in a month, also of those that left: together all that the ledger holds of it.

    Raises:
        BadMonth: `month` is not YYYY-MM.
    """
    start_us, end_us = month_bounds_us(month, zone)
    columns = usage_rollup.c
    query = (
        select(
            columns.tenant_id,
            func.sum(columns.attempts),
            func.sum(_tokens()),
            func.sum(columns.cost_nanos),
            func.sum(columns.unpriced),
        )
        .where(columns.quarter_us >= start_us, columns.quarter_us < end_us)
        .group_by(columns.tenant_id)
        .order_by(columns.tenant_id)
    )
    with reading(engine) as connection:
        return [TenantUse(tenant_id, *map(int, sums)) for tenant_id, *sums in connection.execute(query)]


def _tokens() -> ColumnElement[int]:
    """Of all classes."""
    columns = usage_rollup.c
    return sum((columns[name] for name in PRICED_TOKENS[1:]), columns[PRICED_TOKENS[0]])


def _by_slot(connection: Connection, in_month: Collection[ColumnElement[bool]]) -> list[SlotUsage]:
    """A key is one slot's for good, so its slot is that of all that was used by it."""
    columns, slot = usage_rollup.c, func.coalesce(gateway_keys.c.slot, "")
    query = (
        select(slot, func.sum(columns.attempts), func.sum(_tokens()), func.sum(columns.cost_nanos))
        .outerjoin(gateway_keys, gateway_keys.c.key_id == columns.key_id)
        .where(*in_month)
        .group_by(slot)
        .order_by(slot)
    )
    found = [SlotUsage(name, *map(int, sums)) for name, *sums in connection.execute(query)]
    return found if any(one.slot for one in found) else []


def month_bounds_us(month: str, zone: ZoneInfo) -> tuple[int, int]:
    """The first instant of a month and of the next, in unix microseconds. Raises: BadMonth."""
    try:
        found = read_period(month, zone)
    except BadPeriod:
        found = None
    if found is None or found.kind != MONTH:
        raise BadMonth(f"{month!r}: {(BadMonth.__doc__ or '').strip()}")
    return found.start_us, found.end_us


def unpriced_models(engine: Engine) -> list[dict[str, Any]]:
    """Models with attempts that have no price yet, and how many: `model`, `attempts`."""
    attempts = func.sum(usage_rollup.c.unpriced)
    query = select(usage_rollup.c.model, attempts).group_by(usage_rollup.c.model).having(attempts > 0)
    with engine.connect() as connection:
        return [{"model": model, "attempts": int(count)} for model, count in connection.execute(query)]


def attempts_since(engine: Engine, model: str, start_us: int) -> int:
    """How many attempts of a model have ended since then."""
    columns = usage_rollup.c
    query = select(func.sum(columns.attempts)).where(columns.model == model, columns.quarter_us >= start_us)
    with engine.connect() as connection:
        return int(connection.execute(query).scalar() or 0)
