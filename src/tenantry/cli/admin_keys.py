"""keys admin create | list | rotate | revoke."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from tenantry.cli.context import confirm, opened_site
from tenantry.cli.limit_options import bad_value
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, print_table, say, stamp
from tenantry.control.views import admin_view
from tenantry.domain.durations import BadDuration, read_duration
from tenantry.domain.roles import Role

app = typer.Typer(help="Create, list, rotate and revoke admin tokens, which open the admin API.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The token's name; the audit log says it.")]
ExpiresDays = Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it stops.")]
AsRole = Annotated[
    Role, typer.Option("--role", help="owner: everything; operator: clients; billing: money; viewer: looks.")
]
OnlyTenants = Annotated[
    list[str] | None,
    typer.Option("--tenant", metavar="SLUG", help="For this tenant alone; repeatable. Default: all of the site."),
]


@app.command()
def create(
    name: Name,
    role: AsRole = Role.OWNER,
    tenant: OnlyTenants = None,
    expires_days: ExpiresDays = None,
    as_json: AsJson = False,
) -> None:
    """A new admin token under a name of its own; it is shown once."""
    expires_at, slugs = _end(expires_days), sorted(set(tenant)) if tenant else None
    with opened_site() as site:
        token = site.directory.create_admin(name, expires_at, role, slugs)
    if as_json:
        made = {"name": name, "token": token, "expires_at": stamp(expires_at) or None}
        print_json(made | {"role": role.value, "tenants": slugs})
        return
    whose = f" of {', '.join(slugs)}" if slugs else ""
    say(f"{token}\n(shown only now; it is called {name}, {role}{whose}{_until(expires_at)})")


@app.command("list")
def list_admins(as_json: AsJson = False) -> None:
    """Admin tokens by name: last four characters, role, tenants, whether they work, and when they were last used."""
    with opened_site() as site:
        rows = [admin_view(one).as_json() for one in site.directory.list_admins()]
    if as_json:
        print_json(rows)
        return
    columns = ["name", "token", "role", "tenants", "status", "created_at", "expires_at", "old_until", "used_at"]
    shown = [row | {"tenants": "all" if row["tenants"] is None else " ".join(row["tenants"]) or "none"} for row in rows]
    print_table(columns, [[row[column] for column in columns] for row in shown])


@app.command()
def rotate(
    name: Name,
    grace: Annotated[str, typer.Option(help="How long the old token goes on: 30m, 24h, 7d, or 0.")] = "0",
    expires_days: ExpiresDays = None,
    as_json: AsJson = False,
) -> None:
    """A new token under the same name; the old one stops, at once or after the time of grace."""
    try:
        old_until = datetime.now(UTC) + read_duration(grace)
    except BadDuration as error:
        raise bad_value(error) from None
    with opened_site() as site:
        token = site.directory.rotate_admin(name, old_until, _end(expires_days))
        row = next(one for one in site.directory.list_admins() if one.name == name)
    if as_json:
        made = {"name": name, "token": token, "expires_at": stamp(row.expires_at) or None}
        made |= {"role": row.role, "tenants": list(row.tenants) if row.tenants is not None else None}
        print_json(made | {"old_until": stamp(row.old_until) or None})
        return
    whose = f" of {', '.join(row.tenants) or 'no tenant'}" if row.tenants is not None else ""
    say(f"{token}\n(shown only now; it is called {name}, {row.role}{whose}{_until(row.expires_at)})")
    say(f"The old one stops at {stamp(row.old_until)}." if row.old_until is not None else "The old one works no more.")


@app.command()
def revoke(name: Name, yes: Yes = False) -> None:
    """Stop an admin token for good, from the next request on."""
    with opened_site() as site:
        site.directory.require_admin(name)
        confirm(f"Whoever uses the admin token {name} will be refused at once. Revoke it?", yes)
        is_another_left = site.directory.revoke_admin(name)
    say(f"{name} is revoked.")
    if not is_another_left:
        say("No admin token works now: `tenantry keys admin create NAME` makes one. Commands need none.")


def _end(days: int | None) -> datetime | None:
    return datetime.now(UTC) + timedelta(days=days) if days is not None else None


def _until(expires_at: datetime | None) -> str:
    return f" and stops at {stamp(expires_at)}" if expires_at is not None else ""
