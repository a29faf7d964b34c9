"""Money that is held: spent + held never passes a hard budget, and what is held returns to 0."""

from __future__ import annotations

import contextlib
import copy
import inspect
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tenantry.domain.allowances import Allowance, Sold
from tenantry.domain.budgets import Budget, Cap, Raise
from tenantry.domain.holds import PERIODS_KEPT_MAX, Account, Hold, Short, place, settle_plainly, take_plainly
from tenantry.domain.periods import period_of
from tenantry.domain.plans import Dated, Terms

DAY_US = 86_400 * 1_000_000
UTC = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


NOON = at("2026-11-24T12:00:00+01:00")


def budget(month: int, *, mode: str = "hard", raises: tuple[Raise, ...] = (), day: int | None = None) -> Budget:
    caps = (Cap("month", month, raises),)
    return Budget(caps if day is None else (*caps, Cap("day", day, ())), mode)


def account(
    month: int, spent: int = 0, *, mode: str = "hard", day: int | None = None, name: str = "tenant acme"
) -> Account:
    told = {"day": spent, "week": spent, "month": spent}
    return Account(name, budget(month, mode=mode, day=day), BERLIN, told, NOON)


def held(accounts: list[Account], nanos: int, at_us: int = NOON) -> Hold:
    hold = place(accounts, nanos, at_us)
    assert isinstance(hold, Hold)
    return hold


def refused(accounts: list[Account], nanos: int, at_us: int = NOON) -> Short:
    short = place(accounts, nanos, at_us)
    assert isinstance(short, Short)
    return short


def test_a_hold_fits_to_the_last_nano() -> None:
    acme = account(100, spent=40)
    held([acme], 60)
    short = refused([acme], 1)
    assert short == Short("tenant acme", "month", 100, 40, 60, 1, 1, at("2026-12-01T00:00:00+01:00"))
    assert short.fits_later
    assert short.left_nanos == 0


def test_all_accounts_give_or_none_does() -> None:
    tenant, key = account(100), account(10, name="key prod")
    assert refused([tenant, key], 11).holder == "key prod"
    assert tenant.held_nanos == key.held_nanos == 0
    hold = held([tenant, key], 10)
    assert tenant.held_nanos == key.held_nanos == 10
    assert not hold.extend(1, NOON)
    assert hold.short is not None
    assert hold.short.missing_nanos == 1
    assert tenant.held_nanos == key.held_nanos == 10


def test_of_several_caps_the_one_that_resets_last_is_told() -> None:
    assert refused([account(50, spent=50, day=50)], 1).period == "month"
    short = refused([account(100, spent=50, day=50)], 1)
    assert (short.period, short.resets_at_us) == ("day", at("2026-11-25T00:00:00+01:00"))


def test_a_hold_ends_once() -> None:
    acme = account(100)
    hold = held([acme], 50)
    assert hold.settle(20, NOON)
    assert not hold.settle(20, NOON)
    assert not hold.void()
    assert not hold.extend(1, NOON)
    assert not hold.resize(0, NOON)
    assert (acme.spent["month"], acme.held_nanos) == (20, 0)


def test_a_void_hold_costs_nothing() -> None:
    acme = account(100)
    hold = held([acme], 50)
    assert hold.void()
    assert not hold.settle(20, NOON)
    assert (acme.spent["month"], acme.held_nanos) == (0, 0)


def test_a_cost_above_its_hold_is_counted_and_blocks_the_next() -> None:
    acme = account(100)
    held([acme], 50).settle(130, NOON)
    assert (acme.spent["month"], acme.excess_nanos) == (130, 80)
    assert not refused([acme], 0).fits_later


def test_a_soft_budget_only_says_so() -> None:
    acme = account(100, mode="soft")
    assert not held([acme], 100).over
    hold = held([acme], 1)
    assert hold.over
    assert hold.extend(10**12, NOON)


def test_a_hard_key_of_a_soft_tenant_still_refuses() -> None:
    assert refused([account(1, mode="soft"), account(5, name="key prod")], 6).holder == "key prod"


def test_resize_gives_back_what_is_not_needed() -> None:
    acme = account(100, spent=99)
    hold = held([acme], 1)
    acme.apply(budget(10), NOON)
    assert hold.resize(0, NOON)
    assert acme.held_nanos == 0
    assert not hold.resize(1, NOON)
    assert hold.is_open


