"""Exports by hand, and the files that exports have become."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Final

from tenantry.control.site import Site
from tenantry.control.views import View
from tenantry.domain.periods import Period
from tenantry.domain.printable import stamp
from tenantry.domain.values import value
from tenantry.ledger.exports import Exported, Wanted, Write, file_name, write_csv, write_exports, write_json
from tenantry.settings import Settings

_NAME: Final = re.compile(r"usage-(\d{4}-(?:W\d\d|\d\d))(?:-([a-z0-9][a-z0-9-]*))?\.(csv|json|parquet)", re.ASCII)


class FormMissing(ValueError):
    """parquet needs pyarrow: pip install 'tenantry[parquet]', or take csv or json"""


@value
class ExportView(View):
    """A file of a week or month. `tenant` null: of all tenants together."""

    file: str
    period: str
    tenant: str | None
    format: str
    bytes: int
    written_at: str


def exports_folder(settings: Settings) -> Path:
    """Where those on schedule go, and those that the admin API makes."""
    return settings.data_dir / "exports"


def writer_of(form: str) -> Write:
    """Raises: FormMissing."""
    if form != "parquet":
        return write_csv if form == "csv" else write_json
    try:
        return import_module("tenantry.ledger.parquet").write_parquet
    except ImportError:
        raise FormMissing((FormMissing.__doc__ or "").strip()) from None


def make_exports(
    site: Site,
    period: Period,
    slug: str | None,
    form: str,
    folder: Path,
    came: Callable[[float], None] = lambda share: None,
) -> list[Exported]:
    """One tenant's file, or each tenant's and one of all.

    Raises:
        NotInDirectory: no such tenant.
        FormMissing, SumsDiffer, OSError: as `writer_of` and `write_exports`.
    """
    write = writer_of(form)
    site.directory.audit("read.export", slug or "*", {"tenant": slug, "period": period.label})
    wanted: list[tuple[str | None, str | None]] = [(None, None)]
    if slug is not None:
        wanted = [(site.directory.get_tenant(slug).tenant_id, slug)]
    else:
        wanted += [(row.tenant_id, row.slug) for row in site.directory.list_tenants()]
    files = [Wanted(file_name(period, one, form), tenant_id) for tenant_id, one in wanted]
    return write_exports(site.engine, period, files, folder, write, came)


def list_export_files(settings: Settings) -> list[ExportView]:
    """By name."""
    folder = exports_folder(settings)
    found = [export_view(path) for path in sorted(folder.glob("usage-*"))] if folder.is_dir() else []
    return [one for one in found if one is not None]


def export_view(path: Path) -> ExportView | None:
    """None: it is no export, or not there any more."""
    named = _NAME.fullmatch(path.name)
    if named is None or not path.is_file():
        return None
    told = path.stat()
    written_at = stamp(datetime.fromtimestamp(int(told.st_mtime), UTC))
    return ExportView(path.name, named[1], named[2], named[3], told.st_size, written_at)
