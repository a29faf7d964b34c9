"""What is held for gateways that had a tenant before: each doubt once, until what they spent is known."""

from __future__ import annotations

from random import Random
from zoneinfo import ZoneInfo

import pytest

from tenantry.domain.budgets import Budget, Cap
from tenantry.domain.directory import GatewayKey, KeyStatus, Tenant, TenantStatus
from tenantry.domain.doubts import Doubt, Taken, found_since, weigh
from tenantry.domain.holds import Account
from tenantry.domain.limits import Limits
from tenantry.domain.opening import Opening
from tenantry.domain.prices import load_default_prices
from tenantry.domain.suspense import Suspense
from tenantry.domain.till import Till

NOON = 1_795_608_000_000_000
STARTS = {"day": NOON - 1, "week": NOON - 1, "month": NOON - 1}
KEY = GatewayKey("key_1", "acme", b"", KeyStatus.ACTIVE)
ACME = Tenant(
    "acme",
    "acme",
    "Acme",
    TenantStatus.ACTIVE,
    "test",
    Limits(),
    None,
    budget=Budget((Cap("month", 1_000, ()),), "hard"),
)


class Held:
    """A till with one account, worth 1,000, and what is held in it for others."""

    def __init__(self) -> None:
        self.till = Till(load_default_prices(), ZoneInfo("UTC"), Opening(NOON), [])
        self.account: Account = self.till.accounts_of(ACME, KEY)[0]
        self.suspense = Suspense(self.till)

    def enter(self, doubt: Doubt) -> Doubt:
        self.suspense.enter([doubt], {"acme"}, NOON)
        return doubt

    def look(self, before: Doubt, after: Doubt) -> None:
        self.suspense.look(before, after, NOON)

    def lend(self, wanted: Taken) -> Taken | None:
        """It stands in the store at once."""
        found = self.suspense.lend(wanted, NOON)
        return found[0] if found is not None and self.suspense.lent(*found, is_lent=True) else None

    @property
    def left(self) -> int:
        return self.account.left_nanos(NOON)


@pytest.fixture
def held() -> Held:
    return Held()


def taken(nanos: int, gateway_id: str = "gw-a") -> Taken:
    return Taken("acme", "", "nanos", gateway_id, nanos, NOON)


def doubt(nanos: int, known: int = 0, *, is_known_whole: bool = False, lost_at_us: int | None = None) -> Doubt:
    kinds = dict.fromkeys(STARTS, known)
    return weigh(taken(nanos), known, kinds, STARTS, is_known_whole=is_known_whole, lost_at_us=lost_at_us)


def test_what_is_taken_and_not_known_is_held_until_it_is_found(held: Held) -> None:
    first = held.enter(doubt(400, 100))
    assert held.left == 700
    held.look(first, doubt(400, 250))
    assert (held.left, held.account.spent["month"]) == (700, 150)
    [second] = held.suspense.all()
    held.look(second, doubt(400, 250, is_known_whole=True))
    assert (held.left, held.suspense.all()) == (850, [])


def test_what_a_lost_machine_had_taken_counts_as_spent(held: Held) -> None:
    first = held.enter(doubt(400, 100))
    held.look(first, doubt(400, 100, lost_at_us=NOON))
    assert (held.left, held.account.spent["month"], held.account.unknown_nanos) == (700, 300, 0)


def test_what_is_booked_of_a_machine_that_was_declared_lost_counts_once(held: Held) -> None:
    first = held.enter(doubt(400, 100, lost_at_us=NOON))
    assert (held.left, held.account.spent["month"]) == (700, 300)
    held.look(first, doubt(400, 250, lost_at_us=NOON))
    assert (held.left, held.account.spent["month"]) == (700, 300)
    [second] = held.suspense.all()
    held.look(second, doubt(400, 260, is_known_whole=True))
    assert (held.left, held.account.spent["month"], held.suspense.all()) == (840, 160, [])


def test_what_is_booked_of_a_lost_machine_in_another_period_is_no_longer_of_this_one(held: Held) -> None:
    first = held.enter(doubt(400, lost_at_us=NOON))
    after = doubt(400, 300, lost_at_us=NOON)
    after.known = {"day": 0, "week": 0, "month": 300}
    held.look(first, after)
    assert held.account.spent == {"day": 100, "week": 100, "month": 400}


