"""Every page of the control room, with the permission that it needs."""

from __future__ import annotations

from typing import Final

from starlette.routing import Route

from tenantry.domain.roles import Permission as May
from tenantry.web.pages import (
    alerts,
    audit,
    billing,
    budget,
    credentials,
    crediting,
    exports,
    gateways,
    invoice_month,
    invoices,
    isolation,
    keys,
    live,
    margins,
    places,
    plans,
    portal,
    prices,
    provision,
    requests,
    slots,
    tenant,
    tenants,
    terms,
    today,
)
from tenantry.web.pages_base.routing import form, page

_TENANT: Final = "/tenants/{slug}"
_KEY: Final = "/tenants/{slug}/keys/{key_id}"
_SLOT: Final = "/tenants/{slug}/slots/{slot}"


def page_routes() -> list[Route]:
    return [
        *_overview(),
        *_of_tenant(),
        *_of_slots(),
        *_of_requests(),
        *_of_site(),
        *_of_money(),
        *_of_prices(),
        *_of_invoices(),
    ]


def _overview() -> list[Route]:
    return [
        page("/", today.show_today, May.USAGE_READ),
        page("/parts/today", today.show_figures, May.USAGE_READ),
        page("/live", live.stream, May.USAGE_READ),
        page("/tenants", tenants.list_tenants, May.TENANTS_READ),
        page("/parts/tenants", tenants.list_rows, May.TENANTS_READ),
        page("/provision", provision.ask_provision, May.TENANTS_CHANGE),
        form("/provision", provision.do_provision, May.TENANTS_CHANGE),
    ]


def _of_tenant() -> list[Route]:
    return [
        page(_TENANT, tenant.show_tenant, May.TENANTS_READ),
        page(f"{_TENANT}/guide", tenant.show_guide, May.TENANTS_READ),
        page(f"{_TENANT}/guide.{{form}}", tenant.download_guide, May.TENANTS_READ),
        page(f"{_TENANT}/disable", tenant.ask_disable, May.TENANTS_CHANGE),
        form(f"{_TENANT}/disable", tenant.disable, May.TENANTS_CHANGE),
        form(f"{_TENANT}/enable", tenant.enable, May.TENANTS_CHANGE),
        page(f"{_TENANT}/details", terms.show_details, May.TENANTS_CHANGE),
        form(f"{_TENANT}/details", terms.set_details, May.TENANTS_CHANGE),
        page(f"{_TENANT}/limits", terms.show_limits, May.LIMITS_CHANGE),
        form(f"{_TENANT}/limits", terms.set_limits, May.LIMITS_CHANGE),
        page(f"{_TENANT}/credential", terms.show_credential, May.CREDENTIALS_CHANGE),
        form(f"{_TENANT}/credential", terms.set_credential, May.CREDENTIALS_CHANGE),
        page(f"{_TENANT}/plan", terms.show_plan, May.PLANS_CHANGE),
        form(f"{_TENANT}/plan", terms.set_plan, May.PLANS_CHANGE),
        page(f"{_TENANT}/budget", budget.show_budget, May.USAGE_READ),
        form(f"{_TENANT}/budget", budget.set_budget, May.BUDGETS_CHANGE),
        form(f"{_TENANT}/budget/raise", budget.raise_budget, May.BUDGETS_CHANGE),
        page(f"{_TENANT}/portal", portal.show_portal, May.TENANTS_CHANGE),
        form(f"{_TENANT}/portal", portal.make_link, May.TENANTS_CHANGE),
        form(f"{_TENANT}/portal/terms", portal.set_terms, May.TENANTS_CHANGE),
        form(f"{_TENANT}/portal/links/{{link_id}}/revoke", portal.revoke, May.TENANTS_CHANGE),
        page(f"{_TENANT}/keys/new", keys.ask_new, May.KEYS_CHANGE),
        form(f"{_TENANT}/keys/new", keys.issue, May.KEYS_CHANGE),
        page(f"{_KEY}/rotate", keys.ask_rotate, May.KEYS_CHANGE),
        form(f"{_KEY}/rotate", keys.rotate, May.KEYS_CHANGE),
        page(f"{_KEY}/revoke", keys.ask_revoke, May.KEYS_CHANGE),
        form(f"{_KEY}/revoke", keys.revoke, May.KEYS_CHANGE),
    ]


def _of_slots() -> list[Route]:
    return [
        page(f"{_TENANT}/slots/new", slots.ask_new, May.KEYS_CHANGE),
        form(f"{_TENANT}/slots/new", slots.add, May.KEYS_CHANGE),
        page(f"{_SLOT}/remove", slots.ask_remove, May.KEYS_CHANGE),
        form(f"{_SLOT}/remove", slots.remove, May.KEYS_CHANGE),
    ]


def _of_requests() -> list[Route]:
    return [
        page("/requests", requests.list_requests, May.REQUESTS_READ),
        page("/requests.csv", requests.download_csv, May.REQUESTS_READ),
        page("/requests/{request_id}", requests.show_story, May.REQUESTS_READ),
        page("/exports", exports.list_exports, May.USAGE_READ),
        page("/exports/make", exports.make, May.EXPORTS_MAKE),
        page("/exports/file/{name}", exports.download, May.EXPORTS_MAKE),
        page("/alerts", alerts.list_alerts, May.ALERTS_READ),
        page("/alerts/targets/new", alerts.ask_target, May.ALERTS_CHANGE),
        form("/alerts/targets/new", alerts.add_target, May.ALERTS_CHANGE),
        form("/alerts/targets/{name}/test", alerts.try_target, May.ALERTS_CHANGE),
        page("/alerts/targets/{name}/remove", alerts.ask_remove, May.ALERTS_CHANGE),
        form("/alerts/targets/{name}/remove", alerts.remove_target, May.ALERTS_CHANGE),
    ]


