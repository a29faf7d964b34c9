"""The table of clients: searched, filtered, sorted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.figures.tenants import TenantRow, tenant_table
from tenantry.domain.roles import Permission, Principal
from tenantry.web.pages.showing import figures_of, query, seen_scope, show
from tenantry.web.tokens import site_of

# Each with the way that says most at first: names from a to z, figures from the largest.
_SORTS: Final[Mapping[str, Callable[[TenantRow], Any]]] = {
    "name": lambda row: (row.tenant.slug,),
    "tier": lambda row: (row.tenant.tier, row.tenant.slug),
    "month": lambda row: (-row.month_nanos, row.tenant.slug),
    "budget": lambda row: (-(row.budget.used_percent if row.budget is not None else -1), row.tenant.slug),
    "sessions": lambda row: (-row.sessions - row.waiting, -row.month_nanos, row.tenant.slug),
    "seen": lambda row: (-(row.last_used_at.timestamp() if row.last_used_at is not None else 0), row.tenant.slug),
    "margin": lambda row: (row.margin.projected.margin_nanos if row.margin is not None else 0, row.tenant.slug),
}
STATES: Final = ("active", "disabled")


def list_tenants(request: Request, principal: Principal) -> Response:
    return _shown(request, principal, "tenants")


def list_rows(request: Request, principal: Principal) -> Response:
    """The table alone, for htmx."""
    return _shown(request, principal, "tenants_rows")


def _shown(request: Request, principal: Principal, template: str) -> Response:
    typed = query(request, "q", "tier", "state", "sort")
    scope, kept = seen_scope(request, principal), figures_of(request)
    sees_margins = principal.may(Permission.MARGIN_READ)
    margins = kept.margins.find() if sees_margins else None
    table = tenant_table(site_of(request), kept.days, scope, margins.by_tenant if margins is not None else None)
    sort = typed["sort"] if typed["sort"] in _SORTS else "name"
    rows = sorted((row for row in table.rows if _fits(row, typed)), key=_SORTS[sort])
    return show(
        request,
        principal,
        template,
        table=table,
        rows=rows,
        typed=typed,
        sort=sort,
        tiers=sorted({one.tier for one in scope.tenants.values()}),
        states=STATES,
        margins=margins,
        sees_margins=sees_margins,
        may_provision=principal.may(Permission.TENANTS_CHANGE),
    )


def _fits(row: TenantRow, typed: Mapping[str, str]) -> bool:
    tenant, words = row.tenant, typed["q"].casefold()
    text = f"{tenant.slug} {tenant.name} {tenant.contact or ''} {' '.join(tenant.hosts)}".casefold()
    return words in text and typed["tier"] in ("", tenant.tier) and typed["state"] in ("", tenant.status.value)
