"""The margin: all of a bill is revenue of one kind, cost is what the agency pays, and a running month goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings

from tenantry.billing.books import Books
from tenantry.billing.calculation import calculate
from tenantry.billing.corrections import Corrected
from tenantry.billing.invoice import Client
from tenantry.billing.margin import Margin, TenantMargin, as_json, margin_of, tenant_margin, totals, under_plan
from tenantry.billing.months import Sold
from tenantry.billing.rating import CORRECTION, Line
from tenantry.billing.usage import Used
from tenantry.domain.plans import Terms, read_price_table
from tenantry.domain.usage import read_usage
from tenantry.storage.database import reading
from tests.unit.billing.sales import NOVEMBER, USD, on, sold, usage, used, version
from tests.unit.ledger.books import attempt, book, new_store

MID = date(2026, 11, 16)
LONG_AGO = date(2026, 1, 1)
ACME = Client("tnt_a", "acme", "Acme")
OVER = datetime(2026, 12, 5, tzinfo=UTC)


@settings(max_examples=200)
@given(sold(), usage())
def test_the_revenue_is_the_bill_and_the_cost_the_ledgers_but_for_byok(known: Sold, some: list[Used]) -> None:
    stretches = known.stretches(NOVEMBER)
    bill = calculate(NOVEMBER, stretches, some)
    margin = margin_of(bill)
    assert margin.revenue_nanos == bill.net_nanos
    if not any(one.terms is not None and one.terms.byok for one in stretches):
        assert margin.cost_nanos == bill.list_nanos


def test_usage_that_a_tenant_pays_itself_costs_the_agency_nothing() -> None:
    terms = Terms(byok=True, service_fee_percent="10")
    assert under_plan(NOVEMBER, [used(MID, nanos=10 * USD)], "own", terms) == Margin(metered_nanos=USD)


def test_the_agency_pays_from_the_day_on_which_a_tenant_does_so_no_more() -> None:
    own, paid = Terms(byok=True), Terms()
    known = Sold([on("own", LONG_AGO), on("paid", MID)], [version("own", own), version("paid", paid)])
    some = [used(date(2026, 11, 15), nanos=USD), used(MID, nanos=10 * USD)]
    assert margin_of(calculate(NOVEMBER, known.stretches(NOVEMBER), some)).cost_nanos == 10 * USD


def test_another_plan_is_tried_as_for_a_tenant_of_old() -> None:
    terms = Terms(fee_nanos=79 * USD, setup_nanos=5 * USD, trial_days=30, included_nanos=10 * USD)
    found = under_plan(NOVEMBER, [used(MID, nanos=30 * USD)], "pro", terms)
    assert found == Margin(fixed_nanos=79 * USD, overage_nanos=20 * USD, cost_nanos=30 * USD)
    assert found.margin_nanos == 69 * USD


def at(folder: Path, now: datetime, plan: Terms, others: dict[str, Terms]) -> TenantMargin:
    """The margin of a tenant that has used 40 dollars on the second of November."""
    engine = new_store(folder / "tenantry.db")
    book(engine, folder, [attempt(1, cost_nanos=40 * USD)])
    with reading(engine) as connection:
        books = Books(connection, ZoneInfo("UTC"), [version("flat", plan)], {"tnt_a": [on("flat", LONG_AGO)]})
        found = tenant_margin(books, ACME, NOVEMBER, {"flat": plan, **others}, now)
    engine.dispose()
    return found


def test_a_running_month_goes_on_at_its_pace_and_the_fee_stays_one(tmp_path: Path) -> None:
    plan = Terms(fee_nanos=100 * USD, fair_use=True)
    found = at(tmp_path, datetime(2026, 11, 11, tzinfo=UTC), plan, {})
    assert found.now == Margin(fixed_nanos=100 * USD, cost_nanos=40 * USD)
    assert found.projected == Margin(fixed_nanos=100 * USD, cost_nanos=120 * USD)
    assert found.is_under_water
    assert found.fits is None


def test_usage_at_own_prices_goes_on_at_its_pace_too(tmp_path: Path) -> None:
    plan = Terms(prices={"*": {"input": "3", "output": "9"}})
    found = at(tmp_path, datetime(2026, 11, 11, tzinfo=UTC), plan, {})
    assert found.now.metered_nanos == 1000 * 3000 + 10 * 9000
    assert found.projected.metered_nanos == 3 * found.now.metered_nanos


def test_surcharges_go_on_at_the_pace_of_the_usage_that_bears_them(tmp_path: Path) -> None:
    prices = read_price_table(
        {"*": dict.fromkeys(("input", "cache_write_5m", "cache_write_1h", "cache_read"), "0") | {"output": "3"}}
    )
    raw = {"input_tokens": 0, "output_tokens": 1_000_000, "speed": "fast"}
    engine = new_store(tmp_path / "tenantry.db")
    end: dict[str, Any] = {"model_served": "claude-opus-5-5", "usage": read_usage(raw), "usage_raw": json.dumps(raw)}
    book(engine, tmp_path, [attempt(1, price_version="2026-11-24", **end)])
    with reading(engine) as connection:
        plan = version("own", Terms(prices=prices))
        books = Books(connection, ZoneInfo("UTC"), [plan], {"tnt_a": [on("own", LONG_AGO)]})
        found = tenant_margin(books, ACME, NOVEMBER, {}, datetime(2026, 11, 16, tzinfo=UTC))
    engine.dispose()
    assert (found.now.metered_nanos, found.projected.metered_nanos) == (6 * USD, 12 * USD)


def test_who_is_under_water_is_told_the_plan_that_costs_it_least_and_covers_its_cost(tmp_path: Path) -> None:
    plan = Terms(fee_nanos=30 * USD, fair_use=True)
    dear, fair = Terms(markup_percent="50"), Terms(markup_percent="10")
    found = at(tmp_path, OVER, plan, {"dear": dear, "fair": fair, "free": replace(fair, discount_percent="100")})
    assert (found.is_under_water, found.fits) == (True, "fair")


def test_a_month_that_is_over_is_as_it_is(tmp_path: Path) -> None:
    found = at(tmp_path, OVER, Terms(), {})
    assert found.now == found.projected == Margin(metered_nanos=40 * USD, cost_nanos=40 * USD)
    assert not found.is_under_water


def test_two_that_bring_and_cost_the_same_count_twice() -> None:
    one = Margin(fixed_nanos=79 * USD, cost_nanos=USD)
    assert totals([one, replace(one), one]) == Margin(fixed_nanos=237 * USD, cost_nanos=3 * USD)


def test_a_month_as_json_has_tenants_plans_and_total_with_who_is_under_water() -> None:
    dear, fine = Margin(fixed_nanos=5, cost_nanos=9), Margin(metered_nanos=12, cost_nanos=10)
    found = [
        TenantMargin("a", "flat", dear, dear, "metered"),
        TenantMargin("b", "flat", fine, fine),
        TenantMargin("c", "", Margin(cost_nanos=1), Margin(cost_nanos=2)),
    ]
    told = as_json(NOVEMBER, found, True)
    assert (told["month"], told["running"]) == ("2026-11", True)
    assert [(one["tenant"], one["plan"], one["under_water"], one["fits"]) for one in told["tenants"]] == [
        ("a", "flat", True, "metered"),
        ("b", "flat", False, None),
        ("c", None, True, None),
    ]
    flat, without, total = told["plans"]["flat"], told["plans"][""], told["total"]
    assert [one["projected"]["margin_nanos"] for one in (flat, without, total)] == [-2, -2, -4]
    assert [one["now"]["margin_nanos"] for one in (flat, without, total)] == [-2, -1, -3]
    assert [one["under_water"] for one in (flat, without, total)] == [["a"], ["c"], ["a", "c"]]
    assert total["tenants"] == 3


def test_corrections_of_earlier_months_are_what_they_are_at_the_months_end_too() -> None:
    line = Line(CORRECTION, "Corrections of 2026-10", 3 * USD, 1, 2 * USD)
    corrected = Corrected(date(2026, 10, 5), MID, "key_1", "claude-haiku-5-5", "repriced", "v2", 1, 2 * USD)
    stretches = Sold([on("flat", LONG_AGO)], [version("flat", Terms())]).stretches(NOVEMBER)
    own = calculate(NOVEMBER, stretches, [used(MID, nanos=USD)])
    bill = replace(own, lines=[*own.lines, line], corrected=[corrected], corrected_cost_nanos=2 * USD)
    found = margin_of(bill)
    assert (found.metered_nanos, found.corrections_nanos, found.corrections_cost_nanos) == (USD, 3 * USD, 2 * USD)
    assert (found.revenue_nanos, found.cost_nanos, found.margin_nanos) == (4 * USD, 3 * USD, USD)
    assert margin_of(bill.alone) == margin_of(own)
