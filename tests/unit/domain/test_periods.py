"""Days, weeks and months in every time zone: they tile time, whatever the clocks do."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.domain.periods import BadPeriod, next_period, period_of, previous_period, read_period

BERLIN = ZoneInfo("Europe/Berlin")
HOUR_US = 3_600_000_000
KINDS = st.sampled_from(["day", "week", "month"])
ZONES = st.sampled_from(sorted(available_timezones())).map(ZoneInfo)
# 1971 to 2099
INSTANTS = st.integers(31_536_000_000_000, 4_070_908_800_000_000)


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


@given(KINDS, INSTANTS, ZONES)
def test_every_instant_lies_in_the_one_period_that_its_label_names(kind: str, at_us: int, zone: ZoneInfo) -> None:
    found = period_of(kind, at_us, zone)
    assert found.kind == kind
    assert found.start_us <= at_us < found.end_us
    assert read_period(found.label, zone) == found
    assert period_of(kind, found.start_us, zone) == found
    assert period_of(kind, found.end_us - 1, zone) == found


@given(KINDS, INSTANTS, ZONES)
def test_periods_tile_time(kind: str, at_us: int, zone: ZoneInfo) -> None:
    found = period_of(kind, at_us, zone)
    after, before = next_period(found, zone), previous_period(found, zone)
    assert (before.end_us, after.start_us) == (found.start_us, found.end_us)
    assert period_of(kind, found.end_us, zone) == after
    assert period_of(kind, found.start_us - 1, zone) == before
    assert previous_period(after, zone) == found == next_period(before, zone)


@given(INSTANTS, ZONES)
def test_weeks_and_months_begin_and_end_with_days(at_us: int, zone: ZoneInfo) -> None:
    for kind in ("week", "month"):
        whole = period_of(kind, at_us, zone)
        assert period_of("day", whole.start_us, zone).start_us == whole.start_us
        assert period_of("day", whole.end_us - 1, zone).end_us == whole.end_us


@pytest.mark.parametrize(
    ("label", "start", "end"),
    [
        ("2026-11-24", "2026-11-23T23:00+00:00", "2026-11-24T23:00+00:00"),
        ("2026-W47", "2026-11-15T23:00+00:00", "2026-11-22T23:00+00:00"),
        ("2026-W53", "2026-12-27T23:00+00:00", "2027-01-03T23:00+00:00"),
        ("2026-10", "2026-09-30T22:00+00:00", "2026-10-31T23:00+00:00"),  # summer time ends within
        ("2026-12", "2026-11-30T23:00+00:00", "2026-12-31T23:00+00:00"),
        ("2028-02-29", "2028-02-28T23:00+00:00", "2028-02-29T23:00+00:00"),
    ],
)
def test_a_label_names_its_range(label: str, start: str, end: str) -> None:
    found = read_period(label, BERLIN)
    assert (found.start_us, found.end_us) == (us(start), us(end))


def test_the_days_on_which_clocks_change_have_23_and_25_hours() -> None:
    for label, hours in (("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-26", 24)):
        found = read_period(label, BERLIN)
        assert found.end_us - found.start_us == hours * HOUR_US


def test_a_day_without_midnight_begins_when_the_clock_has_jumped() -> None:
    santiago = ZoneInfo("America/Santiago")
    found = read_period("2022-09-11", santiago)  # 00:00 did not exist; 01:00 followed 23:59
    assert found.start_us == us("2022-09-11T04:00+00:00")
    assert found.end_us - found.start_us == 23 * HOUR_US


def test_a_midnight_that_comes_twice_begins_the_day_once() -> None:
    zone = ZoneInfo("America/St_Johns")  # at 00:01 the clocks went back to 23:01 of the day before
    found = read_period("2006-10-29", zone)
    for minute in (0, 30, 59):
        assert period_of("day", found.start_us + minute * 60_000_000, zone) == found


def test_a_day_that_a_zone_left_out_is_empty_and_stepped_over() -> None:
    apia = ZoneInfo("Pacific/Apia")
    gone = read_period("2011-12-30", apia)
    assert gone.start_us == gone.end_us
    assert next_period(read_period("2011-12-29", apia), apia).label == "2011-12-31"
    assert previous_period(read_period("2011-12-31", apia), apia).label == "2011-12-29"


def test_another_time_zone_moves_the_bounds_and_the_instant_keeps_one_period_in_each() -> None:
    at_us = us("2026-10-31T23:30+00:00")
    assert period_of("month", at_us, ZoneInfo("UTC")).label == "2026-10"
    assert period_of("month", at_us, BERLIN).label == "2026-11"
    assert period_of("month", at_us, ZoneInfo("America/New_York")).label == "2026-10"


@pytest.mark.parametrize(
    "label",
    [
        "",
        "x",
        "2026",
        "2026-13",
        "2026-00",
        "2026-W54",
        "2025-W53",
        "2026-W00",
        "2026-W1",
        "2026-02-30",
        "2026-11-24T00",
        "1969-12",
        "9999-12",
        " 2026-11",
        "2026-11\n",
        "٢٠٢٦-١١",
        "2" * 10_000,
    ],
)
def test_a_bad_label_is_refused_and_named(label: str) -> None:
    with pytest.raises(BadPeriod, match="2026-W47"):
        read_period(label, BERLIN)


def test_an_unknown_kind_and_an_instant_beyond_the_calendar_are_refused() -> None:
    with pytest.raises(BadPeriod):
        period_of("year", 0, BERLIN)
    for at_us in (2**63, -(2**63)):
        with pytest.raises(BadPeriod):
            period_of("day", at_us, BERLIN)
    last = period_of("month", int(datetime(9998, 12, 31, tzinfo=UTC).timestamp()) * 1_000_000, ZoneInfo("UTC"))
    with pytest.raises(BadPeriod):
        next_period(last, ZoneInfo("UTC"))
