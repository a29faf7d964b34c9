"""When the agency hears of spending: tables of amounts, calendars and paces."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from tenantry.domain.alerts import (
    Alert,
    BadThresholds,
    Holder,
    budget_alerts,
    dead_until_alert,
    is_nearly_full,
    projected_nanos,
    projection_alert,
    read_thresholds,
    spike_alert,
    thresholds_passed,
    unpriced_alert,
    with_classic,
)
from tenantry.domain.budgets import Cap, Raise
from tenantry.domain.periods import period_of

USD = 1_000_000_000
ACME = Holder("tnt_1", "acme")
BERLIN = ZoneInfo("Europe/Berlin")
MIB = 1024**2


def us(text: str, zone: ZoneInfo = BERLIN) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * 1_000_000


def told(cap: Cap, spent: int, at: str, thresholds: tuple[int, ...] = (70, 90, 100)) -> list[Alert]:
    at_us = us(at)
    return list(budget_alerts(ACME, cap, period_of(cap.period, at_us, BERLIN), spent, thresholds, at_us))


@pytest.mark.parametrize(
    ("spent", "passed"),
    [
        (0, []),
        (35 * USD - 1, []),
        (35 * USD, [70]),
        (45 * USD - 1, [70]),
        (45 * USD, [70, 90]),
        (50 * USD - 1, [70, 90]),
        (50 * USD, [70, 90, 100]),
        (500 * USD, [70, 90, 100]),
    ],
)
def test_a_threshold_is_reached_to_the_nano(spent: int, passed: list[int]) -> None:
    assert thresholds_passed(spent, 50 * USD, (70, 90, 100)) == passed


def test_the_occasion_is_the_period_the_percent_and_the_amount() -> None:
    cap = Cap("month", 50 * USD, ())
    first = told(cap, 46 * USD, "2026-11-24T10:00:00")
    again = told(Cap("month", 20 * USD, ()), 46 * USD, "2026-11-30T23:59:59")
    # Another amount arms the thresholds again.
    assert {alert.occasion for alert in again}.isdisjoint({alert.occasion for alert in first})
    assert "90 %" in first[1].message
    assert "$46.00 of $50.00 (2026-11)" in first[1].message
    after = told(cap, 46 * USD, "2026-12-01T00:00:00")
    assert {alert.occasion for alert in after}.isdisjoint({alert.occasion for alert in first})
    # A clock that is set back is in a period that was told already.
    assert told(cap, 46 * USD, "2026-11-30T23:59:58") == told(cap, 46 * USD, "2026-11-24T10:00:00")


def test_a_raise_counts_while_it_lasts() -> None:
    cap = Cap("month", 50 * USD, (Raise(50 * USD, us("2026-11-10T00:00:00"), us("2026-11-21T00:00:00")),))
    assert told(cap, 45 * USD, "2026-11-09T23:59:59") != []
    assert told(cap, 45 * USD, "2026-11-20T12:00:00") == []
    assert len(told(cap, 45 * USD, "2026-11-21T00:00:00")) == 2


def test_days_of_23_and_25_hours_and_other_zones_have_their_own_occasion() -> None:
    cap = Cap("day", USD, ())
    for day in ("2026-03-29", "2026-10-25"):
        early, late = told(cap, USD, f"{day}T00:00:00"), told(cap, USD, f"{day}T23:59:59")
        assert [alert.occasion for alert in early] == [alert.occasion for alert in late]
        assert day in str(early[0].occasion)
    at_us = us("2026-11-01T00:30:00")
    for zone, label in ((BERLIN, "2026-11"), (ZoneInfo("America/New_York"), "2026-10")):
        found = list(budget_alerts(ACME, Cap("month", USD, ()), period_of("month", at_us, zone), USD, (100,), at_us))
        assert found[0].detail["period_label"] == label


def test_a_key_has_occasions_of_its_own() -> None:
    at_us = us("2026-11-24T10:00:00")
    period = period_of("month", at_us, BERLIN)
    cap = Cap("month", USD, ())
    own = next(budget_alerts(Holder("tnt_1", "acme", "key_1"), cap, period, USD, (100,), at_us))
    assert own.occasion != next(budget_alerts(ACME, cap, period, USD, (100,), at_us)).occasion
    assert "key key_1 of acme" in own.message


@pytest.mark.parametrize(("text", "percents"), [("70,90,100", (70, 90, 100)), ("90%, 70,90", (70, 90)), ("none", ())])
def test_thresholds_are_read_in_order_and_once(text: str, percents: tuple[int, ...]) -> None:
    assert read_thresholds(text) == percents


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1001", "70;90", "7e1", "٧٠", ",".join(map(str, range(1, 12))), "9" * 99]
)
def test_what_are_no_thresholds_is_said_to_be_none(text: str) -> None:
    with pytest.raises(BadThresholds, match="70,90,100"):
        read_thresholds(text)


def test_the_classic_setting_adds_its_threshold() -> None:
    assert with_classic(90) == (70, 90, 100)
    assert with_classic(80) == (70, 80, 90, 100)


@pytest.mark.parametrize(
    ("at", "today", "trailing", "found"),
    [
        ("2026-11-24T12:00:00", 15 * USD, [10 * USD] * 14, True),  # 30 a day at this pace
        ("2026-11-24T12:00:00", 15 * USD - 1, [10 * USD] * 14, False),
        ("2026-11-24T23:59:59", 30 * USD, [10 * USD] * 14, True),
        ("2026-11-24T00:00:01", 5 * USD, [10 * USD] * 14, False),  # a first second is a quarter of the day at least
        ("2026-11-24T00:00:01", 8 * USD, [10 * USD] * 14, True),
        ("2026-11-24T12:00:00", USD - 1, [1] * 14, False),  # three times nothing
        ("2026-11-24T12:00:00", 100 * USD, [0] * 14, False),  # no usual day
        ("2026-11-24T12:00:00", 100 * USD, [USD, USD, *[0] * 12], False),
        ("2026-11-24T12:00:00", 100 * USD, [USD, USD, USD, *[0] * 11], True),  # three days old
        ("2026-11-24T12:00:00", 20 * USD, [0, 0, 28 * USD, *[10 * USD] * 11], True),
        ("2026-03-29T12:00:00", 14 * USD, [10 * USD] * 14, False),  # 11 hours into a day of 23: 29.27
        ("2026-03-29T12:00:00", 15 * USD, [10 * USD] * 14, True),
    ],
)
def test_a_spike_is_three_times_the_usual_pace(at: str, today: int, trailing: list[int], found: bool) -> None:
    at_us = us(at)
    alert = spike_alert(ACME, period_of("day", at_us, BERLIN), today, trailing, at_us)
    assert (alert is not None) is found
    if alert is not None:
        assert at[:10] in str(alert.occasion)


@pytest.mark.parametrize(
    ("at", "spent", "recent", "amount", "found"),
    [
        ("2026-11-24T00:00:00", 30 * USD, 21 * USD, 50 * USD, True),  # 30 + 7 days of 3
        ("2026-11-24T00:00:00", 30 * USD, 20 * USD, 50 * USD, False),  # exactly 50: it lasts
        ("2026-11-01T00:00:00", 0, 14 * USD, 50 * USD, True),  # on the first day, from the week before
        ("2026-11-30T23:59:59", 49 * USD, 70 * USD, 50 * USD, False),
        ("2026-11-24T00:00:00", 50 * USD, 70 * USD, 50 * USD, False),  # that is what 100 % says
        ("2026-11-24T00:00:00", 30 * USD, 0, 50 * USD, False),
        ("2026-11-24T00:00:00", 30 * USD, 21 * USD, 52 * USD, False),  # raised in the middle of the month
    ],
)
def test_a_projection_carries_the_last_week_to_the_end(
    at: str, spent: int, recent: int, amount: int, found: bool
) -> None:
    at_us = us(at)
    week_us = 7 * 86_400_000_000
    alert = projection_alert(
        ACME, Cap("month", amount, ()), period_of("month", at_us, BERLIN), spent, recent, week_us, at_us
    )
    assert (alert is not None) is found


def test_a_raise_that_ends_before_the_month_does_not_help_the_projection() -> None:
    at_us = us("2026-11-24T00:00:00")
    month = period_of("month", at_us, BERLIN)
    raises = (Raise(100 * USD, us("2026-11-01T00:00:00"), us("2026-11-28T00:00:00")),)
    assert projection_alert(ACME, Cap("month", 50 * USD, raises), month, 30 * USD, 21 * USD, 7 * 86_400_000_000, at_us)
    assert projected_nanos(5, 100, 0, 10) == 5


@pytest.mark.parametrize(
    ("total", "free", "full"),
    [
        (100_000 * MIB, 50_000 * MIB, False),
        (100_000 * MIB, 4_999 * MIB, True),
        (10_000_000 * MIB, 20_000 * MIB, False),  # little of a huge disk is still plenty
        (300 * MIB, 255 * MIB, True),
        (100_000 * MIB, 0, True),
    ],
)
def test_a_disk_is_nearly_full_by_share_and_by_room(total: int, free: int, full: bool) -> None:
    assert is_nearly_full(total, free) is full


def test_words_of_a_client_are_cleaned_and_cut() -> None:
    alert = unpriced_alert("claude\n\x1b[31m" + "x" * 500, period_of("month", us("2026-11-24T00:00:00"), BERLIN))
    assert "\n" not in alert.message
    assert "\x1b" not in alert.message
    assert len(alert.subject) == 120


def test_a_dead_credential_is_told_once_for_the_date_it_comes_back() -> None:
    first, later = dead_until_alert("acme", "2026-12-01T00:00:00Z"), dead_until_alert("acme", "2026-12-01T00:00:05Z")
    assert first.occasion == later.occasion
    assert dead_until_alert("acme", "").occasion is None