@pytest.mark.parametrize("nanos", [-1, -(10**12)])
def test_amounts_below_zero_are_faults(nanos: int) -> None:
    acme = account(100)
    hold = held([acme], 1)
    for call in (
        lambda: place([acme], nanos, NOON),
        lambda: hold.extend(nanos, NOON),
        lambda: hold.resize(nanos, NOON),
    ):
        with pytest.raises(ValueError, match="hold"):
            call()
    with pytest.raises(ValueError, match="costs"):
        hold.settle(nanos, NOON)
    assert acme.held_nanos == 1


def test_a_new_month_starts_at_zero_and_open_holds_go_on() -> None:
    acme = account(100, spent=90)
    hold = held([acme], 10)
    december = at("2026-12-01T00:00:00+01:00")
    assert isinstance(place([acme], 1, december - 1), Short)
    assert refused([acme], 91, december).spent_nanos == 0
    hold.settle(10, december)
    assert acme.spent["month"] == 10


@pytest.mark.parametrize("days", [1, 8, 40, 400, -1, -8, -40, -400])
def test_a_clock_that_jumps_and_returns_finds_what_was_spent(days: int) -> None:
    acme = account(100, spent=100)
    there = NOON + days * DAY_US
    if abs(days) > 31:
        held([acme], 60, there).settle(60, there)
        assert refused([acme], 41, there).spent_nanos == 60
    else:
        acme.advance(there)
    assert refused([acme], 1, NOON).spent_nanos == acme.spent["month"] == acme.spent["day"] == 100
    if abs(days) > 31:
        assert refused([acme], 41, there).spent_nanos == 60


def test_a_clock_that_shows_many_times_is_forgiven_those_used_last() -> None:
    acme = account(100, spent=90)
    for number in range(1, PERIODS_KEPT_MAX + 1):
        acme.advance(NOON + number * 40 * DAY_US)
    assert refused([acme], 11, NOON).spent_nanos == 90
    for number in range(1, 1000):
        acme.advance(NOON + number * 40 * DAY_US)
    assert len(acme._others) <= 3 * PERIODS_KEPT_MAX  # pyright: ignore[reportPrivateUsage] -- it is bounded


def test_a_correction_counts_in_its_own_period_whichever_the_account_is_in() -> None:
    acme = account(100, spent=50)
    december = at("2026-12-01T00:00:00+01:00")
    acme.advance(december)
    acme.correct(7, NOON)
    acme.correct(3, december)
    acme.correct(5, december + 40 * DAY_US)  # it has begun, and nobody has asked since
    acme.correct(9, NOON - 100 * DAY_US)  # of nothing that is known
    assert acme.spent["month"] == 3
    acme.advance(NOON)
    assert (acme.spent["month"], acme.spent["day"]) == (57, 57)
    acme.advance(december + 40 * DAY_US)
    assert acme.spent["month"] == 5


def test_what_the_ledger_says_of_a_period_is_taken_where_the_account_has_not_been() -> None:
    acme = account(100, spent=50)
    october = NOON - 40 * DAY_US
    periods = {kind: period_of(kind, october, BERLIN) for kind in ("day", "week", "month")}
    acme.learn(periods, {"month": 80})
    acme.learn(periods, {"month": 1})
    assert acme.spent["month"] == 50
    acme.advance(october)
    assert acme.spent == {"day": 0, "week": 0, "month": 80}
    acme.advance(NOON)
    assert acme.spent["month"] == 50


@pytest.mark.parametrize(
    ("now", "midnight"),
    [
        ("2026-10-25T12:00:00+01:00", "2026-10-26T00:00:00+01:00"),  # a day of 25 hours
        ("2026-03-29T01:00:00+01:00", "2026-03-30T00:00:00+02:00"),  # a day of 23 hours
    ],
)
def test_a_day_ends_at_midnight_of_the_zone(now: str, midnight: str) -> None:
    acme = Account("tenant acme", budget(10**9, day=10), BERLIN, {"day": 10}, at(now))
    assert refused([acme], 1, at(midnight) - 1).resets_at_us == at(midnight)
    held([acme], 10, at(midnight))


