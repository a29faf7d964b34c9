"""Tenants, and what they used."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.views import tenant_view
from tenantry.domain.roles import Permission, Principal
from tenantry.ledger.usage import BadMonth, current_month, month_usage
from tenantry.storage.directory import NotInDirectory
from tenantry.web.answers import shown
from tenantry.web.tokens import address_of, site_of


def list_tenants(request: Request, principal: Principal) -> Response:
    site = site_of(request)
    _audit_read(request, principal, "tenants", None)
    return shown(
        [
            tenant_view(site.settings, row).as_json() | {"limits": row.limits.as_json()}
            for row in site.directory.list_tenants()
            if principal.may(Permission.TENANTS_READ, row.slug)
        ]
    )


def show_usage(request: Request, principal: Principal) -> Response:
    site, slug = site_of(request), str(request.path_params["slug"])
    zone = site.settings.zone
    try:
        tenant = site.directory.get_tenant(slug)
        _audit_read(request, principal, "usage", slug)
        month = request.query_params.get("month") or current_month(zone)
        report = month_usage(site.engine, tenant.tenant_id, month, zone)
    except NotInDirectory as error:
        raise HTTPException(404, str(error)) from None
    except BadMonth as error:
        raise HTTPException(400, str(error)) from None
    return shown(report.as_json(slug))


def _audit_read(request: Request, principal: Principal, what: str, slug: str | None) -> None:
    """Reading a tenant's data is told to the audit log before the data is."""
    directory = site_of(request).directory.acting_as(principal.actor, address_of(request))
    directory.audit(f"read.{what}", slug or "*", {"tenant": slug})
