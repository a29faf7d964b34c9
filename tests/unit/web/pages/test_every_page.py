"""Every page: it opens, and says what it is about."""

from __future__ import annotations

import re

from starlette.applications import Starlette

from tenantry.control.site import Site
from tests.browser import signed_in

PAGES = (
    *(
        "/",
        "/parts/today",
        "/tenants",
        "/parts/tenants",
        "/tenants/acme",
        "/tenants/acme/guide",
        "/tenants/acme/disable",
    ),
    *("/tenants/acme/details", "/tenants/acme/limits", "/tenants/acme/credential", "/tenants/acme/plan"),
    *(
        "/tenants/acme/portal",
        "/tenants/acme/budget",
        "/tenants/globex/budget",
        "/tenants/acme/keys/new",
        "/tenants/acme/slots/new",
        "/provision",
        "/requests",
    ),
    *("/credentials", "/credentials/new", "/credentials/sandbox/replace", "/upstreams", "/tiers", "/tiers/standard"),
    *("/plans", "/invoices", "/alerts", "/alerts/targets/new", "/exports", "/audit", "/settings", "/isolation"),
    *("/parts/isolation", "/billing", "/tenants/acme/billing", "/tenants/acme/invoice", "/invoices/month"),
    *("/prices", "/prices/new?model=claude-x-1", "/prices/claude-haiku-5-5", "/recompute", "/parts/recompute"),
    *("/margins", "/margins?tenant=acme&month=2026-10", "/parts/margins", "/plan-simulation?tenant=acme"),
    *("/invoices/run", "/parts/invoices", "/gateways", "/parts/gateways"),
)


def test_the_menu_marks_the_group_of_the_page_that_is_open(shared_app: Starlette, shared: Site) -> None:
    browser = signed_in(shared_app, shared)
    here = {
        "/prices/claude-haiku-5-5": "Money",
        "/recompute": "Money",
        "/billing": "Money",
        "/audit": "Site",
        "/requests": None,
    }
    for path, group in here.items():
        found = re.findall(r"<summary aria-current=\"true\">([^<]*)<", browser.get(path).text)
        assert found == ([group] if group else []), path


def test_every_page_opens(shared_app: Starlette, shared: Site) -> None:
    browser = signed_in(shared_app, shared)
    for path in PAGES:
        answer = browser.get(path)
        assert answer.status == 200, (path, answer.shown[-2000:])
