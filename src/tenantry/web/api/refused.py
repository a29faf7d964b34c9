"""Requests that the gateway refused: the newest, and one by the id that its client was told."""

from __future__ import annotations

from typing import Final

from tenantry.control.refused_views import RefusedView, refused_view
from tenantry.control.site import slugs_of_tenants
from tenantry.domain.roles import Permission
from tenantry.ledger.refused import find_refused, list_refused
from tenantry.web.answers import Refused
from tenantry.web.api.changes import Name
from tenantry.web.api.operations import Call, operation
from tenantry.web.api.paging import Page, Paged, next_page, read_cursor
from tenantry.web.api.requests import tenant_ids


class RefusalsQuery(Paged):
    tenant: Name | None = None


@operation("GET", "/refusals", Permission.REQUESTS_READ, audited="refusals")
def list_refusals(call: Call, query: RefusalsQuery) -> Page[RefusedView]:
    """List requests that the gateway refused, the newest first: of those that are kept."""
    after = read_cursor(call, query)
    before = int(after[0]) if after is not None else None
    found = list_refused(call.site.engine, tenant_ids(call, query.tenant), before, query.limit + 1)
    page = next_page(call, query, found, lambda one: one[0])
    slugs = slugs_of_tenants(call.site)
    return Page([refused_view(one, slugs) for _, one in page.data], page.next)


@operation("GET", "/refusals/{request_id}", Permission.REQUESTS_READ)
def show_refusal(call: Call, request_id: str) -> RefusedView:
    """Tell why one request was refused, by the `request-id` that its client was told."""
    found, slugs = find_refused(call.site.engine, request_id), slugs_of_tenants(call.site)
    slug = slugs.get(found.tenant_id) if found is not None else None
    seen = call.principal.tenants
    if found is None or (seen is not None and slug not in seen):
        raise Refused(404, f"no refusal of {request_id[:128]!r} is kept")
    call.site.directory.audit("read.refusals", request_id[:128], {"tenant": slug})
    return refused_view(found, slugs)


OPERATIONS: Final = (list_refusals, show_refusal)
