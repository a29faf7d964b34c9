"""controls list."""

from __future__ import annotations

import typer

from tenantry.cli.context import opened
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api

app = typer.Typer(help="Control processes: which live, and who does what one does at a time.", no_args_is_help=True)


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """Every control process that shares this store; who books its machine's journals, and who leads the site."""
    with opened() as at:
        if isinstance(at, Api):
            found = at.items("controls")
        else:
            from tenantry.control.controls import list_controls

            found = [one.as_json() for one in list_controls(at.settings, at.engine)]
    if as_json:
        print_json(found)
        return
    if not found:
        say("No control process runs: `tenantry serve` starts one.")
        return
    rows = [
        [
            one["machine"],
            one["pid"],
            one["state"],
            one["address"],
            one["since"] or "",
            "yes" if one["books"] else "",
            "yes" if one["leads"] else "",
        ]
        for one in found
    ]
    print_table(["machine", "process", "state", "address", "since", "books", "leads"], rows, right=["process"])