def _of_site() -> list[Route]:
    return [
        page("/credentials", credentials.list_credentials, May.CREDENTIALS_READ),
        page("/credentials/new", credentials.ask_new, May.CREDENTIALS_CHANGE),
        form("/credentials/new", credentials.add, May.CREDENTIALS_CHANGE, is_dangerous=True),
        form("/credentials/{name}/check", credentials.check, May.CREDENTIALS_CHANGE),
        page("/credentials/{name}/replace", credentials.ask_replace, May.CREDENTIALS_CHANGE),
        form("/credentials/{name}/replace", credentials.replace, May.CREDENTIALS_CHANGE, is_dangerous=True),
        page("/upstreams", places.list_upstreams, May.SITE_READ),
        page("/tiers", places.list_tiers, May.SITE_READ),
        form("/tiers", places.add_tier, May.LIMITS_CHANGE),
        page("/tiers/{name}", places.show_tier, May.SITE_READ),
        form("/tiers/{name}", places.set_tier, May.LIMITS_CHANGE),
        page("/gateways", gateways.show_gateways, May.SITE_READ),
        page("/parts/gateways", gateways.show_parts, May.SITE_READ),
        page("/gateways/cells/{name}/move", gateways.ask_move, May.GATEWAYS_CHANGE),
        form("/gateways/cells/{name}/move", gateways.move, May.GATEWAYS_CHANGE),
        page("/settings", places.show_settings, May.SITE_READ),
        page("/isolation", isolation.show_isolation, May.PROOF_RUN),
        page("/parts/isolation", isolation.show_progress, May.PROOF_RUN),
        page("/isolation/report", isolation.download_report, May.PROOF_RUN),
        form("/isolation", isolation.start, May.PROOF_RUN),
        page("/audit", audit.list_audit, May.AUDIT_READ),
        form("/audit/verify", audit.verify, May.AUDIT_READ),
    ]


def _of_money() -> list[Route]:
    return [
        page("/plans", plans.list_plans, May.PLANS_READ),
        form("/plans", plans.add_plan, May.PLANS_CHANGE),
        form("/plan-examples", plans.add_examples, May.PLANS_CHANGE),
        page("/plans/{name}", plans.show_plan, May.PLANS_READ),
        form("/plans/{name}", plans.set_plan, May.PLANS_CHANGE),
        page("/margins", margins.show_margins, May.MARGIN_READ),
        page("/parts/margins", margins.show_figures, May.MARGIN_READ),
        page("/plan-simulation", margins.show_simulation, May.MARGIN_READ),
    ]


def _of_prices() -> list[Route]:
    return [
        page("/prices", prices.list_prices, May.PLANS_READ),
        page("/prices/new", prices.ask_price, May.PRICES_CHANGE),
        form("/prices/new", prices.add_price, May.PRICES_CHANGE),
        form("/prices/rule", prices.set_rule, May.PRICES_CHANGE),
        page("/prices/{name}", prices.show_model, May.PLANS_READ),
        page("/recompute", prices.show_recomputation, May.LEDGER_CORRECT),
        page("/parts/recompute", prices.show_progress, May.LEDGER_CORRECT),
        form("/recompute", prices.recompute, May.LEDGER_CORRECT),
    ]


def _of_invoices() -> list[Route]:
    return [
        page("/billing", billing.show_agency, May.INVOICES_ISSUE),
        form("/billing", billing.set_agency, May.INVOICES_ISSUE),
        form("/billing/logo", billing.set_logo, May.INVOICES_ISSUE, has_file=True),
        page(f"{_TENANT}/billing", billing.show_tenant, May.INVOICES_READ),
        form(f"{_TENANT}/billing", billing.set_tenant, May.INVOICES_ISSUE),
        page(f"{_TENANT}/invoice", invoice_month.show_preview, May.INVOICES_READ),
        form(f"{_TENANT}/invoice", invoice_month.issue_one, May.INVOICES_ISSUE),
        page(f"{_TENANT}/invoice.{{form}}", invoice_month.download_preview, May.INVOICES_READ),
        page("/invoices", invoices.list_invoices, May.INVOICES_READ),
        form("/invoices/verify", invoices.verify, May.INVOICES_ISSUE),
        page("/invoices/month", invoice_month.show_month, May.INVOICES_READ),
        form("/invoices/month", invoice_month.issue_month, May.INVOICES_ISSUE),
        page("/invoices/run", invoice_month.show_run, May.INVOICES_ISSUE),
        page("/parts/invoices", invoice_month.show_progress, May.INVOICES_ISSUE),
        # A number has what its series has, also slashes.
        page("/invoices/{number:path}/file/{form}", invoices.download_invoice, May.INVOICES_READ),
        page("/invoices/{number:path}/credit", crediting.ask_credit, May.INVOICES_ISSUE),
        form("/invoices/{number:path}/credit", crediting.credit, May.INVOICES_ISSUE),
        page("/invoices/{number:path}", invoices.show_invoice, May.INVOICES_READ),
    ]