def test_what_was_lost_counts_nothing_in_a_period_that_began_later(held: Held) -> None:
    first = held.enter(doubt(400, lost_at_us=NOON))
    after = doubt(400, 300, is_known_whole=True)
    after.starts_us = {"day": NOON + 1, "week": NOON - 1, "month": NOON - 1}
    after.known = {"day": 50, "week": 300, "month": 300}
    assert found_since(first, after) == {"day": 50, "week": -100, "month": -100}


def test_what_was_lost_in_a_period_before_counts_nothing_at_who_takes_over_in_this_one(held: Held) -> None:
    lost = doubt(400, lost_at_us=NOON - 2)
    lost.starts_us = {"day": NOON - 1, "week": NOON - 3, "month": NOON - 3}
    held.enter(lost)
    assert held.account.spent == {"day": 0, "week": 400, "month": 400}


def test_a_machine_that_was_declared_lost_and_lives_is_in_doubt_again(held: Held) -> None:
    first = held.enter(doubt(400, 100, lost_at_us=NOON))
    held.look(first, doubt(400, 150))
    assert (held.left, held.account.spent["month"], held.account.unknown_nanos) == (700, 50, 250)


def test_a_doubt_that_is_entered_again_is_held_once(held: Held) -> None:
    held.enter(doubt(400))
    held.enter(doubt(300))
    assert held.left == 700
    held.suspense.lose({"acme"})
    assert held.left == 1_000


def test_of_a_tenant_that_was_lost_meanwhile_nothing_more_is_found(held: Held) -> None:
    first = held.enter(doubt(400))
    held.suspense.lose({"bolt"})
    held.suspense.lose({"acme"})
    held.look(first, doubt(400, 250))
    assert (held.left, held.account.spent["month"]) == (1_000, 0)


def test_what_is_lent_is_held_first_and_never_more_than_is_left(held: Held) -> None:
    first = held.enter(doubt(400))
    assert held.lend(taken(500)) == taken(500)
    assert held.left == 500
    held.look(first, doubt(400, 400, is_known_whole=True))
    assert held.left == 500  # what was looked at before it was lent says nothing of it
    assert held.lend(taken(5_000)) == taken(1_000)
    assert held.lend(taken(5_000)) is None
    assert held.lend(taken(500, "gw-c")) is None


def test_a_look_while_something_is_being_lent_does_not_forget_it(held: Held) -> None:
    first = held.enter(doubt(400))
    found = held.suspense.lend(taken(500), NOON)
    assert found is not None
    held.look(first, doubt(400, 150))
    assert held.left == 500
    assert held.suspense.lent(*found, is_lent=True)
    [second] = held.suspense.all()
    assert (second.nanos, held.left) == (350, 500)


def test_what_could_not_be_lent_is_held_no_longer_and_who_wanted_it_is_not_told(held: Held) -> None:
    held.enter(doubt(400))
    found = held.suspense.lend(taken(500), NOON)
    assert found is not None
    assert not held.suspense.lent(*found, is_lent=False)
    assert held.left == 600


def test_what_cost_more_than_was_held_for_it_is_held_when_it_is_told(held: Held) -> None:
    held.enter(doubt(400, 400))
    [first] = held.suspense.all()
    held.suspense.look(first, doubt(400, 400), NOON, may_grow=True)
    [second] = held.suspense.all()
    held.look(second, doubt(600, 400))
    assert held.account.unknown_nanos == 200
    [third] = held.suspense.all()
    held.look(third, doubt(600, 600))
    assert (held.left, held.suspense.all()) == (800, [])


@pytest.mark.parametrize("seed", range(40))
def test_in_any_history_of_answers_that_stayed_all_that_was_told_of_is_counted(seed: int) -> None:
    """One gateway has left: its answers end (some above what was held), are booked, are told of, get more; and the next
    owner looks, in any order. At each look it counts all that the store had by then."""
    random, held = Random(seed), Held()
    used, known, told = 300, 0, 300
    held.enter(doubt(told))
    for _ in range(60):
        event = random.choice(("costs", "costs", "books", "tells", "lends", "looks"))
        if event == "costs":
            used += random.choice((0, 1, 40))
        elif event == "books":
            known = random.randint(known, used)
        elif event == "tells":
            told = max(told, used)
        elif event == "lends":
            lent = held.lend(taken(told + 30))
            told = max(told, lent.taken) if lent is not None else told
        else:
            for one in held.suspense.all():
                held.suspense.look(one, doubt(told, known), NOON, may_grow=True)
            counted = held.account.spent["month"] + held.account.unknown_nanos
            assert counted == max(told, known), (seed, used, known, told)
