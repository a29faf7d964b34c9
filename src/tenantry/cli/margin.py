"""margin: what each tenant and plan brings and costs in a month."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from tenantry.billing.months import Month
from tenantry.cli.context import opened
from tenantry.cli.months import month_option
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api
from tenantry.control.plan_views import tenant_margins
from tenantry.domain.money import NANOS_PER_USD, format_usd

_NANOS_PER_CENT = NANOS_PER_USD // 100
_COLUMNS = ("fixed", "metered", "overage", "corrections", "credits", "revenue", "cost", "margin", "projected")


def register(app: typer.Typer) -> None:
    app.command("margin")(margin)


def margin(
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="Default: this month.")] = None,
    as_json_: AsJson = False,
) -> None:
    """Revenue less list cost by tenant, plan and in total; where a running month goes; who is under water."""
    wanted = month_option(month)
    with opened() as at:
        if isinstance(at, Api):
            found = at.get("margin", month=wanted)
        else:
            found = tenant_margins(at, wanted or Month(at.directory.today().replace(day=1)))[1].as_json()
    if as_json_:
        print_json(found)
        return
    # A column that is empty in nearly every month would cost the width that a terminal has not.
    rare = {name: any(one["now"][f"{name}_nanos"] for one in found["tenants"]) for name in ("credits", "corrections")}
    columns = [name for name in _COLUMNS if rare.get(name, True)]
    rows = [_row(one["tenant"], one["plan"] or "", one) for one in found["tenants"]]
    rows += [_row(f"all on {name}" if name else "all without", "", one) for name, one in found["plans"].items()]
    rows.append(_row("total", "", found["total"]))
    say(f"{found['month']}, in dollars; projected: the margin at the month's end, at its pace so far")
    print_table(["tenant", "plan", *columns], [_shown(row, columns) for row in rows], right=columns)
    total = found["total"]["now"]
    if total["corrections_nanos"] or total["corrections_cost_nanos"]:
        brought, cost = cents(total["corrections_nanos"]), cents(total["corrections_cost_nanos"])
        say(f"Corrections of earlier months, booked in this one, are in it: revenue {brought}, cost {cost}.")
    if found["proof_nanos"]:
        proof = format_usd(found["proof_nanos"])
        say(f"In none of it: the isolation proof, {proof} at list price, which nobody pays.")
    for one in found["tenants"]:
        if one["under_water"]:
            fits = f"plan {one['fits']} would cover it" if one["fits"] else "no plan that there is would cover it"
            say(f"{one['tenant']} is under water: {fits} (`tenantry plans simulate {one['tenant']} --plan PLAN`).")


def _shown(row: list[str], columns: Sequence[str]) -> list[str]:
    name, plan, *amounts = row
    return [name, plan, *(amount for column, amount in zip(_COLUMNS, amounts, strict=True) if column in columns)]


def _row(name: str, plan: str, one: dict[str, Any]) -> list[str]:
    now: dict[str, int] = one["now"] | {"credits_nanos": -one["now"]["credits_nanos"]}
    amounts = [now[f"{column}_nanos"] for column in _COLUMNS if column != "projected"]
    return [name, plan, *map(cents, [*amounts, one["projected"]["margin_nanos"]])]


def cents(nanos: int) -> str:
    """To the cent, half up; for reading alone, `--json` is exact."""
    count = (2 * nanos + _NANOS_PER_CENT) // (2 * _NANOS_PER_CENT)
    whole, rest = divmod(abs(count), 100)
    return f"{'-' if count < 0 else ''}{whole:,}.{rest:02d}"
