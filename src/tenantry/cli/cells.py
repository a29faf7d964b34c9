"""cells list."""

from __future__ import annotations

from dataclasses import asdict

import typer

from tenantry.cli.context import opened_site
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, print_table, say, stamp

app = typer.Typer(help="Cells: what counts together, and which gateway owns it.", no_args_is_help=True)
# Of the tenants of a cell, so many are named.
_NAMED_MAX = 3


@app.command("list")
def list_cells(as_json: AsJson = False) -> None:
    """Every capacity that was claimed, its tenants, and the gateway that grants for them."""
    with opened_site() as site:
        found = site.directory.list_cells()
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        say("No cell was claimed: they are where a tenant's first request comes in a cluster (docs/scaling.md).")
        return
    rows = [
        [
            one.capacity,
            one.gateway_id if one.is_live else f"nobody ({one.gateway_id} has ended)",
            stamp(one.since),
            one.epoch,
            len(one.tenants),
            ", ".join(one.tenants[:_NAMED_MAX]) + (", ..." if len(one.tenants) > _NAMED_MAX else ""),
        ]
        for one in found
    ]
    print_table(["cell", "owner", "since", "epoch", "tenants", "of whom"], rows, right=["epoch", "tenants"])
