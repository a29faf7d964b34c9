"""Exports: what was written on schedule, and any week or month now."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Row, select
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from tenantry.control.export_files import exports_folder
from tenantry.control.site import Site
from tenantry.domain.periods import DAY, BadPeriod, read_period
from tenantry.domain.roles import Permission, Principal
from tenantry.ledger.exports import SumsDiffer, Wanted, file_name, write_csv, write_exports, write_json
from tenantry.storage.records import TenantRecord
from tenantry.storage.tables import exports
from tenantry.web.pages.showing import audit_read, query, seen_scope, show
from tenantry.web.tokens import site_of

SHOWN: Final = 200
_WRITERS: Final = {"csv": (write_csv, "text/csv; charset=utf-8"), "json": (write_json, "application/json")}
FORMS: Final = tuple(_WRITERS)
_READ_BYTES: Final = 1 << 16


def list_exports(request: Request, principal: Principal) -> Response:
    site, scope = site_of(request), seen_scope(request, principal)
    by_id = scope.by_id()
    with site.engine.connect() as connection:
        found = connection.execute(select(exports).order_by(exports.c.written_at.desc()).limit(SHOWN)).all()
    rows = [
        (row, by_id[row.tenant_id].slug if row.tenant_id in by_id else "")
        for row in found
        if row.tenant_id in by_id or (scope.is_whole and not row.tenant_id)
    ]
    return show(
        request,
        principal,
        "exports",
        rows=rows,
        tenants=sorted(scope.tenants),
        typed={"period": "", "tenant": "", "form": "csv"},
        problems={},
        forms=list(_WRITERS),
        is_whole=scope.is_whole,
        folder=exports_folder(site.settings),
        may_make=any(principal.may(Permission.EXPORTS_MAKE, slug) for slug in scope.tenants) or scope.is_whole,
    )


def download(request: Request, principal: Principal) -> Response:
    """One that was written on schedule."""
    site, scope, name = site_of(request), seen_scope(request, principal), str(request.path_params["name"])
    with site.engine.connect() as connection:
        row = connection.execute(select(exports).where(exports.c.file_name == name)).first()
    is_seen = row is not None and (row.tenant_id in scope.by_id() or (scope.is_whole and not row.tenant_id))
    if row is None or not is_seen:
        raise HTTPException(404, "there is no such export")
    path = exports_folder(site.settings) / name
    if not path.is_file():
        _write_here(site, row)
    slug = scope.slug_of(row.tenant_id)
    audit_read(request, principal, "export", slug, period=row.period)
    return FileResponse(path, media_type="text/csv; charset=utf-8", filename=row.file_name)


def _write_here(site: Site, row: Row[*tuple[Any, ...]]) -> None:
    """A file that another machine wrote on schedule, on this one: its period has ended, so it is the same.

    Raises: HTTPException 409: it is not, for something of the period was booked or corrected since.
    """
    period, wanted = read_period(row.period, site.settings.zone), Wanted(row.file_name, row.tenant_id or None)
    folder = exports_folder(site.settings)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".from-ledger-", dir=folder) as name:
            (done,) = write_exports(site.engine, period, [wanted], Path(name), write_csv)
            if done.sha256 == row.sha256:
                done.path.replace(folder / row.file_name)
                return
    except SumsDiffer as error:
        raise HTTPException(409, str(error)) from None
    where = f"on {row.machine}" if row.machine else "where it was written"
    words = f"the file lies {where}, and something of {row.period} was corrected since: fetch it there, or make one now"
    raise HTTPException(409, words)


def make(request: Request, principal: Principal) -> Response:
    """A week or month, written now and sent."""
    site, scope = site_of(request), seen_scope(request, principal)
    typed = query(request, "period", "tenant", "form")
    tenant = scope.tenants.get(typed["tenant"])
    if tenant is None and (typed["tenant"] or not scope.is_whole):
        raise HTTPException(404, f"there is no tenant {typed['tenant']!r}")
    answer = exported(site, typed["period"], typed["form"], tenant)
    slug = tenant.slug if tenant is not None else None
    audit_read(request, principal, "export", slug, period=typed["period"])
    return answer


def exported(site: Site, period_text: str, form: str, tenant: TenantRecord | None) -> Response:
    """A week or month of one tenant or (None) all; its sums are proved against the ledger's before the first byte.

    Raises: HTTPException: a period or a form that cannot be; the sums differ.
    """
    if form not in _WRITERS:
        raise HTTPException(400, f"a form is {' or '.join(_WRITERS)}")
    try:
        period = read_period(period_text, site.settings.zone)
    except BadPeriod as error:
        raise HTTPException(400, str(error)) from None
    if period.kind == DAY:
        raise HTTPException(400, "a week such as 2026-W47, or a month such as 2026-10; a day's rows are under Requests")
    write, media_type = _WRITERS[form]
    slug, tenant_id = (tenant.slug, tenant.tenant_id) if tenant is not None else (None, None)
    wanted = Wanted(file_name(period, slug, form), tenant_id)
    folder = tempfile.TemporaryDirectory(prefix="tenantry-export-")
    try:
        write_exports(site.engine, period, [wanted], Path(folder.name), write)
    except SumsDiffer as error:
        folder.cleanup()
        raise HTTPException(409, str(error)) from None
    headers = {"content-disposition": f'attachment; filename="{wanted.name}"'}
    return StreamingResponse(_sent(folder, wanted.name), media_type=media_type, headers=headers)


def _sent(folder: tempfile.TemporaryDirectory[str], name: str) -> Iterator[bytes]:
    """The file, which is gone when it was sent."""
    with folder, (Path(folder.name) / name).open("rb") as file:
        while part := file.read(_READ_BYTES):
            yield part
