"""What a site's ledger says becomes a scenario that can be simulated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tenantry.control.scenario_file import scenario_file
from tenantry.control.site import Site, open_site
from tenantry.domain.prices import load_default_prices
from tenantry.ledger.booking import Drain
from tenantry.ledger.journal import JournalWriter
from tenantry.settings import load_settings
from tenantry.simulation.capacity import plan_capacity
from tenantry.simulation.scenario import read_scenario
from tests.template import init_from_template
from tests.unit.ledger.books import attempt

NOW = datetime(2026, 11, 27, 20, 0, tzinfo=UTC)  # a Friday evening


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path / "data")})
    init_from_template(settings)
    made = open_site(settings)
    yield made
    made.engine.dispose()


def book(site: Site, tenant_id: str, times: list[datetime]) -> None:
    """One settled attempt at each of these times."""
    writer = JournalWriter(site.settings.journal_dir, "gateway")
    for number, at in enumerate(times):
        begun, end = attempt(number)
        at_us = int(at.timestamp() * 1_000_000)
        writer.begin(replace(begun, tenant_id=tenant_id, begun_at_us=at_us))
        writer.end(replace(end, ended_at_us=at_us + 1_000_000))
    writer.flush()
    Drain(site.engine, site.settings.journal_dir, load_default_prices()).step()
    writer.close()


def tenant(site: Site) -> str:
    site.directory.set_tier("gold", {"sessions_max": 7})
    site.directory.set_upstream("agency", "http://127.0.0.1:9", capacity={"sessions_max": 9}, shares_capacity=True)
    site.directory.create_tenant("acme", "Acme", "gold")
    site.directory.add_credential("acme", "sandbox-key", "agency")
    site.directory.bind_credential("acme", "acme")
    site.directory.set_budgets("acme", {"month": 2_500_000_000_000})
    return site.directory.get_tenant("acme").tenant_id


def test_a_site_becomes_a_scenario_with_its_limits_budgets_and_traffic(site: Site) -> None:
    book(site, tenant(site), [datetime(2026, 11, 26, hour, 15, tzinfo=UTC) for hour in range(9, 17)])
    scenario = read_scenario(scenario_file(site, 7, NOW).encode())
    acme = scenario.tenants["acme"]
    assert (acme.tier, acme.limits.sessions_max) == ("gold", 7)
    assert scenario.organizations["agency"].limits.sessions_max == 9
    assert [(cap.period, cap.amount_nanos) for cap in acme.budget.caps] == [("month", 2_500_000_000_000)]
    traffic = acme.traffic[0]
    assert traffic.shape == "office"
    assert traffic.prompt_tokens > 0
    assert plan_capacity(replace(scenario, days=0.01), load_default_prices()).seconds > 0


def test_traffic_at_night_is_no_offices_and_its_rate_is_that_of_the_ledger(site: Site) -> None:
    book(site, tenant(site), [datetime(2026, 11, 26, 22, minute, tzinfo=UTC) for minute in range(60)])
    traffic = read_scenario(scenario_file(site, 7, NOW).encode()).tenants["acme"].traffic[0]
    assert traffic.shape == "steady"
    assert traffic.requests_per_hour == pytest.approx(60 / 22, rel=0.01)


def test_who_asked_for_nothing_is_left_out(site: Site) -> None:
    tenant(site)
    assert "[tenants." not in scenario_file(site, 7, NOW)
