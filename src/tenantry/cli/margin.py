"""margin: what each tenant and plan brings and costs in a month."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from tenantry.billing.margin import Margin, TenantMargin, grouped, totals
from tenantry.billing.months import Month
from tenantry.cli.context import opened_site
from tenantry.cli.months import month_option
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, print_table, say
from tenantry.control.plan_views import tenant_margins
from tenantry.domain.money import NANOS_PER_USD

_NANOS_PER_CENT = NANOS_PER_USD // 100
_COLUMNS = ("fixed", "metered", "overage", "corrections", "credits", "revenue", "cost", "margin", "projected")


def register(app: typer.Typer) -> None:
    app.command("margin")(margin)


def margin(
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="Default: this month.")] = None,
    as_json_: AsJson = False,
) -> None:
    """Revenue less list cost by tenant, plan and in total; where a running month goes; who is under water."""
    with opened_site() as site:
        wanted = month_option(month, Month(site.directory.today().replace(day=1)))
        found, view = tenant_margins(site, wanted)
    if as_json_:
        print_json(view.as_json())
        return
    # A column that is empty in nearly every month would cost the width that a terminal has not.
    rare = {
        "credits": any(one.now.credits_nanos for one in found),
        "corrections": any(one.now.corrections_nanos for one in found),
    }
    columns = [name for name in _COLUMNS if rare.get(name, True)]
    rows = [_row(one.slug, one.plan, one.now, one.projected) for one in found]
    rows += [
        _row(f"all on {name}" if name else "all without", "", *_both(some)) for name, some in grouped(found).items()
    ]
    rows.append(_row("total", "", *_both(found)))
    say(f"{wanted}, in dollars; projected: the margin at the month's end, at its pace so far")
    print_table(["tenant", "plan", *columns], [_shown(row, columns) for row in rows], right=columns)
    total = totals(one.now for one in found)
    if total.corrections_nanos or total.corrections_cost_nanos:
        brought, cost = cents(total.corrections_nanos), cents(total.corrections_cost_nanos)
        say(f"Corrections of earlier months, booked in this one, are in it: revenue {brought}, cost {cost}.")
    for one in found:
        if one.is_under_water:
            fits = f"plan {one.fits} would cover it" if one.fits else "no plan that there is would cover it"
            say(f"{one.slug} is under water: {fits} (`tenantry plans simulate {one.slug} --plan PLAN`).")


def _both(some: list[TenantMargin]) -> tuple[Margin, Margin]:
    return totals(one.now for one in some), totals(one.projected for one in some)


def _shown(row: list[str], columns: Sequence[str]) -> list[str]:
    name, plan, *amounts = row
    return [name, plan, *(amount for column, amount in zip(_COLUMNS, amounts, strict=True) if column in columns)]


def _row(name: str, plan: str, now: Margin, projected: Margin) -> list[str]:
    parts = (now.fixed_nanos, now.metered_nanos, now.overage_nanos, now.corrections_nanos, -now.credits_nanos)
    amounts = (*parts, now.revenue_nanos, now.cost_nanos, now.margin_nanos, projected.margin_nanos)
    return [name, plan, *map(cents, amounts)]


def cents(nanos: int) -> str:
    """To the cent, half up; for reading alone, `--json` is exact."""
    count = (2 * nanos + _NANOS_PER_CENT) // (2 * _NANOS_PER_CENT)
    whole, rest = divmod(abs(count), 100)
    return f"{'-' if count < 0 else ''}{whole:,}.{rest:02d}"
