"""credentials add | list."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry.cli.context import USAGE, fail, opened_site
from tenantry.cli.output import print_json, print_table, stamp
from tenantry.cli.provision import read_secret
from tenantry.cli.tenants import AsJson
from tenantry.control.site import UPSTREAM

app = typer.Typer(help="Add and list upstream credentials. A credential is never shown again.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    env: Annotated[str | None, typer.Option(metavar="VAR", help="Take it from this environment variable.")] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read it from standard input.")] = False,
    shared: Annotated[bool, typer.Option("--shared", help="Several tenants may use it.")] = False,
    upstream: Annotated[str, typer.Option(help="The upstream it belongs to.")] = UPSTREAM,
    workspace: Annotated[str | None, typer.Option(help="Workspace id to select with each request.")] = None,
) -> None:
    """Store a credential, encrypted."""
    if (env is None) != stdin:
        raise fail("say where the credential comes from: --env VAR or --stdin", USAGE)
    secret = read_secret(env)
    with opened_site() as site:
        site.directory.add_credential(name, secret, upstream, shared=shared, workspace_id=workspace)
    typer.echo(f"Stored as {name}. Use it with: tenantry provision NAME --credential {name}")


@app.command("list")
def list_credentials(as_json: AsJson = False) -> None:
    """Credentials by name, with their last four characters."""
    with opened_site() as site:
        rows = [
            {
                "name": row.name,
                "upstream": row.upstream,
                "key": row.hint,
                "shared": bool(row.shared),
                "workspace_id": row.workspace_id,
                "created_at": stamp(row.created_at),
            }
            for row in site.directory.list_credentials()
        ]
    if as_json:
        print_json(rows)
        return
    columns = ["name", "upstream", "key", "shared", "workspace_id", "created_at"]
    print_table(columns, [["" if row[column] is None else row[column] for column in columns] for row in rows])
