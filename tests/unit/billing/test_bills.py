"""A month's bill: every ledger row on one line, lines that add up, shares that lose nothing, what each term does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantry.billing.calculation import Bill, calculate, in_minor_units
from tenantry.billing.months import BadMonth, Month, Sold, month_before, read_month
from tenantry.billing.usage import Used
from tenantry.billing.wording import wording_of
from tenantry.domain.plans import Terms
from tests.unit.billing.sales import NOVEMBER, OWN, USD, on, sold, terms, usage, used, version

MID = date(2026, 11, 16)
LONG_AGO = date(2026, 1, 1)


def billed(
    terms: Terms, *some: Used, since: date = LONG_AGO, slots: int | None = None, month: Month = NOVEMBER
) -> Bill:
    """The bill of a tenant that is on one plan."""
    known = Sold([on("studio", since, slots)], [version("studio", terms)])
    return calculate(month, known.stretches(month), some)


def shown(bill: Bill) -> list[tuple[str, int]]:
    return [(line.kind, line.nanos) for line in bill.lines]


@settings(max_examples=300)
@given(sold(), usage())
def test_every_row_is_on_one_line_and_the_lines_have_the_ledgers_cost(known: Sold, some: list[Used]) -> None:
    bill = calculate(NOVEMBER, known.stretches(NOVEMBER), some)
    assert bill.rows == sum(one.rows for one in some)
    assert bill.list_nanos == sum(one.cost_nanos for one in some)


@settings(max_examples=300)
@given(st.lists(st.integers(-(10**15), 10**15)), st.fractions(Fraction(1, 1000), 1000), st.sampled_from([0, 2, 3]))
def test_rounded_lines_add_up_to_the_exact_total_rounded_once(nanos: list[int], rate: Fraction, digits: int) -> None:
    lines = in_minor_units(nanos, rate, digits)
    exact = [one * rate * 10**digits / USD for one in nanos]
    assert abs(sum(lines) - sum(exact)) <= Fraction(1, 2)
    assert all(abs(line - one) <= 1 for line, one in zip(lines, exact, strict=True))


@settings(max_examples=200)
@given(sold())
def test_the_stretches_of_a_month_tile_it(known: Sold) -> None:
    stretches = known.stretches(NOVEMBER)
    assert stretches[0].first == NOVEMBER.first
    assert stretches[-1].end == NOVEMBER.end
    assert all(one.end == after.first for one, after in pairwise(stretches))


def test_a_discount_on_the_fee_is_on_no_slot() -> None:
    terms = Terms(fee_nanos=30 * USD, slots=5, extra_slot_nanos=10 * USD, discount_percent="10")
    assert shown(billed(terms, slots=6)) == [("fee", 30 * USD), ("slots", 10 * USD), ("discount", -3 * USD)]


def test_a_discount_is_of_its_last_day_too() -> None:
    terms = Terms(fee_nanos=30 * USD, discount_percent="10", discount_until="2026-11-01")
    assert shown(billed(terms)) == [("fee", USD), ("discount", -USD // 10), ("fee", 29 * USD)]


def test_a_fee_that_no_change_splits_is_whole_over_the_parts_of_its_days() -> None:
    terms = Terms(fee_nanos=1, changes="next_month", discount_percent="0.000000001", discount_until="2026-11-15")
    assert shown(billed(terms)) == [("fee", 1), ("fee", 0)]


def test_estimates_are_at_list_price_on_a_plan_with_its_own() -> None:
    bill = billed(Terms(prices={"*": OWN}), used(MID, "estimated", 5 * USD, tokens=1000))
    assert shown(bill) == [("estimated", 5 * USD)]


def test_a_correction_below_zero_makes_nothing_more_of_what_is_included() -> None:
    some = [used(MID, "adjusted", 5 * USD, sign=-1), used(MID, "estimated", 12 * USD)]
    assert shown(billed(Terms(included_nanos=10 * USD), *some)) == [("included", 0), ("estimated", 2 * USD)]


def test_what_is_included_is_not_split_on_a_day_on_which_nothing_changes() -> None:
    """Another plan that the tenant was on has new terms from that day, and its own plan was said once more."""
    studio = Terms(fee_nanos=30 * USD, included_nanos=10 * USD, markup_percent="20")
    versions = [version("before", Terms()), version("before", Terms(fee_nanos=USD), MID), version("studio", studio)]
    known = Sold([on("before", date(2026, 1, 1)), on("studio", date(2026, 3, 1)), on("studio", MID)], versions)
    stretches = known.stretches(NOVEMBER)
    some = [used(date(2026, 11, 2), nanos=2 * USD), used(date(2026, 11, 20), nanos=8 * USD)]
    assert [(one.first, one.end) for one in stretches] == [(NOVEMBER.first, NOVEMBER.end)]
    assert shown(calculate(NOVEMBER, stretches, some)) == [("fee", 30 * USD), ("included", 0)]


@settings(max_examples=200)
@given(
    st.integers(0, 10**13),
    st.sets(st.dates(date(2026, 1, 2), date(2026, 12, 31)), max_size=20),
    st.sampled_from(["prorated", "next_month"]),
)
def test_however_a_year_is_cut_its_fee_is_twelve_months_to_the_nano(fee: int, cuts: set[date], rule: str) -> None:
    same = Terms(fee_nanos=fee, changes=rule)
    if rule == "next_month":
        cuts = {day.replace(day=1) for day in cuts}
    # The same terms under another version at each cut: pro-rating splits at each of them.
    versions = [version("studio", same), *(version("studio", same, day) for day in sorted(cuts))]
    known = Sold([on("studio", LONG_AGO)], versions)
    months = [Month(date(2026, number, 1)) for number in range(1, 13)]
    assert [calculate(one, known.stretches(one), []).net_nanos for one in months] == [fee] * 12


@st.composite
def year_of_changes(draw: st.DrawFn) -> tuple[Sold, dict[date, int]]:
    """A tenant that is moved between plans over a year, whose fees change too; and the fee of each day."""
    fees = {name: draw(st.integers(0, 10**12)) for name in "abc"}
    versions = [version(name, Terms(fee_nanos=fee)) for name, fee in fees.items()]
    in_year = st.dates(date(2026, 1, 1), date(2026, 12, 31))
    for name, fee, day in draw(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**12), in_year), max_size=6)
    ):
        versions.append(version(name, Terms(fee_nanos=fee), day, len(versions) + 1))
    assigned = [on("a", LONG_AGO), *(on(*one) for one in draw(st.lists(st.tuples(plan_or_none, in_year), max_size=8)))]
    known = Sold(assigned, versions)
    fee_on: dict[date, int] = {}
    for number in range(365):
        day = LONG_AGO + timedelta(days=number)
        plan = _last_said([(one.from_day, one.plan) for one in assigned], day)
        said = [(one.from_day or date.min, one.terms.fee_nanos) for one in versions if one.plan == plan]
        fee_on[day] = _last_said(said, day) or 0 if plan is not None else 0
    return known, fee_on


plan_or_none = st.sampled_from(["a", "b", "c", None])


def _last_said(said: Sequence[tuple[date, Any]], day: date) -> Any:
    """What counts on a day: what is set from a day on ends what had been set for that day or a later one."""
    standing: list[tuple[date, Any]] = []
    for since, what in said:
        standing = [*(one for one in standing if one[0] < since), (since, what)]
    return next((what for since, what in reversed(standing) if since <= day), None)


@settings(max_examples=60, deadline=None)
@given(year_of_changes())
def test_whatever_plans_a_year_had_each_month_costs_its_days_to_the_cent(year: tuple[Sold, dict[date, int]]) -> None:
    known, fee_on = year
    exact = billed_nanos = 0
    for number in range(1, 13):
        month = Month(date(2026, number, 1))
        bill = calculate(month, known.stretches(month), [])
        days = [month.first + timedelta(days=at) for at in range(month.days)]
        due = sum((Fraction(fee_on[day], month.days) for day in days), Fraction(0))
        # Each part is less than a nano-dollar off, and so no invoice is off by more than its own rounding to the cent.
        assert abs(bill.net_nanos - due) < len(bill.stretches)
        cents = sum(in_minor_units([line.nanos for line in bill.lines], Fraction(1), 2))
        assert abs(cents - due * 100 / USD) <= Fraction(1, 2) + Fraction(len(bill.stretches) * 100, USD)
        exact, billed_nanos = exact + due, billed_nanos + bill.net_nanos
    assert abs(billed_nanos - exact) * 100 < USD


@settings(max_examples=200)
@given(sold(never_billed=True), usage())
def test_blocked_and_throttled_overage_never_bills(known: Sold, some: list[Used]) -> None:
    stretches = known.stretches(NOVEMBER)
    bill, without = (calculate(NOVEMBER, stretches, one).net_nanos for one in (some, []))
    assert bill == without


@settings(max_examples=200)
@given(terms(), usage())
def test_nothing_is_owed_before_the_first_plan_nor_in_the_trial(one: Terms, some: list[Used]) -> None:
    assert billed(one, *some, since=date(2026, 12, 1)).net_nanos == 0
    assert billed(replace(one, trial_days=40), *some, since=date(2026, 10, 25)).net_nanos == 0


def test_metered_usage_is_the_list_price_and_the_markup_by_model() -> None:
    some = [used(MID, nanos=10 * USD), used(MID, nanos=1, model="claude-sonnet-5-5")]
    assert shown(billed(Terms(), *some)) == [("usage", 10 * USD), ("usage", 1)]
    assert shown(billed(Terms(markup_percent="20"), *some)) == [("usage", 12 * USD), ("usage", 1)]


def test_only_what_is_beyond_the_included_is_billed_at_the_rate() -> None:
    plan = Terms(fee_nanos=179 * USD, included_nanos=100 * USD, markup_percent="20")
    assert shown(billed(plan, used(MID, nanos=100 * USD))) == [("fee", 179 * USD), ("included", 0)]
    bill = billed(plan, used(MID, nanos=130 * USD))
    assert shown(bill) == [("fee", 179 * USD), ("beyond", 36 * USD)]
    assert "23.1% of it beyond" in wording_of("en_US").say(bill.lines[1].text)
    by_tokens = Terms(included_tokens=8_000_000)
    assert shown(billed(by_tokens, used(MID, nanos=10 * USD, tokens=14_000_000))) == [("beyond", 5 * USD)]
    assert shown(billed(Terms(fair_use=True), used(MID, nanos=10**15))) == [("included", 0)]


def test_estimates_come_after_what_is_sure_and_are_billed_where_the_plan_says_so() -> None:
    some = [used(MID, "estimated", 5 * USD), used(MID, nanos=8 * USD), used(MID, "unpriced", tokens=5)]
    assert shown(billed(Terms(), *some)) == [("usage", 8 * USD), ("without_price", 0), ("estimated", 5 * USD)]
    plan = Terms(included_nanos=10 * USD)
    assert shown(billed(plan, *some)) == [("included", 0), ("without_price", 0), ("estimated", 3 * USD)]
    bill = billed(Terms(bill_estimates=False), *some)
    assert shown(bill) == [("usage", 8 * USD), ("without_price", 0), ("estimated", 0)]
    assert bill.lines[2].list_nanos == 5 * USD


def test_own_prices_go_by_tokens_so_that_corrections_of_the_list_price_change_nothing() -> None:
    plan = Terms(prices={"claude-haiku-5-5": OWN})
    some = [
        used(MID, nanos=1, tokens=7_000_000),
        used(MID, "adjusted", 5 * USD),
        used(MID, "unpriced", tokens=7_000_000),
    ]
    each = 7 * 1_111_000_000 + 9_999_999_999
    assert shown(billed(plan, *some)) == [("usage", 2 * each)]
    assert shown(billed(plan, used(MID, nanos=3, model="claude-sonnet-5-5"))) == [("usage", 3)]


def test_a_correction_that_takes_back_is_a_line_below_zero() -> None:
    assert shown(billed(Terms(), used(MID, "adjusted", USD, sign=-1))) == [("usage", -USD)]


def test_who_brings_a_credential_owes_the_service_fee_alone() -> None:
    plan = Terms(byok=True, service_fee_percent="10")
    assert shown(billed(plan, used(MID, nanos=50 * USD))) == [("usage", 0), ("service_fee", 5 * USD)]


def test_the_minimum_is_of_fee_and_usage_less_discount_and_without_the_setup() -> None:
    plan = Terms(fee_nanos=10 * USD, minimum_nanos=20 * USD, setup_nanos=250 * USD, discount_percent="50")
    bill = billed(plan, used(MID, nanos=USD), since=NOVEMBER.first)
    assert shown(bill) == [
        ("setup", 250 * USD),
        ("fee", 10 * USD),
        ("usage", USD),
        ("discount", -5 * USD),
        ("minimum", 14 * USD),
    ]
    assert "minimum" not in dict(shown(billed(plan, used(MID, nanos=16 * USD))))


def test_the_setup_is_owed_once_after_the_trial() -> None:
    plan = Terms(setup_nanos=USD, trial_days=14)
    october, december = Month(date(2026, 10, 1)), Month(date(2026, 12, 1))
    since = date(2026, 10, 20)
    assert [billed(plan, since=since, month=one).net_nanos for one in (october, NOVEMBER, december)] == [0, USD, 0]


def test_a_discount_ends_with_its_last_day() -> None:
    plan = Terms(fee_nanos=30 * USD, discount_percent="10", discount_until="2026-11-10")
    assert sum(nanos for kind, nanos in shown(billed(plan)) if kind == "discount") == -USD
    assert sum(nanos for kind, nanos in shown(billed(plan)) if kind == "fee") == 30 * USD
    all_of_it = replace(plan, discount_on="all", discount_until=None)
    assert dict(shown(billed(all_of_it, used(MID, nanos=70 * USD))))["discount"] == -10 * USD


def test_slots_beyond_those_of_the_plan_are_owed_where_they_were_agreed_on() -> None:
    plan = Terms(slots=5, extra_slot_nanos=10 * USD)
    assert shown(billed(plan, slots=7)) == [("slots", 20 * USD)]
    assert shown(billed(plan, slots=4)) == shown(billed(plan)) == []


def test_a_change_in_the_middle_is_split_by_days_or_not_at_all() -> None:
    pro, team = Terms(fee_nanos=30 * USD), Terms(fee_nanos=60 * USD)
    moved = [on("pro", LONG_AGO), on("team", MID)]
    known = Sold(moved, [version("pro", pro), version("team", team)])
    assert shown(calculate(NOVEMBER, known.stretches(NOVEMBER), [])) == [("fee", 15 * USD), ("fee", 30 * USD)]
    whole = replace(pro, changes="next_month")
    assert shown(billed(whole, since=MID)) == [("fee", 30 * USD)]
    trial = replace(whole, trial_days=5)
    assert [kind for kind, _ in shown(billed(trial, since=MID))] == ["trial", "fee"]


def test_usage_on_days_without_a_plan_is_told_and_not_billed() -> None:
    known = Sold([on("studio", MID)], [version("studio", Terms())])
    some = [used(MID - timedelta(days=1), nanos=USD), used(MID, nanos=2 * USD)]
    bill = calculate(NOVEMBER, known.stretches(NOVEMBER), some)
    assert shown(bill) == [("without_plan", 0), ("usage", 2 * USD)]


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "26-01", "2026-00", "2026-01-01", "²026-01", ""])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(BadMonth, match="YYYY-MM"):
        read_month(text)


def test_a_month_ends_where_the_next_begins() -> None:
    assert str(read_month("2026-12").end) == "2027-01-01"
    assert str(month_before(date(2026, 1, 31))) == "2025-12"
