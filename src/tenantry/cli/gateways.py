"""gateways list | forget."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tenantry.cli.context import confirm, opened_site
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, print_table, say, stamp
from tenantry.domain.money import format_usd

app = typer.Typer(help="Gateways of a cluster: list them, and declare a lost machine.", no_args_is_help=True)


@app.command("list")
def list_gateways(as_json: AsJson = False) -> None:
    """Every gateway that shares this store, and what it owns; the newest first."""
    with opened_site() as site:
        found = site.directory.list_gateways()
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        say("No gateway shares this store: `cluster` and `gateway_processes` are not set (docs/scaling.md).")
        return
    columns = ["gateway", "state", "address", "machine", "since", "cells", "tenants", "taken"]
    rows = [
        [
            one.gateway_id,
            one.state if one.is_booked or one.state != "ended" else "ended, not all booked",
            one.address,
            one.machine,
            stamp(one.since),
            one.cells,
            one.tenants,
            format_usd(one.taken_nanos),
        ]
        for one in found
    ]
    print_table(columns, rows, right=["cells", "tenants", "taken"])


@app.command()
def forget(
    gateway: Annotated[str, typer.Argument(metavar="GATEWAY", help="As `gateways list` names it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Declare the machine of a gateway lost, with its journal: what it had taken of budgets counts as spent.

    Until then that is held, for its journal may still come back and say what was spent. It is written to the audit log.
    """
    with opened_site() as site:
        confirm(f"Is the journal of {gateway} lost for good? What it says would never be booked.", yes)
        site.directory.forget_gateway(gateway)
    say(f"{gateway} is lost; what it had taken of budgets counts as spent.")
