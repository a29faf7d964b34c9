"""keys issue | list | revoke."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from tenantry.cli.context import confirm, opened_site
from tenantry.cli.output import print_json, print_table, stamp
from tenantry.cli.tenants import AsJson, Slug, Yes

app = typer.Typer(help="Issue, list and revoke gateway keys.", no_args_is_help=True)


@app.command()
def issue(
    slug: Slug,
    label: Annotated[str, typer.Option(help="What the key is for.")] = "",
    expires_days: Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it stops.")] = None,
    as_json: AsJson = False,
) -> None:
    """A new gateway key for a tenant; it is shown once."""
    expires_at = datetime.now(UTC) + timedelta(days=expires_days) if expires_days else None
    with opened_site() as site:
        key = site.directory.issue_key(slug, label, expires_at)
    if as_json:
        print_json({"tenant": slug, "key_id": key.key_id, "key": key.text, "expires_at": stamp(expires_at) or None})
        return
    typer.echo(f"{key.text}\n(shown only now; its id is {key.key_id})")


@app.command("list")
def list_keys(
    slug: Annotated[str | None, typer.Argument(help="Only this tenant's.")] = None, as_json: AsJson = False
) -> None:
    """Keys by id, with their last four characters."""
    with opened_site() as site:
        rows = [
            {
                "key_id": row.key_id,
                "tenant": row.slug,
                "key": row.hint,
                "label": row.label,
                "status": row.status,
                "created_at": stamp(row.created_at),
                "expires_at": stamp(row.expires_at),
            }
            for row in site.directory.list_keys(slug)
        ]
    if as_json:
        print_json(rows)
        return
    columns = ["key_id", "tenant", "key", "label", "status", "created_at", "expires_at"]
    print_table(columns, [[row[column] for column in columns] for row in rows])


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, `key_...`; `keys list` shows it.")], yes: Yes = False
) -> None:
    """Stop a key for good, from within a second on."""
    with opened_site() as site:
        confirm(f"Clients that use {key_id} will be refused at once. Revoke it?", yes)
        site.directory.revoke_key(key_id)
    typer.echo(f"{key_id} is revoked.")
