"""usage: what a tenant used in a month."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry.cli.context import USAGE, fail, opened_site
from tenantry.cli.options import AsJson, Slug
from tenantry.cli.output import print_json, print_table, say
from tenantry.domain.attempts import Outcome
from tenantry.domain.money import format_usd
from tenantry.ledger.usage import BadMonth, UsageReport, current_month, month_usage


def register(app: typer.Typer) -> None:
    app.command("usage")(usage)


def usage(
    slug: Slug,
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="Default: this month.")] = None,
    as_json: AsJson = False,
) -> None:
    """Requests, tokens by class and cost by model, for one month."""
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
    if report.slots:
        cells = [
            [one.slot or "(tenant's keys)", one.requests, f"{one.tokens:,}", format_usd(one.cost_nanos)]
            for one in report.slots
        ]
        print_table(["slot", "requests", "tokens", "cost"], cells, right=("requests", "tokens", "cost"))
    if orphans:
        say("orphaned: their gateway died before they ended; their cost is an estimate (docs/ledger.md)")
    if report.saved_nanos:
        say(f"saved by caching repeated system prompts: {format_usd(report.saved_nanos)}")
    unusual = {name: count for name, count in report.outcomes.items() if name != "settled"}
    if unusual:
        say("not settled: " + ", ".join(f"{count} {name}" for name, count in sorted(unusual.items())))
