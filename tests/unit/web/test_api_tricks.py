"""What an admin token tries that is confined, or another's: what there was under a name before, and others' answers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tenantry.control.export_files import exports_folder
from tenantry.control.offboarding import delete_tenant
from tenantry.control.tenant_detail import UseView
from tenantry.domain.roles import Role
from tenantry.storage.directory import DirectoryError
from tenantry.storage.directory.invoices import INVOICE, NewInvoice
from tenantry.web.api import site as site_api
from tests.unit.web.api_site import OWNER, Served, served


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as made:
        yield made


def confined(api: Served, role: Role, slug: str = "acme") -> str:
    name = f"{role}-{len(api.site.directory.list_admins())}"
    return api.site.directory.create_admin(name, None, role, [slug])


def test_whoever_has_the_name_of_a_client_that_left_has_nothing_of_it(api: Served, tmp_path: Path) -> None:
    directory = api.site.directory
    document: dict[str, Any] = {"kind": INVOICE, "issued_on": directory.today().isoformat(), "total_minor": 4200}
    document |= {"currency": "USD", "digits": 2}
    tenant_id = directory.get_tenant("acme").tenant_id
    directory.issue_invoice(NewInvoice(INVOICE, "INV-", tenant_id, "acme", "2026-10", "USD", 4200, document, [], 0))
    before = confined(api, Role.BILLING)
    made = api.ask("POST", "/tenants/acme/exports", {"period": "2026-10"}, before).document["files"][0]["file"]
    path = exports_folder(api.site.settings) / made
    os.utime(path, (time.time() - 60, time.time() - 60))
    delete_tenant(api.site, "acme", tmp_path / "statements")
    assert api.ask("GET", "/tenants/acme", token=before).status in (401, 403, 404)
    directory.create_tenant("acme", "Another Acme", "standard")
    assert api.ask("GET", "/tenants/acme", token=before).status == 404, "nor has the old token the new client"
    after = confined(api, Role.BILLING)
    assert api.ask("GET", "/tenants/acme", token=after).status == 200
    assert api.ask("GET", "/invoices", token=after).document["data"] == []
    assert api.ask("GET", "/exports", token=after).document["data"] == []
    assert api.ask("GET", f"/exports/{made}", token=after).status == 404
    assert len(api.ask("GET", "/invoices").document["data"]) == 1


def test_the_same_idempotency_key_of_another_token_is_another(api: Served) -> None:
    """Its answer holds a key that was shown once."""
    told = {"idempotency-key": "k-1"}
    first = api.ask("POST", "/tenants/acme/keys", {"label": "x"}, fields=told)
    other = api.ask("POST", "/tenants/acme/keys", {"label": "x"}, confined(api, Role.OPERATOR), told)
    assert first.status == other.status == 201
    assert first.document["key"] != other.document["key"]
    assert "idempotency-replayed" not in other.fields


def test_what_others_use_now_is_told_to_nobody_who_is_confined(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [row.tenant_id for row in api.site.directory.list_tenants()]
    now = SimpleNamespace(tenants=dict.fromkeys(ids))
    monkeypatch.setattr(site_api, "sum_live", lambda _: now)
    nothing = dict.fromkeys(UseView.__dataclass_fields__, 0)
    monkeypatch.setattr(site_api, "use_view", lambda _: UseView(**nothing))
    seen = api.ask("GET", "/live", token=confined(api, Role.VIEWER)).document["data"]
    assert [one["tenant"] for one in seen] == ["acme"]
    assert len(api.ask("GET", "/live").document["data"]) == 2


def test_how_much_of_all_clients_waits_to_be_booked_is_told_to_nobody_who_is_confined(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(*_: object) -> None:
        raise DirectoryError("the ledger of 2020-01 is not complete: 12 attempts wait")

    monkeypatch.setattr("tenantry.control.invoice_views.require_issuable", wait)
    told = [
        api.ask("GET", "/billing-months/2020-01", token=token).document["why_not_issuable"]
        for token in (OWNER, confined(api, Role.BILLING))
    ]
    assert told == ["the ledger of 2020-01 is not complete: 12 attempts wait", "the ledger of 2020-01 is not complete"]


def test_previews_of_a_month_are_those_of_the_own_client(api: Served) -> None:
    found = api.ask("GET", "/invoice-previews?month=2020-01", token=confined(api, Role.BILLING)).document["data"]
    assert [one["tenant"] for one in found] == ["acme"]
    assert len(api.ask("GET", "/invoice-previews?month=2020-01").document["data"]) == 2
