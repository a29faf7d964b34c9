"""upstreams list | show. They are declared in tenantry.toml."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry.cli.context import fail, opened
from tenantry.cli.limit_options import shown
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api
from tenantry.control.views import upstream_view
from tenantry.domain.limits import CAPACITY_LIMITS, LIMITS

app = typer.Typer(help="List and show upstreams; tenantry.toml declares them.", no_args_is_help=True)


@app.command("list")
def list_upstreams(as_json: AsJson = False) -> None:
    """All upstreams, and how many credentials belong to each."""
    with opened() as at:
        if isinstance(at, Api):
            rows = at.items("upstreams")
        else:
            credentials = at.directory.list_credentials()
            rows = [upstream_view(one, credentials).as_json() for one in at.directory.list_upstreams()]
    if as_json:
        print_json(rows)
        return
    columns = ["name", "base_url", "connect_seconds", "answer_seconds", "credentials"]
    cells = [[*(row[column] for column in columns[:-1]), len(row["credentials"])] for row in rows]
    print_table(columns, cells, right=columns[2:])


@app.command()
def show(name: Annotated[str, typer.Argument(help="The upstream's name.")], as_json: AsJson = False) -> None:
    """One upstream: address, time limits, capacity, and the credentials that belong to it."""
    with opened() as at:
        if isinstance(at, Api):
            values = at.get("upstreams", name)
        else:
            rows = {row.name: row for row in at.directory.list_upstreams()}
            if name not in rows:
                raise fail(f"there is no upstream {name!r}; there are: {', '.join(rows)}")
            values = upstream_view(rows[name], at.directory.list_credentials()).as_json()
    if as_json:
        print_json(values)
        return
    capacity, credentials = values.pop("capacity"), values.pop("credentials")
    for key, value in values.items():
        say(f"{key:17}{value}")
    for limit in CAPACITY_LIMITS:
        say(f"{LIMITS[limit].option:17}{shown(capacity.get(limit))}")
    say(f"{'credentials':17}{', '.join(credentials)}")
