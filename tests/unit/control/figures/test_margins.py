"""The month of each tenant, and of all."""

from __future__ import annotations

from pathlib import Path

from tenantry.control.figures.margins import month_margins
from tenantry.control.plan_views import tenant_margins
from tenantry.storage.directory.plans import Agreed
from tests.unit.billing.offices import make_site
from tests.unit.billing.sales import NOVEMBER
from tests.unit.ledger.books import attempt, book


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
