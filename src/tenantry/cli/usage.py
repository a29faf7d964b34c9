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
from tenantry.domain.proof import PROOF_NAME
from tenantry.ledger.exports import replacing
from tenantry.ledger.usage import BadMonth, current_month, month_usage

if TYPE_CHECKING:
    from tenantry.control.site import Site


def register(app: typer.Typer) -> None:
    app.command("usage")(usage)


def usage(
    slug: Annotated[str | None, typer.Argument(help="The tenant's slug; or --all.")] = None,
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="Default: this month.")] = None,
    week: Annotated[
        str | None, typer.Option(metavar="YYYY-Www", help="The summary of a week, as it is sent; or `last`.")
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Of every tenant; of a week, the agency's summary.")] = False,
    form: Annotated[str, typer.Option("--format", metavar="text|html|json", help="Of a summary.")] = "text",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="A summary into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Requests, tokens and cost by model, of one tenant or all, in a month; or a week's summary."""
    if (slug is None) != everyone:
        raise fail("say which tenant; or --all, for every one", USAGE)
    if week is not None:
        if month is not None:
            raise fail("say --month or --week, not both", USAGE)
        _summary(slug, week, "json" if as_json else form, out)
        return
    if slug is None:
        _everyone(month, as_json)
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


def _everyone(month: str | None, as_json: bool) -> None:
    with opened() as at:
        report = at.get("usage", month=month) if isinstance(at, Api) else _month_of_all(at, month)
    if as_json:
        print_json(report)
        return
    say(f"{report['month']} ({report['time_zone']})")
    used = [(one["tenant"] or "(left)", one["used"]) for one in report["tenants"]]
    used += [("total", report["clients"])]
    if report["proof"]["requests"]:
        used += [(PROOF_NAME, report["proof"]), ("ledger", report["ledger"])]
    cells: list[list[object]] = [[name, one["requests"], f"{one['tokens']:,}", _cost(one)] for name, one in used]
    print_table(["tenant", "requests", "tokens", "cost"], cells, right=("requests", "tokens", "cost"))
    if report["proof"]["requests"]:
        say("The isolation proof's own requests went to an upstream of its own: nobody pays for them.")


def _month_of_all(site: Site, month: str | None) -> dict[str, Any]:
    # It takes a tenth of a second to load.
    from tenantry.control.ledger_views import site_usage

    site.directory.audit("read.usage", "all", {"month": month})
    try:
        return site_usage(site, month or current_month(site.settings.zone)).as_json()
    except BadMonth as error:
        raise fail(str(error), USAGE) from None


def _cost(used: dict[str, Any]) -> str:
    return used["cost_usd"] + (f" + {used['unpriced_requests']} unpriced" if used["unpriced_requests"] > 0 else "")


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
            _cost(one),
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