def test_the_plain_way_decides_within_the_periods_of_both_accounts_and_not_at_their_ends() -> None:
    for short in (0, 1):  # one account's day begins and ends within the other's periods
        pair = [account(100, day=100), account(100, day=100)]
        pair[short].starts_us, pair[short].ends_us = NOON, NOON + 10
        for at_us, is_within in ((NOON - 1, False), (NOON, True), (NOON + 9, True), (NOON + 10, False)):
            assert take_plainly(pair[0], pair[1], 7, at_us) is is_within
            assert settle_plainly(pair[0], pair[1], 7 * is_within, 3, at_us) is is_within
            assert [one.held_nanos for one in pair] == [0, 0]
        assert [one.since_nanos for one in pair] == [6, 6]


def test_a_raise_holds_for_its_time() -> None:
    more = Raise(50, NOON, NOON + 10)
    acme = Account("tenant acme", budget(100, raises=(more,)), UTC, {"month": 100}, NOON - 1)
    refused([acme], 1, NOON - 1)
    hold = held([acme], 50, NOON)
    refused([acme], 1, NOON)
    assert not hold.extend(1, NOON + 10)
    hold.settle(50, NOON + 10)
    assert acme.spent["month"] == 150


def test_a_cap_that_is_set_later_knows_what_was_spent() -> None:
    acme = account(100)
    held([acme], 30).settle(30, NOON)
    acme.apply(budget(100, day=40), NOON)
    assert refused([acme], 11).period == "day"
    held([acme], 10)


