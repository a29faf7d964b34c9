"""gateways list | forget."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry.cli.context import confirm, opened
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api
from tenantry.control.gateway_views import gateway_view
from tenantry.storage.directory.gateways import ENDED

app = typer.Typer(help="Gateways of a cluster: list them, and declare a lost machine.", no_args_is_help=True)


@app.command("list")
def list_gateways(as_json: AsJson = False) -> None:
    """Every gateway that shares this store, and what it owns; the newest first."""
    with opened() as at:
        if isinstance(at, Api):
            found = at.items("gateways")
        else:
            found = [gateway_view(one).as_json() for one in at.directory.list_gateways()]
    if as_json:
        print_json(found)
        return
    if not found:
        say("No gateway shares this store: `cluster` and `gateway_processes` are not set (docs/scaling.md).")
        return
    columns = ["gateway", "state", "address", "machine", "since", "cells", "tenants", "taken"]
    rows = [
        [
            one["gateway_id"],
            one["state"] if one["is_booked"] or one["state"] != ENDED else "ended, not all booked",
            one["address"],
            one["machine"],
            one["since"],
            one["cells"],
            one["tenants"],
            one["taken_usd"],
        ]
        for one in found
    ]
    print_table(columns, rows, right=["cells", "tenants", "taken"])


@app.command()
def forget(
    gateway: Annotated[str, typer.Argument(metavar="GATEWAY", help="As `gateways list` names it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Declare the machine of a gateway lost, with its journal: what it had taken of budgets counts as spent.

    Until then that is held. Should its journal be found after all, what that says is booked, and counts instead.
    It is written to the audit log.
    """
    with opened() as at:
        confirm(f"Is the machine of {gateway} lost, with its journal? What it had taken counts as spent.", yes)
        if isinstance(at, Api):
            found = at.write("POST", "gateways", gateway, "forget")
        else:
            at.directory.forget_gateway(gateway)
            found = gateway_view(at.directory.get_gateway(gateway)).as_json()
    if as_json:
        print_json(found)
        return
    say(f"{gateway} is lost; what it had taken of budgets counts as spent.")
