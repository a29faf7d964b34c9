"""Ceilings: what an owner has taken of a budget beforehand, and what is held for those that cannot be asked."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from tenantry.domain.allowances import Allowance, Sold
from tenantry.domain.budgets import Budget, Cap
from tenantry.domain.ceilings import ENVELOPE_NANOS_MIN, Ceiling, envelope, unknown
from tenantry.domain.directory import NO_BUDGET, Change, GatewayKey, KeyStatus, Snapshot, Tenant, TenantStatus
from tenantry.domain.holds import CEILING, Account, Hold, Short, place, take_plainly
from tenantry.domain.limits import Limits
from tenantry.domain.opening import Opening
from tenantry.domain.plans import BLOCK, Dated, Terms
from tenantry.domain.prices import load_default_prices
from tenantry.domain.till import Till

UTC = ZoneInfo("UTC")
NOON = 1_795_608_000_000_000
DAY_US = 86_400 * 1_000_000
DOLLAR = 1_000_000_000


def account(amount: int, *, spent: int = 0, mode: str = "hard", least: int = 100) -> Account:
    told = {"day": spent, "week": spent, "month": spent}
    found = Account("tenant acme", Budget((Cap("month", amount, ()),), mode), UTC, told, NOON)
    found.limit_by(Ceiling(least))
    return found


def raise_ceiling(acme: Account) -> int:
    assert acme.ceiling is not None
    taken = acme.ceiling.next_taken(acme.used_nanos, acme.left_nanos(NOON))
    acme.taken(taken, NOON)
    return taken


def held(acme: Account, nanos: int, at_us: int = NOON) -> Hold:
    found = place([acme], nanos, at_us)
    assert isinstance(found, Hold)
    return found


def short(acme: Account, nanos: int) -> Short:
    found = place([acme], nanos, NOON)
    assert isinstance(found, Short)
    return found


@pytest.mark.parametrize(
    ("left", "taken"), [(500 * DOLLAR, 10 * DOLLAR), (20 * DOLLAR, DOLLAR), (DOLLAR // 4, DOLLAR // 4), (-5, 0)]
)
def test_an_envelope_is_a_dollar_or_two_hundredths_of_what_is_left_and_never_more_than_that(
    left: int, taken: int
) -> None:
    assert envelope(left, ENVELOPE_NANOS_MIN) == taken


def test_nothing_is_granted_before_something_is_taken() -> None:
    acme = account(10_000)
    assert not take_plainly(acme, acme, 1, NOON)
    assert (short(acme, 30).period, short(acme, 30).missing_nanos) == (CEILING, 30)
    assert raise_ceiling(acme) == 230
    assert take_plainly(acme, acme, 10, NOON)


def test_more_is_asked_for_ahead_of_need() -> None:
    acme = account(10_000)
    raise_ceiling(acme)
    ceiling = acme.ceiling
    assert ceiling is not None
    held(acme, 90)
    assert not ceiling.is_asked
    held(acme, 30)
    assert ceiling.is_asked
    assert raise_ceiling(acme) == 120 + 197


def test_where_all_that_is_left_is_taken_nothing_more_is_asked_for() -> None:
    acme = account(150)
    assert [raise_ceiling(acme), held(acme, 90).held_nanos, raise_ceiling(acme)] == [100, 90, 150]
    assert held(acme, 60).held_nanos == 60
    assert acme.ceiling is not None
    assert not acme.ceiling.is_asked
    assert short(acme, 1).period == "month"


def test_what_a_budget_refuses_is_refused_by_the_budget() -> None:
    acme = account(50)
    assert short(acme, 51).period == "month"


def test_a_soft_budget_has_nothing_to_take() -> None:
    assert not account(50, mode="soft").is_limited
    assert account(50).is_limited


def test_a_new_period_changes_nothing_of_what_is_taken() -> None:
    acme = account(300, spent=250)
    raise_ceiling(acme)
    held(acme, 50).settle(50, NOON)
    later = NOON + 30 * DAY_US
    assert short(acme, 1).period == "month"
    found = place([acme], 40, later)
    assert isinstance(found, Short)
    assert found.period == CEILING
    acme.taken(acme.used_nanos + 60, later)
    assert held(acme, 40, later).held_nanos == 40


def test_what_others_may_have_spent_is_held_and_not_taken_again() -> None:
    acme = account(1_000)
    acme.doubt(unknown(400, 150))
    assert (acme.used_nanos, acme.left_nanos(NOON)) == (0, 750)
    acme.find({"day": 100, "week": 100, "month": 100}, NOON)
    acme.doubt(-100)
    assert (acme.used_nanos, acme.left_nanos(NOON), acme.spent["month"]) == (0, 750, 100)
    acme.doubt(-150)
    assert acme.left_nanos(NOON) == 900


def test_an_account_that_is_opened_again_goes_on_under_what_it_has_taken() -> None:
    acme = account(1_000)
    raise_ceiling(acme)
    hold = held(acme, 40)
    held(acme, 20).settle(15, NOON)
    acme.begin_again({"day": 300, "week": 300, "month": 300}, NOON, since_nanos=5)
    assert (acme.spent["month"], acme.held_nanos, acme.used_nanos) == (305, 40, 55)
    hold.settle(40, NOON)
    assert acme.spent["month"] == 345


@pytest.mark.parametrize("is_used", [True, False])
def test_what_is_found_after_the_end_of_a_period_counts_in_the_next_one(*, is_used: bool) -> None:
    budget = Budget((Cap("day", 10 * DOLLAR, ()),), "hard")
    till, acme = till_of(), tenant(budget)
    if is_used:
        till.accounts_of(acme, KEY)
    till.doubt("acme", "", "nanos", 5 * DOLLAR)
    later = NOON + DAY_US
    till.find("acme", "", "nanos", dict.fromkeys(("day", "week", "month"), 5 * DOLLAR), later)
    till.doubt("acme", "", "nanos", -5 * DOLLAR)
    assert till.accounts_of(acme, KEY)[0].left_nanos(later + 1) == 5 * DOLLAR


TOKENS_A_MONTH = Allowance(
    (Dated(None, "small"),),
    (Sold("small", (Dated(None, Terms(included_tokens=1_000, overage=BLOCK)),)),),
)


def test_tokens_that_others_may_have_used_are_held_from_the_first_request_on() -> None:
    till, acme = till_of(), tenant(NO_BUDGET, TOKENS_A_MONTH)
    till.doubt("acme", "", "tokens", 400)
    till.find("acme", "", "tokens", {"day": 100, "month": 100}, NOON)
    tokens = till.accounts_of(acme, KEY)[0].tokens
    assert tokens is not None
    assert (tokens.unknown_nanos, tokens.left_nanos(NOON)) == (400, 500)


def test_an_account_of_tokens_that_began_after_its_tenant_says_since_when_it_counts() -> None:
    till, acme = till_of(), tenant(NO_BUDGET)
    own = till.accounts_of(acme, KEY)[0]
    changed = tenant(NO_BUDGET, TOKENS_A_MONTH)
    till.apply(Change(Snapshot(2, {}, {"acme": changed}), None, None), NOON + 5)
    assert own.tokens is not None
    assert own.tokens.ceiling is not None
    assert own.tokens.ceiling.since_us == NOON + 5


KEY = GatewayKey("key", "acme", b"digest", KeyStatus.ACTIVE)


def till_of() -> Till:
    till = Till(load_default_prices(), UTC, Opening(NOON), [])
    till.enter("acme", Opening(NOON), {})
    return till


def tenant(budget: Budget, allowance: Allowance | None = None) -> Tenant:
    limits = Limits(sessions_max=5, requests_per_minute=None, queue_wait_ms_max=0)
    return Tenant(
        "acme", "acme", "acme", TenantStatus.ACTIVE, "test", limits, None, None, budget=budget, allowance=allowance
    )


def test_what_cost_more_than_was_held_for_it_is_to_be_taken_at_once() -> None:
    acme = account(1_000)
    assert acme.ceiling is not None
    raise_ceiling(acme)
    hold = held(acme, 40)
    assert not acme.ceiling.is_asked
    hold.settle(170, NOON)
    assert acme.ceiling.is_asked
    assert raise_ceiling(acme) == 270
