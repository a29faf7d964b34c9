"""Calendar periods in a time zone: what a budget is counted over."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, tzinfo

from tenantry.domain.values import value

PERIOD_KINDS = ("day", "week", "month")


@value
class Period:
    """From `start_us` to before `end_us`, unix microseconds."""

    kind: str
    label: str
    start_us: int
    end_us: int


def period_of(kind: str, at_us: int, zone: tzinfo) -> Period:
    """The day, ISO week or month of the zone's calendar that holds the time."""
    day = datetime.fromtimestamp(at_us // 1_000_000, zone).date()
    if kind == "day":
        first, after, label = day, day + timedelta(days=1), day.isoformat()
    elif kind == "week":
        first = day - timedelta(days=day.weekday())
        after, label = first + timedelta(days=7), f"{day.isocalendar().year}-W{day.isocalendar().week:02d}"
    elif kind == "month":
        first = day.replace(day=1)
        after, label = (first + timedelta(days=32)).replace(day=1), f"{day:%Y-%m}"
    else:
        raise ValueError(f"no such period: {kind!r}")
    return Period(kind, label, _start_us(first, zone), _start_us(after, zone))


def _start_us(day: date, zone: tzinfo) -> int:
    return int(datetime.combine(day, time(), zone).timestamp()) * 1_000_000
