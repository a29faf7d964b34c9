"""For each operation of the admin API a request that works, and what it is answered: of acme, as an owner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tenantry.domain.cells import Component
from tenantry.domain.roles import Role
from tenantry.storage.cells import CellStore
from tenantry.storage.leases import Lease
from tests.unit.web.api_site import Served

TOML = b'[tiers.standard]\nsessions_max = 5\n[tenants.acme]\nname = "Acme"\ntier = "standard"\n'
HOUR_US = 3600 * 1_000_000
PROVISION = {"name": "Initech", "tier": "standard", "credential": "main"}


@dataclass
class Ask:
    """`path`: what stands in the path besides the slug, by name. `status` where it is another than when all is well."""

    body: Any = None
    query: str = ""
    path: dict[str, str] | None = None
    data: bytes | None = None
    fields: dict[str, str] | None = None
    status: int | None = None


def asks(api: Served) -> dict[str, Ask]:
    """By operation. What is not here takes nothing."""
    key = {"key_id": api.ids["acme key"]}
    main, pro, owner, standard = {"name": "main"}, {"name": "pro"}, {"name": "owner"}, {"name": "standard"}
    toml = {"content-type": "application/toml"}
    day = "2026-12-01"
    return {
        "create_tenant": Ask({"slug": "initech", "name": "Initech", "limits": {"sessions_max": 3}}),
        "set_tenant": Ask({"contact": "it@acme.example", "limits": {"requests_per_minute": 30}}),
        "provision_tenant": Ask(PROVISION, status=422),  # no gateway runs here that could be called
        "show_key": Ask(path=key),
        "issue_key": Ask({"label": "second", "limits": {"sessions_max": 2}}),
        "set_key": Ask({"limits": {"sessions_max": 1}}, path=key),
        "rotate_key": Ask({"grace": "1h"}, path=key),
        "revoke_key": Ask(path=key),
        "add_slot": Ask({"name": "night", "limits": {"sessions_max": 1}}),
        "show_slot": Ask(path={"slot": "writer"}),
        "set_slot": Ask({"limits": {"sessions_max": 2}}, path={"slot": "writer"}),
        "remove_slot": Ask(path={"slot": "writer"}),
        "show_summary": Ask(path={"week": "2026-W40"}),
        "show_agency_summary": Ask(path={"week": "last"}),
        "set_portal": Ask({"may_rotate": True, "password": "a few words of acme"}),
        "issue_portal_link": Ask({"days": 7}),
        "show_portal_link": Ask(path={"link_id": api.ids["acme portal"]}),
        "revoke_portal_link": Ask(path={"link_id": api.ids["acme portal"]}),
        "set_budgets": Ask({"week_usd": "10.50", "mode": "soft"}),
        "raise_budget": Ask({"by_usd": "5", "until": "2099-12-31"}),
        "show_tier": Ask(path=standard),
        "create_tier": Ask({"name": "gold", "limits": {"sessions_max": 20}}),
        "set_tier": Ask({"sessions_max": 7}, path=standard),
        "show_upstream": Ask(path={"name": "anthropic"}),
        "show_request": Ask(path={"request_id": "req_x"}, status=404),
        "show_refusal": Ask(path={"request_id": "req_x"}, status=404),
        "show_credential": Ask(path=main),
        "add_credential": Ask({"name": "spare", "secret": "sk-ant-api03-" + "s" * 40}),
        "rotate_credential": Ask({"secret": "sk-ant-api03-" + "r" * 40}, path=main),
        "check": Ask(path=main),
        "move_credential": Ask({"upstream": "anthropic"}, path=main),
        "bind_credential": Ask({"name": "main", "shared": True}),
        "bind_fallback": Ask({"name": "other", "shared": True}),
        "show_plan": Ask(path=pro),
        "create_plan": Ask({"name": "team", "terms": {"fee_usd": "179", "slots": 10}}),
        "set_plan": Ask({"terms": {"fee_usd": "89"}}, path=pro),
        "remove_plan": Ask(path={"name": "unused"}),
        "assign_plan": Ask({"plan": "unused", "from_day": day}),
        "simulate": Ask(query="plan=pro&months=1"),
        "show_price": Ask(path={"model": "claude-haiku-4-5"}),
        "change_price": Ask({"input": "2", "output": "9", "from_day": day}, path={"model": "claude-new-1"}),
        "import_prices": Ask({"models": {"claude-new-2": _price()}}),
        "set_price_rule": Ask({"rule": "none"}),
        "set_thresholds": Ask({"percents": [50, 100]}),
        "add_alert_target": Ask({"name": "hook", "kind": "webhook", "url": "https://hook.invalid/x"}),
        "remove_alert_target": Ask(path={"name": "there"}),
        "test_alert_target": Ask(path={"name": "there"}),
        "show_admin_token": Ask(path=owner),
        "create_admin_token": Ask({"name": "books", "role": "billing", "tenants": ["acme"]}),
        "rotate_admin_token": Ask({}, path={"name": "another"}),
        "revoke_admin_token": Ask(path={"name": "another"}),
        "show_person": Ask(path={"name": "ana"}),
        "invite_person": Ask({"name": "ben", "role": "viewer", "tenants": ["acme"]}),
        "change_person": Ask({"role": "billing"}, path={"name": "ana"}),
        "disable_person": Ask(path={"name": "ana"}),
        "enable_person": Ask(path={"name": "ana"}),
        "drop_second_factor": Ask(path={"name": "ana"}),
        "delete_person": Ask(path={"name": "ana"}),
        "link_person": Ask(path={"name": "ana"}),
        "export_all": Ask({"period": "2026-10"}),
        "export_tenant": Ask({"period": "2026-W47", "format": "json"}),
        "download_export": Ask(path={"file": "usage-2020-01-acme.csv"}, status=404),
        "preview_invoice": Ask(query=f"month={api.site.directory.today():%Y-%m}"),
        "show_invoice": Ask(path={"number": "INV-2026-0001"}, status=404),
        "issue_invoice": Ask({"month": "2020-01"}, status=409),  # nothing to bill
        "issue_invoices": Ask({"month": "2020-01"}),
        "show_billing_month": Ask(path={"month": "last"}),
        "preview_credit": Ask({"reason": "wrong"}, path={"number": "INV-2026-0001"}, status=404),
        "credit_invoice": Ask({"reason": "wrong"}, path={"number": "INV-2026-0001"}, status=404),
        "set_agency_billing": Ask({"name": "Agency", "taxes": [["VAT", "19"]]}),
        "set_tenant_billing": Ask({"name": "Acme GmbH", "currency": "EUR", "rate": "0.92"}),
        "resolve_quarantine": Ask({"how": "retry"}),
        "recompute_ledger": Ask({"price_version": "x"}, status=409),
        "plan_declaration": Ask(data=TOML, fields=toml),
        "apply_declaration": Ask(data=TOML, fields=toml | {"if-match": '"another"'}, status=412),
        "find_declaration_drift": Ask(data=TOML, fields=toml),
        "show_task": Ask(path={"task_id": "tsk_x"}, status=404),
        "download_proof": Ask(path={"report": "prf_x.html"}, status=404),
        "forget_gateway": Ask(path={"gateway_id": "gateway-ended"}),
        "show_cell": Ask(path={"cell": "main"}),
        "move_cell": Ask({"to": "gateway-free"}, path={"cell": "main"}),
        "start_proof": Ask({"tenants": ["acme"]}, status=422),
    }


def _price() -> dict[str, str]:
    return {"input": "1", "output": "5", "cache_write_5m": "1.25", "cache_write_1h": "2", "cache_read": "0.1"}


def prepare(api: Served) -> None:
    """What some of them need to be there."""
    directory = api.site.directory
    directory.add_credential("other", "sk-ant-api03-" + "o" * 40, "anthropic", shared=True)
    directory.set_plan("unused", directory.list_plans()["pro"])
    directory.set_alert_target("there", "webhook", "https://127.0.0.1:1/x")
    directory.create_admin("another", None)
    directory.invite_person("ana", Role.OPERATOR)
    directory.add_slot("acme", "writer", {"sessions_max": 1})


def prepare_cluster(api: Served) -> None:
    """Three gateways: one that owns the cell of `main`, one that owns nothing, and one that has ended.

    By themselves, for no ledger is complete while nobody books the journals of other machines.
    """
    store, directory = CellStore(api.site.engine), api.site.directory
    for number, name in enumerate(("gateway-ended", "gateway-free", "gateway-owner")):
        store.join(Lease(name, HOUR_US), f"127.0.0.1:{3100 + number}#ab", f"machine-{number}", number * HOUR_US)
    store.end(["gateway-ended"])
    main = next(one.credential_id for one in directory.list_credentials() if one.name == "main")
    tenant_id = directory.get_tenant("acme").tenant_id
    component = Component({tenant_id: main}, (main,))
    assert store.claim("gateway-owner", tenant_id, component, HOUR_US) is not None