@pytest.mark.parametrize("amount", [1, 7, 100, 333, 1_000])
def test_what_was_told_of_a_use_is_true_up_to_the_nano_before_the_next_percent(amount: int) -> None:
    for before in range(0, amount + 20, max(1, amount // 30)):
        acme = account(amount, spent=before, day=3 * amount)
        for nanos in (0, 1, amount // 5):
            acme.spend(nanos, NOON)
            until = acme.told_until_nanos()
            now, last, first = (
                [(before + since) * 100 // cap.amount_nanos for cap in acme.budget.caps]
                for since in (acme.since_nanos, until - 1, until)
            )
            assert now == last != first


def test_another_time_zone_ends_the_period_at_its_own_midnight() -> None:
    acme = account(100, spent=60)
    hold = held([acme], 40)
    acme.move(ZoneInfo("Asia/Tokyo"))
    assert refused([acme], 1).resets_at_us == at("2026-12-01T00:00:00+09:00")
    hold.settle(40, at("2026-12-01T00:00:00+09:00"))
    assert acme.spent["month"] == 40


def test_no_cap_refuses_nothing() -> None:
    free = Account("tenant acme", Budget((), "hard"), BERLIN, {}, NOON)
    assert not held([free], 10**15).over
    assert not held([], 10**15).over
    assert free.utilization(NOON) is None


@pytest.mark.parametrize("concurrent", [1, 8, 64, 200, 512])
def test_a_cap_worth_fifty_calls_gives_fifty(concurrent: int) -> None:
    acme = account(50 * 7)
    done = 0
    while True:
        holds = [found for _ in range(concurrent) if isinstance(found := place([acme], 7, NOON), Hold)]
        if not holds:
            break
        done += sum(hold.settle(7, NOON) for hold in holds)
    assert (done, acme.spent["month"], acme.held_nanos) == (50, 350, 0)


def twin_of(account: Account) -> Account:
    """The same account once more. Attribute by attribute: what is compiled cannot be copied otherwise."""
    twin = Account(account.holder, Budget((), "hard"), account.zone, {}, NOON)
    for name, kind in vars(Account).items():
        if inspect.isdatadescriptor(kind) and not isinstance(kind, property) and not name.startswith("__"):
            with contextlib.suppress(AttributeError):  # a property, in the compiled form
                setattr(twin, name, copy.deepcopy(getattr(account, name)))
    return twin


class Storm(RuleBasedStateMachine):
    """Any order of place, extend, resize, settle, void, twice and late, over rollovers, new budgets and clock jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.tenant = account(1000, day=400)
        self.key = account(300, name="key prod")
        self.accounts = [self.tenant, self.key]
        self.holds: list[tuple[Hold, list[Account]]] = []
        self.spent: dict[int, int] = {}  # of the tenant, by month
        self.used: list[int] = []
        self.allowance: Allowance | None = None

    def fits(self, accounts: list[Account]) -> None:
        """What must be true right after money was given."""
        for each in accounts:
            for cap in each.budget.caps:
                assert each.spent[cap.period] + each.held_nanos <= each.amount(cap)
            if "plan" in each.periods:
                assert each.spent["plan"] <= each.spent["month"]

    @rule(nanos=st.integers(0, 500), both=st.booleans())
    def place(self, nanos: int, both: bool) -> None:
        accounts = self.accounts if both else self.accounts[:1]
        before = [each.held_nanos for each in accounts]
        twins = [twin_of(each) for each in self.accounts]
        is_plain = take_plainly(twins[0], twins[1], nanos, self.now)
        found = place(accounts, nanos, self.now)
        if both:  # what is taken in one look is what is taken; where it is not, nothing was
            assert isinstance(found, Hold) or not is_plain
            expected = [each.held_nanos for each in accounts] if is_plain else before
            assert [each.held_nanos for each in twins] == expected
        if isinstance(found, Hold):
            self.holds.append((found, accounts))
            self.fits(accounts)
        else:
            assert before == [each.held_nanos for each in accounts]
            assert found.missing_nanos > 0

    @rule(which=st.integers(0, 50), nanos=st.integers(0, 500), is_total=st.booleans())
    def grow(self, which: int, nanos: int, is_total: bool) -> None:
        if not self.holds:
            return
        hold, accounts = self.holds[which % len(self.holds)]
        before, was_open = hold.held_nanos, hold.is_open
        given = hold.resize(nanos, self.now) if is_total else hold.extend(nanos, self.now)
        assert not (given and not was_open)
        if not given:
            assert hold.held_nanos == before
        elif hold.held_nanos > before:
            self.fits(accounts)

    @rule(which=st.integers(0, 50), cost=st.integers(0, 500))
    def settle(self, which: int, cost: int) -> None:
        if not self.holds:
            return
        hold, accounts = self.holds[which % len(self.holds)]
        was_open, was_held = hold.is_open, hold.held_nanos
        twins = [twin_of(each) for each in accounts] if was_open and len(accounts) == 2 else []
        is_plain = bool(twins) and settle_plainly(twins[0], twins[1], was_held, cost, self.now)
        excess = [each.excess_nanos for each in accounts]
        assert hold.settle(cost, self.now) is was_open
        if was_open:
            key = period_of("month", self.now, BERLIN).start_us
            self.spent[key] = self.spent.get(key, 0) + cost
            self.used = [one for one in self.used if one != key] + [key]
        if is_plain:
            for each, twin in zip(accounts, twins, strict=True):
                assert (each.spent, each.held_nanos, each.excess_nanos) == (
                    twin.spent,
                    twin.held_nanos,
                    twin.excess_nanos,
                )
        for each, before in zip(accounts, excess, strict=True):
            assert each.excess_nanos - before == (max(0, cost - was_held) if was_open else 0)

    @rule(which=st.integers(0, 50))
    def void(self, which: int) -> None:
        if self.holds:
            hold, _ = self.holds[which % len(self.holds)]
            was_open = hold.is_open
            assert hold.void() is was_open

    @rule(days=st.integers(-40, 40))
    def jump(self, days: int) -> None:
        self.now += days * DAY_US

    @rule(month=st.integers(0, 2000), day=st.none() | st.integers(0, 500), is_key=st.booleans())
    def change(self, month: int, day: int | None, is_key: bool) -> None:
        self.accounts[is_key].apply(budget(month, day=day), self.now, None if is_key else self.allowance)

    @rule(included=st.integers(1, 1000), day=st.integers(1, 28), is_on=st.booleans())
    def put_on_a_plan(self, included: int, day: int, is_on: bool) -> None:
        """Of each month the days from one on are another window; what is beyond is blocked, or nothing is."""
        versions = (Dated(None, Terms(included_nanos=included, overage="block")),)
        month = date.fromisoformat(period_of("day", self.now, BERLIN).label).replace(day=day)
        later = (Dated(month, Terms(included_nanos=2 * included, overage="block")),)
        sold = (Sold("pro", versions + later),)
        self.allowance = Allowance((Dated(date(2020, 1, 1), "pro"),), sold) if is_on else None
        self.tenant.apply(budget(700, day=400), self.now, self.allowance)

    @invariant()
    def held_is_the_sum_of_open_holds(self) -> None:
        for each in self.accounts:
            assert each.held_nanos == sum(hold.held_nanos for hold, accounts in self.holds if each in accounts)
            assert all(spent >= 0 for spent in each.spent.values())

    def teardown(self) -> None:
        for hold, _ in self.holds:
            hold.settle(0, self.now)
        assert [each.held_nanos for each in self.accounts] == [0, 0]


TestStorm = Storm.TestCase
TestStorm.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
