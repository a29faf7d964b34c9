"""The agency's time: hours of a day, the last days."""

from __future__ import annotations

from fractions import Fraction
from typing import Final
from zoneinfo import ZoneInfo

from tenantry.billing.months import rounded
from tenantry.domain.periods import DAY, Period, next_period, period_of, previous_period

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US


def hours_of(day: Period) -> list[int]:
    """The first instants of the hours of a day, and its end: 23 to 25 hours."""
    return [*range(day.start_us, day.end_us, HOUR_US), day.end_us]


def last_days(now_us: int, zone: ZoneInfo, count: int) -> list[Period]:
    """The last `count` days from old to new, today last."""
    found = [period_of(DAY, now_us, zone)]
    while len(found) < count:
        found.insert(0, previous_period(found[0], zone))
    return found


def days_between(start_us: int, end_us: int, zone: ZoneInfo) -> list[Period]:
    """The days from one instant up to and without another, the days in which these lie included."""
    found: list[Period] = []
    day = period_of(DAY, start_us, zone)
    while day.start_us < end_us:
        found.append(day)
        day = next_period(day, zone)
    return found


def projected(nanos: int, period: Period, now_us: int) -> int:
    """What it is at the period's end, at its pace so far: as `margin` projects."""
    passed = now_us - period.start_us
    if not period.start_us < now_us < period.end_us:
        return nanos
    return rounded(Fraction(nanos * (period.end_us - period.start_us), passed))
