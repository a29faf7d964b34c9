"""Exports: made, listed, downloaded."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from msgspec import Meta

from tenantry.control.export_files import ExportView, export_view, exports_folder, list_export_files, make_exports
from tenantry.control.views import View
from tenantry.domain.periods import DAY, BadPeriod, read_period
from tenantry.domain.roles import Permission
from tenantry.domain.values import value
from tenantry.web.answers import Refused
from tenantry.web.api.operations import Call, FileAt, Struct, operation
from tenantry.web.api.paging import Page, Paged, page_of

_MEDIA: Final = {"csv": "text/csv", "json": "application/json", "parquet": "application/vnd.apache.parquet"}
PeriodText = Annotated[
    str, Meta(pattern="^[0-9]{4}-(W[0-9]{2}|[0-9]{2})$", description="A week, 2026-W47, or a month, 2026-10.")
]


class ExportsQuery(Paged):
    period: PeriodText | None = None


@operation("GET", "/exports", Permission.EXPORTS_MAKE)
def list_exports(call: Call, query: ExportsQuery) -> Page[ExportView]:
    """List the files of exports, those on schedule and those that were asked for."""
    found = [
        one for one in list_export_files(call.site.settings) if query.period in (None, one.period) and _may(call, one)
    ]
    return page_of(call, query, found, lambda one: one.file)


@operation("GET", "/exports/{file}", Permission.EXPORTS_MAKE, media=tuple(_MEDIA.values()))
def download_export(call: Call, file: str) -> FileAt:
    """Download one."""
    path = exports_folder(call.site.settings) / file
    found = export_view(path)
    if found is None or not _may(call, found):
        raise Refused(404, f"there is no export {file[:128]!r}")
    call.site.directory.audit("read.export", found.tenant or "*", {"tenant": found.tenant, "period": found.period})
    return FileAt(path, _MEDIA[found.format])


def _may(call: Call, found: ExportView) -> bool:
    """Who is confined to a tenant has its files, and not those of one before it that had its name."""
    if call.principal.tenants is None:
        return True
    if found.tenant is None or not call.principal.may(Permission.EXPORTS_MAKE, found.tenant):
        return False
    return datetime.fromisoformat(found.written_at) >= call.site.directory.get_tenant(found.tenant).created_at


class ExportBody(Struct):
    period: PeriodText
    format: Literal["csv", "json", "parquet"] = "csv"


@value
class MadeView(View):
    file: str
    rows: int
    cost_nanos: int
    sha256: str


@value
class MadeExports(View):
    files: list[MadeView]


@operation("POST", "/exports", Permission.EXPORTS_MAKE, of_site=True, status=201, is_atomic=False)
def export_all(call: Call, body: ExportBody) -> MadeExports:
    """Write a week or a month of the ledger: a file for each tenant, and one of all."""
    return _made(call, None, body)


@operation("POST", "/tenants/{slug}/exports", Permission.EXPORTS_MAKE, status=201, is_atomic=False)
def export_tenant(call: Call, slug: str, body: ExportBody) -> MadeExports:
    """Write a week or a month of a tenant's rows; the sums are the ledger's to the nano-dollar."""
    return _made(call, slug, body)


def _made(call: Call, slug: str | None, body: ExportBody) -> MadeExports:
    period = read_period(body.period, call.site.settings.zone)
    if period.kind == DAY:
        raise BadPeriod(f"{body.period!r} is no week and no month")
    done = make_exports(call.site, period, slug, body.format, exports_folder(call.site.settings))
    return MadeExports([MadeView(one.path.name, one.row_count, one.cost_nanos, one.sha256) for one in done])


OPERATIONS: Final = (list_exports, export_all, export_tenant, download_export)
