"""Days, ISO weeks and months in the agency's time zone, as half-open ranges of unix microseconds.

In every zone the days tile time: a period ends where the next begins, whatever the clocks do between. Where midnight is
skipped, a day begins at the first instant after it; where it comes twice, at the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAY = "day"
WEEK = "week"
MONTH = "month"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SECOND_US = 1_000_000
# The calendar of `datetime` ends with 9999; a year less, so that a next period can always be named.
_YEARS = range(1970, 9999)
_LABEL = re.compile(r"(?P<year>\d{4})-(?:W(?P<week>\d\d)|(?P<month>\d\d)(?:-(?P<day>\d\d))?)", re.ASCII)


class BadPeriod(ValueError):
    """A period is a day, an ISO week or a month, such as 2026-11-24, 2026-W47 or 2026-11."""


@dataclass(frozen=True, slots=True)
class Period:
    """One day, week or month; `start_us` is in it, `end_us` is not."""

    kind: str
    label: str
    start_us: int
    end_us: int


def period_of(kind: str, at_us: int, zone: ZoneInfo) -> Period:
    """The period in which the instant `at_us` lies.

    Raises:
        BadPeriod: the kind is not day, week or month, or the calendar does not reach that far.
    """
    try:
        local = (_EPOCH + timedelta(microseconds=at_us)).astimezone(zone).date()
    except OverflowError as error:
        raise _bad(at_us) from error
    found = _at(kind, _first_day(kind, local), zone)
    # Only where clocks were set back across midnight, or set forward across it, do date and range disagree.
    while at_us >= found.end_us:
        found = next_period(found, zone)
    while at_us < found.start_us:
        found = previous_period(found, zone)
    return found


def read_period(label: str, zone: ZoneInfo) -> Period:
    """The period that `label` names. Raises: BadPeriod."""
    kind, first = _read_label(label)
    return _at(kind, first, zone)


def next_period(period: Period, zone: ZoneInfo) -> Period:
    """The period that begins where this one ends. Raises: BadPeriod when the calendar ends."""
    return _step(period, zone, _after)


def previous_period(period: Period, zone: ZoneInfo) -> Period:
    """The period that ends where this one begins. Raises: BadPeriod when the calendar ends."""
    return _step(period, zone, _before)


def _step(period: Period, zone: ZoneInfo, move: Callable[[str, date], date]) -> Period:
    first = move(period.kind, _read_label(period.label)[1])
    found = _at(period.kind, first, zone)
    while found.start_us == found.end_us:  # a day that a zone left out, as Samoa did when it crossed the date line
        first = move(period.kind, first)
        found = _at(period.kind, first, zone)
    return found


def _at(kind: str, first: date, zone: ZoneInfo) -> Period:
    return Period(kind, _label(kind, first), _midnight_us(first, zone), _midnight_us(_after(kind, first), zone))


def _read_label(label: str) -> tuple[str, date]:
    found = _LABEL.fullmatch(label)
    if found is None or int(found["year"]) not in _YEARS:
        raise _bad(label)
    year = int(found["year"])
    try:
        if found["week"]:
            return WEEK, date.fromisocalendar(year, int(found["week"]), 1)
        return (DAY if found["day"] else MONTH), date(year, int(found["month"]), int(found["day"] or 1))
    except ValueError as error:
        raise _bad(label) from error


def _first_day(kind: str, day: date) -> date:
    if kind == DAY:
        return day
    if kind == WEEK:
        return day - timedelta(days=day.weekday())
    if kind == MONTH:
        return day.replace(day=1)
    raise _bad(kind)


def _after(kind: str, first: date) -> date:
    if kind == MONTH:
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=7 if kind == WEEK else 1)


def _before(kind: str, first: date) -> date:
    return _first_day(kind, first - timedelta(days=1))


def _label(kind: str, first: date) -> str:
    if kind == WEEK:
        year, week, _ = first.isocalendar()
        label = f"{year:04d}-W{week:02d}"
    else:
        year = first.year
        label = first.isoformat() if kind == DAY else f"{year:04d}-{first.month:02d}"
    # The first ISO week of 1970 begins in 1969, and the instant 0 lies in 1969 west of Greenwich.
    if min(year, first.year) < _YEARS.start - 1 or max(year, first.year) >= _YEARS.stop:
        raise _bad(label)
    return label


def _midnight_us(day: date, zone: ZoneInfo) -> int:
    """The first instant of `day` in `zone`."""
    wall = datetime.combine(day, time())
    early, late = sorted(_instant_us(wall.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    if early == late or _reads(early, zone) == wall:
        return early
    # Midnight was skipped: the clocks jumped over it somewhere between the two readings.
    while late - early > _SECOND_US:
        middle = early + (late - early) // _SECOND_US // 2 * _SECOND_US
        early, late = (early, middle) if _reads(middle, zone) >= wall else (middle, late)
    return late


def _instant_us(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _reads(at_us: int, zone: ZoneInfo) -> datetime:
    """What a clock in `zone` shows."""
    return (_EPOCH + timedelta(microseconds=at_us)).astimezone(zone).replace(tzinfo=None, fold=0)


def _bad(what: object) -> BadPeriod:
    return BadPeriod(f"{what!r}: {(BadPeriod.__doc__ or '').strip()}")
