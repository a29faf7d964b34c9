"""The month of each tenant, and of all."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from tenantry.control.figures import margins as margins_module
from tenantry.control.figures.days import DaySums
from tenantry.control.figures.margins import RememberedMargins, month_margins
from tenantry.control.plan_views import tenant_margins
from tenantry.domain.plans import Terms
from tenantry.ledger.adjustments import Scope, book_adjustments
from tenantry.storage.directory.plans import Agreed
from tests.unit.billing.offices import make_site
from tests.unit.billing.sales import NOVEMBER
from tests.unit.ledger.books import PRICES, attempt, book, random_attempts


def test_who_had_a_slug_before_is_in_the_total_and_not_in_the_place_of_who_has_it_now(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    for number, tenant in enumerate(("tnt_b", "tnt_1", "tnt_z")):
        if number:
            site.directory.offboard_tenant("b", True)
            site.directory.create_tenant("b", "b", "standard", tenant)
            site.directory.assign_plan("b", Agreed("metered"))
        book(site.engine, tmp_path, [attempt(number, tenant=tenant, cost_nanos=10**number)], f"gateway{number}")
    margins = month_margins(site, NOVEMBER)
    assert margins.by_tenant["b"].now.cost_nanos == 100
    assert margins.now.cost_nanos == 111
    assert margins.now == sum((one.now for one in tenant_margins(site, NOVEMBER)[0]), start=type(margins.now)())
    site.engine.dispose()


def test_margins_of_remembered_days_are_those_that_commands_read_of_the_roll_up(tmp_path: Path) -> None:
    """Random usage with corrections, plans that change within a month, and a month's first and last days."""
    site = make_site(tmp_path)
    site.directory.assign_plan("b", Agreed("metered", date(2026, 11, 12)))
    book(site.engine, tmp_path, random_attempts(seed=5, count=400, days=26))
    book_adjustments(site.engine, PRICES, Scope())
    days = DaySums(site.settings.zone)
    for _ in range(2):
        found = month_margins(site, NOVEMBER, days)
        told = month_margins(site, NOVEMBER)
        # A running month is projected at the pace of the moment at which it is read.
        assert [replace(one, projected=one.now) for one in found.every] == [
            replace(one, projected=one.now) for one in told.every
        ]
        assert found.now.cost_nanos > 0
        book(site.engine, tmp_path, [attempt(9000, tenant="tnt_b", cost_nanos=7)], "late")
    site.engine.dispose()


def test_behind_ones_own_change_of_a_plan_no_margin_of_before_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(margins_module, "WAITED_BEHIND_A_CHANGE_SECONDS", 600.0)
    site = make_site(tmp_path)
    site.directory.assign_plan("a", Agreed("metered", site.directory.today()))
    remembered = RememberedMargins(site, DaySums(site.settings.zone))
    first = remembered.find()
    assert first is not None
    assert remembered.find() is first
    site.directory.set_plan("dear", Terms(fee_nanos=1000 * 10**9))
    site.directory.assign_plan("b", Agreed("dear", site.directory.today().replace(day=1)))
    second = remembered.find()
    assert second is not None
    assert second.by_tenant["b"].plan == "dear"
    assert second.now.fixed_nanos > first.now.fixed_nanos
    monkeypatch.setattr(margins_module, "WAITED_BEHIND_A_CHANGE_SECONDS", 0.0)
    site.directory.set_plan("dear", Terms(fee_nanos=2000 * 10**9))
    third = remembered.find()
    assert third is None or third.now.fixed_nanos > second.now.fixed_nanos
    site.engine.dispose()
