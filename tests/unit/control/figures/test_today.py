"""What is compared with yesterday, and what only those see who see the whole site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.control.figures.days import DaySums
from tenantry.control.figures.scope import scope_of
from tenantry.control.figures.tenants import tenant_table
from tenantry.control.figures.time import DAY_US
from tenantry.control.figures.today import today_figures
from tenantry.control.site import Site
from tenantry.domain.proof import PROOF_IDS
from tenantry.storage.leases import Lease, LeaseStore
from tests.unit.billing.offices import make_site
from tests.unit.ledger.books import HOUR_US, START_US, attempt, book

NOON_US = START_US + 3 * DAY_US + 12 * HOUR_US


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path)
    yield made
    made.engine.dispose()


def test_yesterday_is_compared_up_to_the_same_hour(site: Site, tmp_path: Path) -> None:
    hours = {9: 10, 11: 100, 13: 1000}
    some = [attempt(hour, NOON_US - DAY_US + (hour - 12) * HOUR_US, cost_nanos=cost) for hour, cost in hours.items()]
    book(site.engine, tmp_path, [*some, attempt(1, NOON_US - HOUR_US, cost_nanos=7)])
    found = today_figures(site, DaySums(site.settings.zone), scope_of(site, None), with_site=False, now_us=NOON_US)
    assert (found.yesterday_nanos, found.today.cost_nanos) == (110, 7)


def test_what_the_proof_used_is_told_to_those_who_see_all_clients(site: Site, tmp_path: Path) -> None:
    book(site.engine, tmp_path, [attempt(1, NOON_US - HOUR_US, f"{PROOF_IDS}own", cost_nanos=7)])
    for slugs, nanos in ((None, 7), (frozenset({"a"}), 0)):
        days, scope = DaySums(site.settings.zone), scope_of(site, slugs)
        assert tenant_table(site, days, scope, now_us=NOON_US).proof.cost_nanos == nanos
        assert today_figures(site, days, scope, with_site=False, now_us=NOON_US).proof_month.cost_nanos == nanos


def test_gateways_that_live_and_of_which_no_control_tells_are_said_to_be_missing(site: Site) -> None:
    leases = LeaseStore(site.engine)

    def words() -> list[str]:
        days = DaySums(site.settings.zone)
        found = today_figures(site, days, scope_of(site, None), with_site=True, now_us=NOON_US)
        return [one.words for one in found.concerns if "ateway" in one.words]

    assert words() == ["No gateway runs: every request fails."]
    for name in ("gateway-1", "gateway-2"):
        leases.join(Lease(name, HOUR_US), "", "web-2", 1)
    (said,) = words()
    assert said.startswith("2 gateways live of which no control tells")
