"""usage: what a tenant used in a month."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from tenantry.cli.context import USAGE, fail, opened_site
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, print_table, say
from tenantry.domain.attempts import Outcome
from tenantry.domain.money import format_usd
from tenantry.domain.periods import WEEK, BadPeriod, read_period
from tenantry.ledger.exports import replacing
from tenantry.ledger.usage import BadMonth, UsageReport, current_month, month_usage

LAST = "last"


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
    with opened_site() as site:
        zone = site.settings.zone
        tenant = site.directory.get_tenant(slug)
        site.directory.audit("read.usage", slug, {"month": month})
        try:
            report = month_usage(site.engine, tenant.tenant_id, month or current_month(zone), zone)
        except BadMonth as error:
            raise fail(str(error), USAGE) from None
    if as_json:
        print_json(report.as_json(slug))
    else:
        print_usage(slug, report)


def _summary(slug: str | None, label: str, form: str, out: Path | None) -> None:
    # What renders it takes a tenth of a second to load.
    from tenantry.billing.summary import last_week
    from tenantry.billing.summary_page import FORMATS, render_summary
    from tenantry.control.summaries import agency_summary, tenant_summary

    if form not in FORMATS:
        raise fail(f"--format is {', '.join(FORMATS)}, not {form[:20]!r}", USAGE)
    with opened_site() as site:
        zone = site.settings.zone
        try:
            week = last_week(time.time_ns() // 1000, zone) if label == LAST else read_period(label, zone)
        except BadPeriod:
            week = None
        if week is None or week.kind != WEEK:
            raise fail(f"a week is written YYYY-Www, such as 2026-W47, not {label[:20]!r}", USAGE)
        site.directory.audit("read.usage", slug or "all", {"week": week.label})
        summary = tenant_summary(site, slug, week) if slug is not None else agency_summary(site, week)
    text = render_summary(summary, form)
    if out is None:
        say(text, nl=False)
        return
    try:
        with replacing(out) as file:
            file.write(text.encode())
    except OSError as error:
        raise fail(f"{out} cannot be written: {error.strerror or error}") from None
    say(f"Wrote {out}.")


def print_usage(slug: str, report: UsageReport) -> None:
    """For a person."""
    say(f"{slug}, {report.month} ({report.time_zone})")
    columns = ["model", "requests", "input", "write 5m", "write 1h", "cache read", "output", "searches", "cost"]
    rows: list[list[object]] = [
        [
            one.model,
            one.requests,
            one.input_tokens,
            one.cache_write_5m_tokens,
            one.cache_write_1h_tokens,
            one.cache_read_tokens,
            one.output_tokens,
            one.web_search_requests,
            format_usd(one.cost_nanos) + (f" + {one.unpriced_requests} unpriced" if one.unpriced_requests > 0 else ""),
        ]
        for one in report.models
    ]
    rows.append(["total", report.requests, "", "", "", "", "", "", format_usd(report.cost_nanos)])
    orphans = report.outcomes.get(Outcome.ORPHANED.value, 0)
    if orphans:
        rows.append(["of it orphaned", orphans, "", "", "", "", "", "", format_usd(report.orphaned_nanos)])
    print_table(columns, rows, right=columns[1:])
    if orphans:
        say("orphaned: their gateway died before they ended; their cost is an estimate (docs/ledger.md)")
    if report.saved_nanos:
        say(f"saved by caching repeated system prompts: {format_usd(report.saved_nanos)}")
    unusual = {name: count for name, count in report.outcomes.items() if name != "settled"}
    if unusual:
        say("not settled: " + ", ".join(f"{count} {name}" for name, count in sorted(unusual.items())))
