"""What a gateway takes of budgets beforehand, and lets go: the same decision for a real one and a simulated one."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from tenantry.domain.budgets import Budget, Cap
from tenantry.domain.ceilings import Ceiling
from tenantry.domain.directory import NO_BUDGET, Change, GatewayKey, KeyStatus, Snapshot, Tenant, TenantStatus
from tenantry.domain.doubts import Taken
from tenantry.domain.envelopes import STEP_AHEAD_NANOS, Envelopes
from tenantry.domain.holds import Account, Hold, place
from tenantry.domain.limits import Limits
from tenantry.domain.opening import Opening
from tenantry.domain.prices import load_default_prices
from tenantry.domain.till import Till

NOON = 1_795_608_000_000_000
DOLLAR = 1_000_000_000
KEY = GatewayKey("key_1", "acme", b"", KeyStatus.ACTIVE)
BUDGET = Budget((Cap("month", 10 * DOLLAR, ()),), "hard")
ACME = Tenant("acme", "acme", "Acme", TenantStatus.ACTIVE, "test", Limits(), None, budget=BUDGET)
HERE = {"acme"}


class Gateway:
    """A till with one account of ten dollars, whose ceiling has asked for more."""

    def __init__(self) -> None:
        self.asked: list[Ceiling] = []
        self.till = Till(load_default_prices(), ZoneInfo("UTC"), Opening(NOON), self.asked)
        self.account: Account = self.till.accounts_of(ACME, KEY)[0]
        self.envelopes = Envelopes(self.till, "gw-a")
        self.envelopes.since_us["acme"] = NOON
        self.ceiling.ask(0)

    @property
    def ceiling(self) -> Ceiling:
        assert self.account.ceiling is not None
        return self.account.ceiling

    def take(self) -> Taken:
        """It stands in the store at once."""
        (row,) = self.envelopes.raises(self.asked, HERE, NOON).rows
        self.envelopes.taken(row, NOON)
        return row

    def hold(self, nanos: int) -> None:
        assert isinstance(place([self.account], nanos, NOON), Hold)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def test_what_is_to_be_taken_is_an_envelope_beyond_what_is_used(gateway: Gateway) -> None:
    assert gateway.take() == Taken("acme", "", "nanos", "gw-a", DOLLAR, NOON)
    gateway.hold(DOLLAR // 4)
    assert gateway.take().taken == DOLLAR + DOLLAR // 4


def test_there_has_to_be_as_much_as_all_streams_of_a_tenant_may_need_at_once(gateway: Gateway) -> None:
    (row,) = gateway.envelopes.raises(gateway.asked, HERE, NOON, {"acme": 2 * DOLLAR}).rows
    assert row.taken == 4 * DOLLAR  # half of it is left when more is asked for


def test_nothing_is_written_where_all_that_is_left_is_taken_already(gateway: Gateway) -> None:
    gateway.account.taken(10 * DOLLAR, NOON)
    gateway.ceiling.ask(0)
    assert gateway.envelopes.raises(gateway.asked, HERE, NOON).rows == []
    assert not gateway.ceiling.is_asked


def test_of_a_tenant_that_is_granted_for_elsewhere_nothing_is_taken_but_asked_of_its_owner(gateway: Gateway) -> None:
    assert gateway.envelopes.raises(gateway.asked, set(), NOON).of_owners == []
    found = gateway.envelopes.raises(gateway.asked, set(), NOON, streams={"acme": 3})
    assert (found.rows, [row.taken for row in found.of_owners]) == ([], [6 * STEP_AHEAD_NANOS])


def test_what_was_not_used_is_let_go_but_for_a_step_of_each_answer_that_goes_on(gateway: Gateway) -> None:
    gateway.take()
    gateway.hold(DOLLAR // 4)
    before = gateway.envelopes.lowerings
    (row,) = gateway.envelopes.lowered(["acme"], NOON, {"acme": 2})
    assert row.taken == gateway.ceiling.taken == DOLLAR // 4 + 2 * STEP_AHEAD_NANOS
    (row,) = gateway.envelopes.lowered(["acme"], NOON)
    assert row.taken == gateway.ceiling.taken == DOLLAR // 4
    assert gateway.envelopes.lowerings == before + 2


def test_what_was_written_of_an_account_that_nothing_limits_any_more_is_let_go_too(gateway: Gateway) -> None:
    gateway.take()
    free = Tenant("acme", "acme", "Acme", TenantStatus.ACTIVE, "test", Limits(), None, budget=NO_BUDGET)
    gateway.till.apply(Change(Snapshot(2, {}, {"acme": free}), None, None), NOON)
    assert gateway.account.ceiling is None
    assert gateway.envelopes.lowered(["acme"], NOON) == [Taken("acme", "", "nanos", "gw-a", 0, NOON)]
