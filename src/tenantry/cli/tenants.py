"""tenants list | show | disable | enable | export | schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import Row

from tenantry.cli.context import confirm, fail, opened_site
from tenantry.cli.output import print_json, print_table, stamp
from tenantry.control.client_guide import endpoint_of
from tenantry.control.declared.exporting import export_tenants
from tenantry.control.declared.schema import json_schema
from tenantry.control.declared.state import read_standing
from tenantry.control.site import Site
from tenantry.domain.directory import TenantStatus
from tenantry.storage.columns import now_utc

app = typer.Typer(help="List, show, disable and enable tenants.", no_args_is_help=True)

Slug = Annotated[str, typer.Argument(help="The tenant's slug.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("list")
def list_tenants(as_json: AsJson = False) -> None:
    """All tenants."""
    with opened_site() as site:
        rows = [_values(site, row) for row in site.directory.list_tenants()]
    if as_json:
        print_json(rows)
        return
    columns = ["slug", "name", "status", "tier", "sessions_max", "credential"]
    print_table(columns, [[row[column] or "" for column in columns] for row in rows], right=["sessions_max"])


@app.command()
def show(slug: Slug, as_json: AsJson = False) -> None:
    """One tenant: endpoint, tier, limits, credential, keys."""
    with opened_site() as site:
        site.directory.get_tenant(slug)
        site.directory.audit("read.tenant", slug, {})
        row = next(row for row in site.directory.list_tenants() if row.slug == slug)
        values = _values(site, row)
        keys = [
            {"key_id": key.key_id, "label": key.label, "key": key.hint, "status": key.status}
            for key in site.directory.list_keys(slug)
        ]
    if as_json:
        print_json(values | {"keys": keys})
        return
    for name, value in values.items():
        typer.echo(f"{name:14}{value if value is not None else ''}")
    for key in keys:
        typer.echo(f"{'key':14}{key['key_id']}  {key['key']}  {key['status']}  {key['label']}")


@app.command()
def disable(slug: Slug, yes: Yes = False) -> None:
    """Refuse every request of a tenant with 403, from within a second on."""
    with opened_site() as site:
        site.directory.get_tenant(slug)
        confirm(f"Every request of {slug} will be refused. Disable it?", yes)
        site.directory.set_tenant_status(slug, TenantStatus.DISABLED)
    typer.echo(f"{slug} is disabled. `tenantry tenants enable {slug}` brings it back with the same keys.")


@app.command()
def enable(slug: Slug) -> None:
    """Serve a disabled tenant again; nothing changes at the client."""
    with opened_site() as site:
        site.directory.set_tenant_status(slug, TenantStatus.ACTIVE)
    typer.echo(f"{slug} is active.")


@app.command()
def export(
    out: Annotated[Path | None, typer.Option(help="Write it here; default: standard output.")] = None,
) -> None:
    """All tenants as a file for `plan` and `apply`. There is no secret in it."""
    with opened_site() as site:
        site.directory.audit("read.export", "*", {"tenant": None})
        text = export_tenants(read_standing(site.directory), site.settings.zone, now_utc())
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise fail(f"{out}: {error.strerror}; nothing was written") from None
    typer.echo(f"Wrote {out}. `tenantry plan {out}` compares it with the gateway.")


@app.command()
def schema() -> None:
    """The JSON schema of such a file, for editors."""
    print_json(json_schema())


def _values(site: Site, row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    return {
        "slug": row.slug,
        "name": row.name,
        "tenant_id": row.tenant_id,
        "status": row.status,
        "endpoint": endpoint_of(site.settings, row.slug),
        "tier": row.tier,
        "sessions_max": site.directory.limits_of(row).sessions_max,
        "credential": row.credential,
        "created_at": stamp(row.created_at),
    }
