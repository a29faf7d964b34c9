"""What was used: a month's sums, rows of the ledger, and one request's story."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from tenantry.control.ledger_views import (
    RequestView,
    SiteUsageView,
    StoryView,
    UsageView,
    request_view,
    site_usage,
    story_view,
)
from tenantry.domain.roles import Permission
from tenantry.ledger.selection import Filters, LedgerRow, select_rows
from tenantry.ledger.story import find_story
from tenantry.ledger.usage import current_month, month_usage
from tenantry.web.answers import Refused
from tenantry.web.api.changes import MonthText, Name
from tenantry.web.api.operations import Call, Struct, operation
from tenantry.web.api.paging import Page, Paged, next_page, read_cursor


class UsageQuery(Struct):
    month: MonthText | None = None


@operation("GET", "/tenants/{slug}/usage", Permission.USAGE_READ, audited="usage")
def show_usage(call: Call, slug: str, query: UsageQuery) -> UsageView:
    """Show requests, tokens by class and cost by model, for one month; this one where none is said."""
    site, zone = call.site, call.site.settings.zone
    tenant = site.directory.get_tenant(slug)
    report = month_usage(site.engine, tenant.tenant_id, query.month or current_month(zone), zone)
    return msgspec.convert(report.as_json(slug), UsageView)


_PROOF: Final = {"without": False, "with": None, "only": True}


@operation("GET", "/usage", Permission.USAGE_READ, of_site=True, audited="usage")
def show_site_usage(call: Call, query: UsageQuery) -> SiteUsageView:
    """Show what each client used in one month, all together, and beside them the isolation proof."""
    return site_usage(call.site, query.month or current_month(call.site.settings.zone))


Time = Annotated[datetime, Meta(tz=True, description="With its offset, such as 2026-11-30T18:00:00Z.")]


class RequestsQuery(Paged):
    """`model`: asked for or served. `since` and `until`: when it ended.

    `proof`: what the isolation proof's own tenants sent is listed only `with` the rest, or `only` that.
    """

    tenant: Name | None = None
    key_id: Name | None = None
    model: Name | None = None
    outcome: Literal["settled", "voided", "estimated", "orphaned", "unpriced", "adjusted"] | None = None
    status: Annotated[int, Meta(ge=100, le=599)] | None = None
    since: Time | None = None
    until: Time | None = None
    proof: Literal["without", "with", "only"] = "without"


@operation("GET", "/requests", Permission.REQUESTS_READ, audited="requests")
def list_requests(call: Call, query: RequestsQuery) -> Page[RequestView]:
    """List rows of the ledger, the newest first: of every tenant that the token may see, or of one."""
    filters = Filters(
        tenant_ids(call, query.tenant),
        query.key_id,
        query.model,
        query.outcome,
        query.status,
        query.since,
        query.until,
        _PROOF[query.proof],
    )
    after = read_cursor(call, query)
    place = (int(after[0]), int(after[1])) if after is not None else None
    rows = select_rows(call.site.engine, filters, place, query.limit + 1)
    page: Page[LedgerRow] = next_page(call, query, rows, lambda one: (one.ended_at_us, one.entry_id))
    return Page([request_view(one) for one in page.data], page.next)


@operation("GET", "/requests/{request_id}", Permission.REQUESTS_READ)
def show_request(call: Call, request_id: str) -> StoryView:
    """Tell one request's story, by its id, an attempt's or upstream's: each attempt, what it used, what it cost."""
    may = call.principal.may
    found = [
        one
        for one in find_story(call.site.engine, request_id)
        if call.principal.tenants is None or may(Permission.REQUESTS_READ, one["tenant"])
    ]
    if not found:
        late = "it names attempts within a second after their end"
        raise Refused(404, f"the ledger has no request {request_id[:128]!r}; {late}")
    for slug in {one["tenant"] for one in found}:
        call.site.directory.audit("read.ledger", request_id[:128], {"tenant": slug})
    return story_view(found)


def tenant_ids(call: Call, slug: str | None) -> list[str] | None:
    """Those whose rows may be seen and are asked for; None: of all. Raises Refused: 404."""
    if slug is not None:
        if call.principal.tenants is not None and slug not in call.principal.tenants:
            raise Refused(404, f"there is no tenant {slug!r}")
        return [call.site.directory.get_tenant(slug).tenant_id]
    if call.principal.tenants is None:
        return None
    return [row.tenant_id for row in call.site.directory.list_tenants() if row.slug in call.principal.tenants]


OPERATIONS: Final = (show_usage, show_site_usage, list_requests, show_request)
