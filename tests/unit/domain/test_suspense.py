"""What is held for gateways that had a tenant before: each doubt once, until what they spent is known."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from tenantry.domain.budgets import Budget, Cap
from tenantry.domain.directory import GatewayKey, KeyStatus, Tenant, TenantStatus
from tenantry.domain.doubts import Doubt, Taken, weigh
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
        self.suspense.enter([doubt], {"acme"})
        return doubt

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
    held.suspense.look(first, doubt(400, 250))
    assert (held.left, held.account.spent["month"]) == (700, 150)
    [second] = held.suspense.all()
    held.suspense.look(second, doubt(400, 250, is_known_whole=True))
    assert (held.left, held.suspense.all()) == (850, [])


def test_what_a_lost_machine_had_taken_counts_as_spent(held: Held) -> None:
    first = held.enter(doubt(400, 100))
    held.suspense.look(first, doubt(400, 100, lost_at_us=NOON))
    assert (held.left, held.account.spent["month"], held.suspense.all()) == (700, 300, [])


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
    held.suspense.look(first, doubt(400, 250))
    assert (held.left, held.account.spent["month"]) == (1_000, 0)


def test_what_is_lent_is_held_first_and_never_more_than_is_left(held: Held) -> None:
    first = held.enter(doubt(400))
    assert held.suspense.lend(taken(500), NOON) == taken(500)
    assert held.left == 500
    held.suspense.look(first, doubt(400, 400, is_known_whole=True))
    assert held.left == 500  # what was looked at before it was lent says nothing of it
    assert held.suspense.lend(taken(5_000), NOON) == taken(1_000)
    assert held.suspense.lend(taken(5_000), NOON) is None
    assert held.suspense.lend(taken(500, "gw-c"), NOON) is None
