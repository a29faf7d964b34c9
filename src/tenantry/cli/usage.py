"""usage: what a tenant used in a month."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry.cli.context import USAGE, fail, opened
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api
from tenantry.domain.attempts import Outcome
from tenantry.domain.money import format_usd
from tenantry.ledger.exports import replacing
from tenantry.ledger.usage import BadMonth, current_month, month_usage

if TYPE_CHECKING:
    from tenantry.control.site import Site


def register(app: typer.Typer) -> None:
    app.command("usage")(usage)


def usage(
    slug: Annotated[str | None, typer.Argument(help="The tenant's slug; or --all with --week.")] = None,
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="Default: this month.")] = None,
    week: Annotated[
        str | None, typer.Option(metavar="YYYY-Www", help="The summary of a week, as it is sent; or `last`.")
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="The agency's summary of a week, with its margin.")] = False,
    form: Annotated[str, typer.Option("--format", metavar="text|html|json", help="Of a summary.")] = "text",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="A summary into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Requests, tokens by class and cost by model, for one month; or the summary of a week."""
    if (slug is None) != everyone:
        raise fail("say which tenant; or --all with --week, the agency's summary", USAGE)
    if week is not None or slug is None:
        if month is not None or week is None:
            raise fail("say --week YYYY-Www, such as 2026-W47, or `last`", USAGE)
        _summary(slug, week, "json" if as_json else form, out)
        return
    with opened() as at:
        report = at.get("tenants", slug, "usage", month=month) if isinstance(at, Api) else _month(at, slug, month)
    if as_json:
        print_json(report)
    else:
        print_usage(report)


def _month(site: Site, slug: str, month: str | None) -> dict[str, Any]:
    zone = site.settings.zone
    tenant = site.directory.get_tenant(slug)
    site.directory.audit("read.usage", slug, {"month": month})
    try:
        report = month_usage(site.engine, tenant.tenant_id, month or current_month(zone), zone)
    except BadMonth as error:
        raise fail(str(error), USAGE) from None
    return report.as_json(slug)


def _summary(slug: str | None, label: str, form: str, out: Path | None) -> None:
    # It takes a tenth of a second to load.
    from tenantry.billing.summary_page import FORMATS

    if form not in FORMATS:
        raise fail(f"--format is {', '.join(FORMATS)}, not {form[:20]!r}", USAGE)
    with opened() as at:
        if isinstance(at, Api):
            whose = ("tenants", slug) if slug is not None else ()
            text = at.bytes_of(*whose, "summaries", label, format=form).decode()
        else:
            text = _week(at, slug, label, form)
    if out is None:
        say(text, nl=False)
        return
    try:
        with replacing(out) as file:
            file.write(text.encode())
    except OSError as error:
        raise fail(f"{out} cannot be written: {error.strerror or error}") from None
    say(f"Wrote {out}.")


def _week(site: Site, slug: str | None, label: str, form: str) -> str:
    from tenantry.billing.summary_page import render_summary
    from tenantry.control.summaries import BadWeek, agency_summary, named_week, tenant_summary

    try:
        week = named_week(site, label)
    except BadWeek as error:
        raise fail(str(error), USAGE) from None
    site.directory.audit("read.usage", slug or "all", {"week": week.label})
    return render_summary(tenant_summary(site, slug, week) if slug is not None else agency_summary(site, week), form)


def print_usage(report: dict[str, Any]) -> None:
    """For a person: what `UsageReport.as_json` has."""
    say(f"{report['tenant']}, {report['month']} ({report['time_zone']})")
    columns = ["model", "requests", "input", "write 5m", "write 1h", "cache read", "output", "searches", "cost"]
    rows: list[list[object]] = [
        [
            one["model"],
            one["requests"],
            one["input_tokens"],
            one["cache_write_5m_tokens"],
            one["cache_write_1h_tokens"],
            one["cache_read_tokens"],
            one["output_tokens"],
            one["web_search_requests"],
            format_usd(one["cost_nanos"])
            + (f" + {one['unpriced_requests']} unpriced" if one["unpriced_requests"] > 0 else ""),
        ]
        for one in report["models"]
    ]
    rows.append(["total", report["requests"], "", "", "", "", "", "", format_usd(report["cost_nanos"])])
    orphans = report["outcomes"].get(Outcome.ORPHANED.value, 0)
    if orphans:
        rows.append(["of it orphaned", orphans, "", "", "", "", "", "", format_usd(report["orphaned_nanos"])])
    print_table(columns, rows, right=columns[1:])
    if report["slots"]:
        cells = [
            [one["slot"] or "(tenant's keys)", one["requests"], f"{one['tokens']:,}", format_usd(one["cost_nanos"])]
            for one in report["slots"]
        ]
        print_table(["slot", "requests", "tokens", "cost"], cells, right=("requests", "tokens", "cost"))
    if orphans:
        say("orphaned: their gateway died before they ended; their cost is an estimate (docs/ledger.md)")
    if report["saved_by_caching_nanos"]:
        say(f"saved by caching repeated system prompts: {format_usd(report['saved_by_caching_nanos'])}")
    unusual = {name: count for name, count in report["outcomes"].items() if name != "settled"}
    if unusual:
        say("not settled: " + ", ".join(f"{count} {name}" for name, count in sorted(unusual.items())))
