"""What a plan includes: as the bill has it, by its days, and what is beyond it refused to the nano-dollar."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings

from tenantry.billing.calculation import calculate
from tenantry.billing.months import Sold as Billed
from tenantry.billing.months import runs_of
from tenantry.billing.rating import BEYOND
from tenantry.billing.usage import Used
from tenantry.domain.allowances import Allowance, Sold, Spent, is_bounded, start_of
from tenantry.domain.budget_answers import refusal_message
from tenantry.domain.budgets import Budget, Cap, Raise
from tenantry.domain.holds import TOKENS, Account, Hold, Short, place, take_plainly
from tenantry.domain.plans import Dated, Terms
from tests.unit.billing.sales import NOVEMBER, USD, sold, usage, used, version
from tests.unit.billing.sales import on as sale

BERLIN = ZoneInfo("Europe/Berlin")
NONE = Budget((), "hard")
KEY = Account("key key_1", NONE, BERLIN, {}, 0)
PRO = Terms(included_nanos=60 * USD, overage="block")
TEAM = Terms(included_nanos=140 * USD, overage="block")
SLOW = Terms(included_nanos=60 * USD, overage="throttle", throttle_tier="slow")


def at(day: int, month: int = 11, hour: int = 12) -> int:
    return int(datetime(2026, month, day, hour, tzinfo=BERLIN).timestamp()) * 1_000_000


def on(*plans: tuple[str | None, int], before: tuple[Spent, ...] = (), **terms: Terms) -> Allowance:
    """On these plans, each from a day of November on."""
    known = {"pro": PRO, "team": TEAM, "slow": SLOW} | terms
    assigned = tuple(Dated(date(2026, 11, day), plan) for plan, day in plans)
    return Allowance(assigned, tuple(Sold(name, (Dated(None, one),)) for name, one in known.items()), before)


def account(allowance: Allowance, spent: int = 0, budget: Budget = NONE, day: int = 24, unit: str = "nanos") -> Account:
    told = {"day": 0, "week": 0, "month": spent}
    return Account("tenant acme", budget, BERLIN, told, at(day), allowance, unit)


def wanted(acme: Account, nanos: int, at_us: int) -> Hold | Short:
    """What `place` says; the plain way says the same."""
    before = acme.held_nanos
    is_plain = take_plainly(acme, KEY, nanos, at_us)
    if is_plain:
        acme.held_nanos -= nanos
        KEY.held_nanos -= nanos
    found = place([acme], nanos, at_us)
    assert isinstance(found, Hold) or not is_plain
    assert isinstance(found, Hold) or acme.held_nanos == before
    return found


def allowance_of(of: Billed) -> Allowance:
    """What a gateway knows of the same plans."""
    plans = {one.plan for one in of.versions}
    return Allowance(
        tuple(Dated(one.from_day, one.plan) for one in of.assigned),
        tuple(
            Sold(plan, tuple(Dated(one.from_day, one.terms) for one in of.versions if one.plan == plan))
            for plan in sorted(plans)
        ),
    )


@settings(max_examples=150, deadline=None)
@given(sold(never_billed=True))
def test_every_day_belongs_to_a_window_whose_part_is_that_of_the_bill(of: Billed) -> None:
    allowance = allowance_of(of)
    stretches = of.stretches(NOVEMBER)
    for number in range(NOVEMBER.days):
        day = NOVEMBER.first + timedelta(days=number)
        window = allowance.window(start_of(day, BERLIN) + 3_600_000_000, BERLIN)
        own = [one for one in stretches if window.start_us <= start_of(one.first, BERLIN) < window.end_us]
        assert any(one.first <= day < one.end for one in own)
        assert start_of(own[0].first, BERLIN) == window.start_us
        assert start_of(own[-1].end, BERLIN) == window.end_us
        terms = own[0].terms
        is_bound = terms is not None and is_bounded(terms)
        assert (window.nanos is not None or window.tokens is not None) is is_bound
        if terms is not None and is_bound:
            whole = terms.included_tokens or terms.included_nanos
            assert (window.tokens or window.nanos or 0) == sum(one.share(whole) for one in own)


@settings(max_examples=200, deadline=None)
@given(sold(never_billed=True), usage())
def test_what_the_bill_has_beyond_a_window_is_what_the_gateway_had_not_given(of: Billed, some: list[Used]) -> None:
    """Whatever parts the month besides: other slots, the end of a discount."""
    allowance = allowance_of(of)
    some = [one for one in some if one.outcome == "settled"]
    for run in runs_of(of.stretches(NOVEMBER)):
        window = allowance.window(start_of(run[0].first, BERLIN) + 3_600_000_000, BERLIN)
        terms, within = run[0].terms, [one for one in some if run[0].first <= one.first < run[-1].end]
        if terms is None or not is_bounded(terms) or run[0].is_trial:
            continue
        is_beyond = any(line.kind == BEYOND for line in calculate(NOVEMBER, run, within).lines)
        counted = sum(one.cost_nanos if window.tokens is None else one.tokens for one in within)
        most = window.nanos if window.tokens is None else window.tokens
        assert is_beyond is (counted > (most or 0))


def test_a_slot_more_or_a_discount_that_ends_takes_nothing_of_what_is_included() -> None:
    """Ten dollars until the 15th, 60 after it: 60 of them are within the plan, whatever changes in between."""
    terms = Terms(included_nanos=60 * USD, slots=1, discount_percent="10", discount_until="2026-11-20")
    assigned = [sale("pro", date(2026, 1, 1)), sale("pro", date(2026, 11, 16), 3)]
    some = [used(date(2026, 11, 2), nanos=10 * USD), used(date(2026, 11, 25), nanos=60 * USD)]
    bill = calculate(NOVEMBER, Billed(assigned, [version("pro", terms)]).stretches(NOVEMBER), some)
    assert [(line.kind, line.nanos) for line in bill.lines] == [("included", 0), ("beyond", 10 * USD)]


def test_usage_is_given_to_the_last_nano_of_what_is_included_and_no_further() -> None:
    acme = account(on(("pro", 1)), spent=60 * USD - 7)
    assert isinstance(wanted(acme, 7, at(24)), Hold)
    found = wanted(acme, 1, at(24))
    assert isinstance(found, Short)
    assert (found.plan, found.is_hard, found.fits_later) == ("pro", True, True)


def test_a_plan_that_blocks_refuses_under_a_soft_budget_too() -> None:
    acme = account(on(("pro", 1)), 60 * USD, Budget((Cap("month", 10 * USD, ()),), "soft"))
    found = wanted(acme, 1, at(24))
    assert isinstance(found, Short)
    assert found.plan == "pro"


@pytest.mark.parametrize(("month_usd", "named"), [(50, ""), (60, ""), (61, "pro"), (70, "pro")])
def test_of_budget_and_plan_the_lower_one_binds_and_is_named(month_usd: int, named: str) -> None:
    acme = account(on(("pro", 1)), 80 * USD, Budget((Cap("month", month_usd * USD, ()),), "hard"))
    found = wanted(acme, 1, at(24))
    assert isinstance(found, Short)
    assert found.plan == named
    assert ("plan pro" in refusal_message(found, BERLIN, "")) is bool(named)


def test_the_words_say_how_much_which_plan_until_when_and_what_to_do() -> None:
    found = wanted(account(on(("pro", 1)), 60 * USD), 1, at(24))
    assert isinstance(found, Short)
    assert refusal_message(found, BERLIN, "ops@agency.example") == (
        "The $60.00 of usage that plan pro includes for tenant acme is used up; it begins anew Dec 1 00:00 CET; "
        "ask ops@agency.example for a larger plan."
    )
    found = wanted(account(on(("pro", 1)), 59 * USD), 2 * USD, at(24))
    assert isinstance(found, Short)
    told = refusal_message(found, BERLIN, "")
    assert told.startswith(
        "This request may take $2.00, and $1.00 of the $60.00 of usage that plan pro includes is left"
    )


def test_a_new_month_begins_with_all_of_it() -> None:
    acme = account(on(("pro", 1)), 60 * USD)
    assert isinstance(wanted(acme, 1, at(30, hour=23)), Short)
    assert isinstance(wanted(acme, 60 * USD, at(1, month=12, hour=0)), Hold)


def test_a_bigger_plan_lifts_the_block_at_once_and_a_smaller_one_sets_it() -> None:
    acme = account(on(("pro", 1)), 60 * USD)
    assert isinstance(wanted(acme, 1, at(24)), Short)
    acme.apply(NONE, at(24), on(("team", 1)))
    assert isinstance(wanted(acme, 80 * USD, at(24)), Hold)
    acme.apply(NONE, at(24), on(("pro", 1)))
    assert isinstance(wanted(acme, 1, at(24)), Short)
    acme.apply(NONE, at(24), None)
    assert isinstance(wanted(acme, 10**6 * USD, at(24)), Hold)


def test_a_change_in_the_month_begins_at_its_midnight_with_its_part_for_its_days() -> None:
    acme = account(on(("pro", 1), ("team", 25)), 48 * USD - 1)  # 24 of 30 days of 60 dollars
    assert isinstance(wanted(acme, 1, at(24, hour=23)), Hold)
    assert isinstance(wanted(acme, 1, at(24, hour=23)), Short)
    acme.advance(at(25, hour=0))
    assert isinstance(wanted(acme, 28 * USD - 1, at(25, hour=0)), Hold)  # 6 of 30 days of 140, less what is held
    assert isinstance(wanted(acme, 1, at(25, hour=0)), Short)


def test_a_change_of_today_counts_what_was_spent_since_midnight() -> None:
    told = {"day": 3 * USD, "week": 9 * USD, "month": 40 * USD}
    acme = Account("tenant acme", NONE, BERLIN, told, at(24), on(("pro", 1)))
    acme.apply(NONE, at(24), on(("pro", 1), ("team", 24)))
    assert acme.spent["plan"] == 3 * USD


def test_a_change_of_a_day_that_is_past_counts_what_was_spent_since_it() -> None:
    before = (Spent(date(2026, 11, 11), 15 * USD, 0),)
    for acme in (account(on(("pro", 1)), 40 * USD), account(on(("pro", 1), ("team", 11), before=before), 40 * USD)):
        acme.apply(NONE, at(24), on(("pro", 1), ("team", 11), before=before))
        assert acme.spent["plan"] == 25 * USD
    # Where that is not known, less is left rather than more.
    acme = account(on(("pro", 1), ("team", 11)), 40 * USD)
    assert acme.spent["plan"] == 40 * USD


def test_a_correction_of_a_day_before_the_change_is_not_that_of_the_window() -> None:
    acme = account(on(("pro", 1), ("team", 25)), 40 * USD)
    acme.advance(at(26))
    acme.correct(5 * USD, at(3))
    assert (acme.spent["plan"], acme.spent["month"]) == (0, 45 * USD)
    acme.correct(-1, at(25))
    assert acme.spent["plan"] == -1


def test_what_was_no_more_in_the_month_may_have_been_so_before_the_window() -> None:
    acme = account(on(("pro", 1), ("team", 24)))
    acme.find(dict.fromkeys(("day", "week", "month"), 30 * USD), at(24))
    acme.find({"week": -10 * USD, "month": -10 * USD}, at(24))
    assert (acme.spent["month"], acme.spent["plan"]) == (20 * USD, 30 * USD)


def test_a_raise_lifts_the_block_for_its_time() -> None:
    more = Raise(5 * USD, at(24), at(25))
    acme = account(on(("pro", 1)), 60 * USD, Budget((), "hard", (more,)))
    assert isinstance(wanted(acme, 5 * USD, at(24)), Hold)
    assert isinstance(wanted(acme, 1, at(25)), Short)


def test_a_plan_that_throttles_refuses_nothing_and_says_when_it_is_beyond() -> None:
    acme = account(on(("slow", 1)), 60 * USD - 1)
    found = wanted(acme, 1, at(24))
    assert isinstance(found, Hold)
    assert not acme.is_beyond(at(24))
    found.settle(1, at(24))
    assert acme.is_beyond(at(24))
    assert acme.throttle_tier == "slow"
    assert isinstance(wanted(acme, USD, at(24)), Hold)
    assert not acme.is_beyond(at(1, month=12))


def test_fair_use_and_days_without_a_plan_have_no_bound() -> None:
    for allowance in (on(("fair", 1), fair=Terms(fair_use=True, overage="block")), on(("pro", 1), (None, 20))):
        acme = account(allowance)
        assert isinstance(wanted(acme, 10**6 * USD, at(24)), Hold)
        assert acme.utilization(at(24)) is None


def test_an_account_of_tokens_counts_tokens_alone() -> None:
    tokens = on(("many", 1), many=Terms(included_tokens=1000, overage="block"))
    acme = account(tokens, 10**6 * USD)
    assert isinstance(wanted(acme, USD, at(24)), Hold)
    counted = account(tokens, 990, unit=TOKENS)
    assert isinstance(wanted(counted, 10, at(24)), Hold)
    found = wanted(counted, 1, at(24))
    assert isinstance(found, Short)
    assert found.fits_later
    full = wanted(account(tokens, 1000, unit=TOKENS), 1, at(24))
    assert isinstance(full, Short)
    assert "The 1,000 tokens of usage that plan many includes" in refusal_message(full, BERLIN, "")


@pytest.mark.parametrize("concurrent", [1, 8, 64, 512])
def test_an_included_worth_fifty_calls_gives_fifty(concurrent: int) -> None:
    acme = account(on(("tiny", 1), tiny=Terms(included_nanos=350, overage="block")))
    done = 0
    while holds := [one for _ in range(concurrent) if isinstance(one := wanted(acme, 7, at(24)), Hold)]:
        done += sum(hold.settle(7, at(24)) for hold in holds)
    assert (done, acme.spent["plan"], acme.held_nanos) == (50, 350, 0)
