"""What people see is the same for commands, API and pages."""

from __future__ import annotations

from pathlib import Path

from tenantry.control.views import alert_view, tier_views
from tenantry.domain.alerts import Alert, AlertKind
from tenantry.ledger.outbox import Outbox
from tenantry.storage.directory import Directory
from tenantry.storage.vault import Vault
from tests.template import new_store


def test_a_tier_shows_its_limits_and_how_many_have_it(tmp_path: Path) -> None:
    engine = new_store(tmp_path / "tenantry.db")
    directory = Directory(engine, Vault(bytes(32)), "test")
    directory.seed_tiers()
    for slug in ("a", "b"):
        directory.create_tenant(slug, slug, "premium")
    seen = {view.name: view for view in tier_views(directory.list_tiers(), directory.list_tenants())}
    assert {name: view.tenants for name, view in seen.items()} == {"enterprise": 0, "premium": 2, "standard": 0}
    assert seen["premium"].as_json()["limits"]["sessions_max"] == 15
    engine.dispose()


def test_an_alert_shows_its_time_and_how_far_its_deliveries_are(tmp_path: Path) -> None:
    engine = new_store(tmp_path / "tenantry.db")
    directory = Directory(engine, Vault(bytes(32)), "test")
    directory.set_alert_target("agency", "webhook", "http://127.0.0.1:9/")
    Outbox(engine).raise_alert(Alert(AlertKind.UPSTREAM_DOWN, "anthropic", "m"), 1_795_608_000_999_999)
    (view,) = [alert_view(alert) for alert in Outbox(engine).list_alerts()]
    assert view.as_json() | {"detail": {}} == {
        "alert_id": 1,
        "raised_at": "2026-11-25T12:00:00Z",
        "kind": "upstream_down",
        "tenant": None,
        "subject": "anthropic",
        "message": "m",
        "detail": {},
        "deliveries": {"sent": 0, "waiting": 1, "given_up": 0},
    }
    engine.dispose()
