"""What made usage dearer, read from the rows themselves, for plans whose own prices bear it as list prices do.

Sums of the ledger do not tell it. What a row bears follows from the version of the prices that it was priced at, so a
price that is set later changes nothing that was booked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Select, bindparam, or_, select

from tenantry.billing.months import Month
from tenantry.billing.usage import Used, start_us
from tenantry.domain.attempts import Outcome
from tenantry.domain.plans import PRICED_TOKENS
from tenantry.domain.surcharges import Extra, extra_tokens
from tenantry.ledger.adjustments import usage_of
from tenantry.ledger.rollup import MODEL_CHARS_MAX
from tenantry.storage.database import values_of
from tenantry.storage.prices import PriceHistory
from tenantry.storage.tables import ledger


@dataclass(frozen=True, slots=True)
class Dearer:
    """A row that costs something beside the tokens of its columns: when it ended, and what that is."""

    at_us: int
    key_id: str
    model: str
    extra: Extra


def read_dearer(
    connection: Connection, tenant_id: str, month: Month, zone: ZoneInfo, history: PriceHistory
) -> Iterator[Dearer]:
    """The rows of a month that cost something beside their tokens.

    Raises: BadPriceTable: a price in the store cannot be read.
    """
    bounds = {"start_us": start_us(month.first, zone), "end_us": start_us(month.end, zone)}
    asked = {"tenant_id": tenant_id, "long": history.short_prompt_tokens(), **bounds}
    for row in values_of(connection.execute(_query(), asked)):
        usage = usage_of(row)
        if usage is None:
            continue
        at_us, model = int(row["ended_at_us"]), row["model_served"] or row["model_requested"]
        at = datetime.fromtimestamp(at_us // 1_000_000, UTC)
        is_refused = row["stop_reason"] == "refusal"
        is_free = is_refused and not row["cost_nanos"]
        prices = history.at(row["price_version"] or "")
        extra = extra_tokens(usage, model, at, prices, is_refused=is_refused, is_free=is_free)
        if extra:
            yield Dearer(at_us, row["key_id"], model[:MODEL_CHARS_MAX], extra)


def with_surcharges(used: Sequence[Used], dearer: Iterable[Dearer], zone: ZoneInfo) -> list[Used]:
    """The usage with what makes it dearer: each row's in the sum that it is in."""
    sums = [*used]
    by_key: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for number, one in enumerate(used):
        if one.outcome == Outcome.SETTLED:
            by_key[one.key_id, one.model].append((start_us(one.first, zone), number))
    for row in dearer:
        starts = by_key[row.key_id, row.model]
        if not starts:
            continue  # of a day to come by this clock, which is not among the sums that pages remember
        number = starts[bisect_right(starts, (row.at_us, len(sums))) - 1][1]
        extra = dict(sums[number].extra)
        for key, tokens in row.extra.items():
            extra[key] = extra.get(key, 0) + tokens
        sums[number] = replace(sums[number], extra=extra)
    return sums


@cache
def _query() -> Select[*tuple[Any, ...]]:
    """More than those at times: what they are is read from what the upstream said."""
    columns = ledger.c
    prompt = sum((columns[name] for name in PRICED_TOKENS[1:-1]), columns[PRICED_TOKENS[0]])
    told = [columns.usage_raw.like(f'%"{word}"%') for word in ("fast", "us", "iterations")]
    return (
        select(ledger)
        .where(
            columns.tenant_id == bindparam("tenant_id"),
            columns.ended_at_us >= bindparam("start_us"),
            columns.ended_at_us < bindparam("end_us"),
            columns.outcome == Outcome.SETTLED.value,
            or_(prompt > bindparam("long"), columns.stop_reason == "refusal", *told),
        )
        .order_by(columns.ended_at_us)
    )
