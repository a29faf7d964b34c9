"""export: a week or a month of the ledger as files."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from tenantry.cli.context import USAGE, fail, if_interrupted, opened
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, print_table
from tenantry.cli.progress import Came, told_share
from tenantry.cli.remote.api import Api
from tenantry.cli.remote.files import fetch_exports
from tenantry.control.export_files import FormMissing, make_exports, writer_of
from tenantry.control.site import Site
from tenantry.domain.money import format_usd
from tenantry.domain.periods import MONTH, WEEK, BadPeriod, Period, read_period
from tenantry.ledger.exports import SumsDiffer

# Control knows where its days begin; a period's name is looked at before it is asked.
UTC_ZONE = ZoneInfo("UTC")


class Format(StrEnum):
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def register(app: typer.Typer) -> None:
    app.command("export")(export)


def export(
    week: Annotated[str | None, typer.Option(metavar="YYYY-Wnn", help="An ISO week, such as 2026-W47.")] = None,
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="A month, such as 2026-10.")] = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="SLUG", help="Only this tenant; default: each one, and all in one file.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="parquet needs tenantry[parquet].")] = Format.CSV,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to; it is made.")] = Path("exports"),
    as_json: AsJson = False,
) -> None:
    """Every row of a week or month, adjustments included; the sums are the ledger's to the nano-dollar."""
    with opened() as at:
        try:
            said = f"files that are in {out} are whole, the others are not there"
            with if_interrupted(lambda: said), told_share(sys.stderr, "written") as came:
                if isinstance(at, Api):
                    period = _period(week, month, UTC_ZONE)
                    done = fetch_exports(at, period.label, tenant, form, out, came)
                else:
                    done = _make(at, _period(week, month, at.settings.zone), tenant, form, out, came)
        except SumsDiffer as error:
            raise fail(str(error)) from None
        except OSError as error:
            raise fail(f"{out} cannot be written: {error.strerror or error}") from None
    if as_json:
        print_json(done)
        return
    columns = ["file", "rows", "cost"]
    print_table(columns, [[one["file"], one["rows"], format_usd(one["cost_nanos"])] for one in done], right=columns[1:])


def _make(site: Site, period: Period, tenant: str | None, form: Format, out: Path, came: Came) -> list[dict[str, Any]]:
    try:
        writer_of(form)
    except FormMissing as error:
        raise fail(str(error), USAGE) from None
    return [
        {"file": str(one.path), "rows": one.row_count, "cost_nanos": one.cost_nanos, "sha256": one.sha256}
        for one in make_exports(site, period, tenant, form, out, came)
    ]


def _period(week: str | None, month: str | None, zone: ZoneInfo) -> Period:
    if (week is None) == (month is None):
        raise fail("say which period: --week 2026-W47 or --month 2026-10", USAGE)
    label, kind = (week, WEEK) if week is not None else (month or "", MONTH)
    try:
        period = read_period(label, zone)
    except BadPeriod as error:
        raise fail(str(error), USAGE) from None
    if period.kind != kind:
        raise fail(f"{label!r} is a {period.kind}, not a {kind}", USAGE)
    return period
