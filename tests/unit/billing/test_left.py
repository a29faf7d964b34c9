"""Tenants that left: no invoice where there is nothing to bill, nothing lost, and their cost is in the margin."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tenantry.billing.invoice import NothingToBill
from tenantry.billing.months import read_month
from tenantry.control.invoicing import credit, find_client, issue, issue_all, preview_all, verify_invoices
from tenantry.control.plan_views import tenant_margins
from tenantry.control.site import Site
from tenantry.domain.plans import Terms
from tenantry.storage.directory.plans import Agreed
from tests.unit.billing.offices import USD, on_day
from tests.unit.ledger.books import HOUR_US, START_US, attempt, book

NOVEMBER, DECEMBER, JANUARY, FEBRUARY = (read_month(one) for one in ("2026-11", "2026-12", "2027-01", "2027-02"))
NOTHING = "b was on no plan in 2026-12 and used nothing"


def left(site: Site, deleted: bool = True) -> None:
    """Tenant b leaves in November, which is billed."""
    on_day(site, date(2026, 11, 20))
    site.directory.offboard_tenant("b", deleted)
    on_day(site, date(2027, 2, 1))
    list(issue_all(site, NOVEMBER))


def numbers(site: Site) -> list[tuple[str, str]]:
    return [(one.month, one.number) for one in site.directory.list_invoices("b")]


@pytest.mark.parametrize("deleted", [True, False])
def test_a_tenant_that_left_has_no_invoice_of_nothing_and_all_says_why(site: Site, deleted: bool) -> None:
    left(site, deleted)
    assert [month for month, _ in numbers(site)] == ["2026-11"]
    for look in (preview_all, issue_all, issue_all):
        passed = {one.slug: one for one in look(site, DECEMBER)}
        assert (passed["b"].why, passed["b"].draft, passed["b"].failed) == (NOTHING, None, False)
    with pytest.raises(NothingToBill, match=NOTHING):
        issue(site, find_client(site, "b"), DECEMBER)
    assert len(numbers(site)) == 1
    assert verify_invoices(site)[1] == []


def test_a_month_on_a_plan_without_fee_and_usage_has_its_invoice(site: Site) -> None:
    on_day(site, date(2026, 12, 1))
    assert issue(site, find_client(site, "a"), NOVEMBER).document["lines"] == []


def test_what_is_heard_of_a_month_that_had_nothing_to_bill_is_on_the_next_and_only_there(
    site: Site, tmp_path: Path
) -> None:
    left(site)
    list(issue_all(site, DECEMBER))
    late = START_US + 30 * 24 * HOUR_US
    book(site.engine, tmp_path, [attempt(1, late, tenant="tnt_b", cost_nanos=USD)])
    (line,) = issue(site, find_client(site, "b"), JANUARY).document["lines"]
    assert (line["kind"], line["rows"], line["list_nanos"], line["nanos"]) == ("late", 1, USD, 0)
    on_day(site, date(2027, 3, 1))
    with pytest.raises(NothingToBill):
        issue(site, find_client(site, "b"), FEBRUARY)
    assert verify_invoices(site)[1] == []


def test_a_month_that_had_nothing_and_then_an_invoice_is_open_again_after_its_credit_note(
    site: Site, tmp_path: Path
) -> None:
    left(site)
    list(issue_all(site, DECEMBER))
    book(site.engine, tmp_path, [attempt(1, START_US + 30 * 24 * HOUR_US, tenant="tnt_b", cost_nanos=USD)])
    again = issue(site, find_client(site, "b"), DECEMBER)
    assert [line["kind"] for line in again.document["lines"]] == ["without_plan"]
    credit(site, again.number, "wrong address")
    with pytest.raises(NothingToBill):
        issue(site, find_client(site, "b"), JANUARY)
    assert issue(site, find_client(site, "b"), DECEMBER).document["lines"][0]["rows"] == 1


def test_a_plan_that_is_said_for_a_month_that_had_nothing_is_billed(site: Site) -> None:
    left(site, deleted=False)
    list(issue_all(site, DECEMBER))
    site.directory.assign_plan("b", Agreed("flat", date(2026, 12, 1)))
    january = issue(site, find_client(site, "b"), JANUARY).document
    assert [(line["kind"], line["nanos"]) for line in january["lines"]] == [("fee", 79 * USD), ("late", 79 * USD)]


def test_a_tenant_that_was_deleted_and_never_had_a_plan_is_in_the_margin_of_the_months_of_its_use(
    site: Site, tmp_path: Path
) -> None:
    book(site.engine, tmp_path, [attempt(1, tenant="tnt_c", cost_nanos=3 * USD)])
    site.directory.offboard_tenant("c", True)
    _, told = tenant_margins(site, NOVEMBER)
    of_c = next(one for one in told.tenants if one.tenant == "c")
    assert (of_c.plan, of_c.now.cost_nanos, told.total.now.cost_nanos) == (None, 3 * USD, 3 * USD)
    assert [one.tenant for one in tenant_margins(site, DECEMBER)[1].tenants] == ["a", "b"]


def test_a_tenant_that_was_deleted_without_use_is_in_no_margin(site: Site) -> None:
    site.directory.set_plan("other", Terms())
    site.directory.offboard_tenant("c", True)
    assert [one.tenant for one in tenant_margins(site, NOVEMBER)[1].tenants] == ["a", "b"]
