"""The admin API of the control process. Every route but `/healthz` needs the admin token as a bearer."""

from __future__ import annotations

import json
from typing import Any

from litestar import Litestar, MediaType, Request, Response, get
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, NotFoundException, ValidationException
from litestar.handlers import BaseRouteHandler

from tenantry.control.site import Site
from tenantry.control.views import tenant_view
from tenantry.domain.printable import escaped
from tenantry.ledger.usage import BadMonth, current_month, month_usage
from tenantry.storage.directory import NotInDirectory


def require_admin(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """Fails closed: no token, no answer."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    site: Site = connection.app.state.site
    name = site.directory.find_admin(token) if scheme.lower() == "bearer" and token else None
    if name is None:
        raise NotAuthorizedException("the admin token is required: Authorization: Bearer ...")
    connection.state.admin = name


def audit_read(request: Request[Any, Any, Any], what: str, slug: str | None) -> None:
    """Reading a tenant's data is told to the audit log before the data is."""
    site: Site = request.app.state.site
    address = request.client.host if request.client is not None else ""
    site.directory.acting_as(f"api:{request.state.admin}", address).audit(f"read.{what}", slug or "*", {"tenant": slug})


@get("/healthz", sync_to_thread=False)
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@get("/api/v1/tenants", guards=[require_admin], sync_to_thread=True)
def tenants(request: Request[Any, Any, Any]) -> Response[bytes]:
    site: Site = request.app.state.site
    audit_read(request, "tenants", None)
    return _shown(
        [
            tenant_view(site.settings, row).as_json() | {"limits": row.limits.as_json()}
            for row in site.directory.list_tenants()
        ]
    )


@get("/api/v1/tenants/{slug:str}/usage", guards=[require_admin], sync_to_thread=True)
def usage(request: Request[Any, Any, Any], slug: str, month: str | None = None) -> Response[bytes]:
    site: Site = request.app.state.site
    zone = site.settings.zone
    try:
        tenant = site.directory.get_tenant(slug)
        audit_read(request, "usage", slug)
        report = month_usage(site.engine, tenant.tenant_id, month or current_month(zone), zone)
    except NotInDirectory as error:
        raise NotFoundException(str(error)) from None
    except BadMonth as error:
        raise ValidationException(str(error)) from None
    return _shown(report.as_json(slug))


def _shown(value: object) -> Response[bytes]:
    """JSON that does nothing to a terminal that it is printed on: names of models come from clients and upstreams."""
    return Response(escaped(json.dumps(value, ensure_ascii=False)).encode(), media_type=MediaType.JSON)


def control_app(site: Site) -> Litestar:
    app = Litestar(route_handlers=[healthz, tenants, usage], openapi_config=None, logging_config=None)
    app.state.site = site
    return app
