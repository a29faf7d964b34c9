"""The admin API: its routes."""

from __future__ import annotations

from starlette.routing import Route

from tenantry.domain.roles import Permission
from tenantry.web.api.tenants import list_tenants, show_usage
from tenantry.web.routing import guarded
from tenantry.web.tokens import present_token

ROOT = "/api/v1"


def api_routes() -> list[Route]:
    return [
        guarded(f"{ROOT}/tenants", list_tenants, Permission.TENANTS_READ, present_token),
        guarded(f"{ROOT}/tenants/{{slug}}/usage", show_usage, Permission.USAGE_READ, present_token),
    ]
