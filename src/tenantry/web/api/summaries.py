"""The summary of a week, as it is sent: a tenant's, and the agency's with its margin."""

from __future__ import annotations

from typing import Final, Literal

from tenantry.billing.summary_page import render_summary
from tenantry.control.summaries import agency_summary, named_week, tenant_summary
from tenantry.domain.roles import Permission
from tenantry.web.api.operations import JSON, Blob, Call, Struct, operation

_MEDIA: Final = {"text": "text/plain", "html": "text/html", "json": JSON}


class SummaryQuery(Struct):
    format: Literal["text", "html", "json"] = "json"


@operation(
    "GET",
    "/tenants/{slug}/summaries/{week}",
    Permission.USAGE_READ,
    audited="usage",
    media=tuple(_MEDIA.values()),
)
def show_summary(call: Call, slug: str, week: str, query: SummaryQuery) -> Blob:
    """Show a tenant's summary of a week, such as 2026-W47, or of the `last`."""
    period = named_week(call.site, week)
    return _blob(tenant_summary(call.site, slug, period), query.format, f"{slug}-{period.label}")


@operation("GET", "/summaries/{week}", Permission.MARGIN_READ, audited="usage", media=tuple(_MEDIA.values()))
def show_agency_summary(call: Call, week: str, query: SummaryQuery) -> Blob:
    """Show the agency's summary of a week, with its margin."""
    period = named_week(call.site, week)
    return _blob(agency_summary(call.site, period), query.format, f"summary-{period.label}")


def _blob(summary: dict[str, object], form: str, name: str) -> Blob:
    ending = "txt" if form == "text" else form
    return Blob(render_summary(summary, form).encode(), _MEDIA[form], f"{name}.{ending}")


OPERATIONS: Final = (show_summary, show_agency_summary)
