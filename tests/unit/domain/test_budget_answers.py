"""What a client is told of its budget, in the shape of the fixtures."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tenantry.domain.budget_answers import (
    Fields,
    budget_reached,
    budget_refusal,
    nearest_cap,
    refusal_message,
    use_headers,
)
from tenantry.domain.budgets import Budget, Cap
from tenantry.domain.errors import BudgetInUse, BudgetReached
from tenantry.domain.holds import Account, Hold, Short, place

FIXTURES = Path(__file__).parents[2] / "fixtures"
UTC = ZoneInfo("UTC")
USD = 1_000_000_000


def budget_headers(accounts: list[Account], at_us: int) -> Fields:
    most = nearest_cap(accounts, at_us)
    return use_headers(most) if most is not None else []


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


NOW = at("2026-11-24T02:00:00+00:00")


def account(spent: int, amount: int = 500 * USD, kind: str = "month", mode: str = "hard") -> Account:
    return Account("tenant acme", Budget((Cap(kind, amount, ()),), mode), UTC, {kind: spent}, NOW)


def reached(spent: int = 500 * USD) -> Short:
    short = place([account(spent)], USD, NOW)
    assert isinstance(short, Short)
    return short


def test_a_success_at_82_percent_is_the_fixture() -> None:
    lines = (FIXTURES / "headers" / "200_gateway_budget_82pct.txt").read_text().splitlines()
    wanted = {line for line in lines if line.startswith("anthropic-ratelimit-unified")}
    got = budget_headers([account(410 * USD)], NOW)
    assert {f"{name.decode()}: {value.decode()}" for name, value in got} == wanted


def test_a_refusal_is_the_fixture() -> None:
    index = json.loads((FIXTURES / "errors" / "index.json").read_text())
    rows = index if isinstance(index, list) else next(value for value in index.values() if isinstance(value, list))
    row = next(row for row in rows if row["file"].endswith("gw_429_budget_reached.json"))
    error = budget_reached(reached(), UTC, NOW, "ops@agency.example")
    # The rest is the reference's: its 429 is repeated by clients that a 402 stops (docs/decisions/0014).
    assert (error.status, row["status"]) == (402, 429)
    got = {name.decode(): value.decode() for name, value in error.headers()}
    wanted = {name: value for name, value in row["headers"].items() if name not in ("content-type", "request-id")}
    wanted["retry-after"] = str((at("2026-12-01T00:00:00+00:00") - NOW) // 1_000_000)
    assert got == wanted
    fixture = json.loads((FIXTURES / "errors" / "gw_429_budget_reached.json").read_text())
    assert json.loads(error.body(fixture["request_id"])) == fixture


@pytest.mark.parametrize(
    ("spent", "status", "utilization", "surpassed"),
    [
        (0, b"allowed", b"0.00", None),
        (374, b"allowed", b"0.74", None),
        (375, b"allowed_warning", b"0.75", b"0.75"),
        (475, b"allowed_warning", b"0.95", b"0.95"),
        (500, b"allowed_warning", b"0.99", b"0.95"),
        (900, b"allowed_warning", b"0.99", b"0.95"),
    ],
)
def test_thresholds(spent: int, status: bytes, utilization: bytes, surpassed: bytes | None) -> None:
    told = dict(budget_headers([account(spent * USD, mode="soft")], NOW))
    assert told[b"anthropic-ratelimit-unified-status"] == told[b"anthropic-ratelimit-unified-overage-status"] == status
    assert told[b"anthropic-ratelimit-unified-overage-utilization"] == utilization
    assert told.get(b"anthropic-ratelimit-unified-overage-surpassed-threshold") == surpassed


def test_the_cap_nearest_to_its_end_is_told() -> None:
    told = dict(budget_headers([account(10 * USD), account(8 * USD, 10 * USD, "day")], NOW))
    assert told[b"anthropic-ratelimit-unified-overage-utilization"] == b"0.80"
    assert told[b"anthropic-ratelimit-unified-reset"] == b"%d" % (at("2026-11-25T00:00:00+00:00") // 1_000_000)


def test_without_a_cap_nothing_is_told() -> None:
    assert budget_headers([], NOW) == budget_headers([Account("x", Budget((), "hard"), UTC, {}, NOW)], NOW) == []


def test_a_budget_of_nothing_is_used_up() -> None:
    told = dict(budget_headers([account(0, 0)], NOW))
    assert told[b"anthropic-ratelimit-unified-overage-utilization"] == b"0.99"


def test_the_reset_is_told_in_the_zone_of_the_agency() -> None:
    short = Short("tenant acme", "day", USD, USD, 0, 1, 1, at("2026-11-25T00:00:00+01:00"))
    message = refusal_message(short, ZoneInfo("Europe/Berlin"), "")
    assert (
        message == "Daily budget of $1.00 for tenant acme reached; resets Nov 25 00:00 CET; ask your agency for more."
    )


def test_a_request_too_large_for_the_rest_is_told_so() -> None:
    short = place([account(499 * USD)], 3 * USD, NOW)
    assert isinstance(short, Short)
    error = budget_refusal(short, UTC, NOW, "ops@agency.example")
    assert isinstance(error, BudgetReached)
    assert error.message == (
        "This request may cost $3.00, and $1.00 of the monthly budget of $500.00 for tenant acme is left; "
        "it resets Dec 1 00:00 UTC; ask ops@agency.example for more."
    )


def test_money_that_others_hold_may_come_free() -> None:
    acme = account(0)
    assert isinstance(place([acme], 500 * USD, NOW), Hold)
    short = place([acme], USD, NOW)
    assert isinstance(short, Short)
    error = budget_refusal(short, UTC, NOW, "")
    assert isinstance(error, BudgetInUse)
    assert error.headers() == [(b"retry-after", b"1")]


def test_a_reset_that_has_passed_is_a_second_away() -> None:
    assert budget_reached(reached(), UTC, at("2027-01-01T00:00:00+00:00"), "").retry_after_seconds == 1
