"""keys admin create | list | rotate | revoke."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from tenantry.cli.context import confirm, opened
from tenantry.cli.limit_options import bad_value
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, print_table, say, stamp
from tenantry.cli.remote.api import Api
from tenantry.control.views import admin_view
from tenantry.domain.durations import BadDuration, read_duration
from tenantry.domain.roles import Role

app = typer.Typer(help="Create, list, rotate and revoke admin tokens, which open the admin API.", no_args_is_help=True)

# What JSON tells of one that was made, in this order.
_MADE = ("name", "token", "expires_at", "role", "tenants")
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
    slugs = sorted(set(tenant)) if tenant else None
    with opened() as at:
        if isinstance(at, Api):
            body = {"name": name, "role": role.value, "tenants": slugs, "expires_days": expires_days}
            made = at.write("POST", "admin-tokens", body=body)
        else:
            expires_at = _end(expires_days)
            token = at.directory.create_admin(name, expires_at, role, slugs)
            made = {"name": name, "token": token, "expires_at": stamp(expires_at) or None}
            made |= {"role": role.value, "tenants": slugs}
    if as_json:
        print_json({name: made[name] for name in _MADE})
        return
    _say_token(made)


@app.command("list")
def list_admins(as_json: AsJson = False) -> None:
    """Admin tokens by name: last four characters, role, tenants, whether they work, and when they were last used."""
    with opened() as at:
        if isinstance(at, Api):
            rows = at.items("admin-tokens")
        else:
            rows = [admin_view(one).as_json() for one in at.directory.list_admins()]
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
    with opened() as at:
        if isinstance(at, Api):
            body = {"grace": grace, "expires_days": expires_days}
            made = at.write("POST", "admin-tokens", name, "rotate", body=body)
        else:
            token = at.directory.rotate_admin(name, old_until, _end(expires_days))
            row = next(one for one in at.directory.list_admins() if one.name == name)
            made = {"name": name, "token": token, "expires_at": stamp(row.expires_at) or None, "role": row.role}
            made |= {"tenants": list(row.tenants) if row.tenants is not None else None}
            made |= {"old_until": stamp(row.old_until) or None}
    if as_json:
        print_json({name: made[name] for name in (*_MADE, "old_until")})
        return
    _say_token(made)
    say(f"The old one stops at {made['old_until']}." if made["old_until"] else "The old one works no more.")


@app.command()
def revoke(name: Name, yes: Yes = False) -> None:
    """Stop an admin token for good, from the next request on."""
    question = f"Whoever uses the admin token {name} will be refused at once. Revoke it?"
    with opened() as at:
        if isinstance(at, Api):
            at.get("admin-tokens", name)
            others = [one for one in at.items("admin-tokens") if one["name"] != name]
            confirm(question, yes)
            at.write("POST", "admin-tokens", name, "revoke")
            is_another_left = any(one["status"] == "active" for one in others)
        else:
            at.directory.require_admin(name)
            confirm(question, yes)
            is_another_left = at.directory.revoke_admin(name)
    say(f"{name} is revoked.")
    if not is_another_left:
        say(
            "No admin token works now: `tenantry keys admin create NAME` makes one, on the machine of control. "
            "Commands there need none."
        )


def _say_token(made: dict[str, Any]) -> None:
    tenants: list[str] | None = made["tenants"]
    whose = f" of {', '.join(tenants) or 'no tenant'}" if tenants is not None else ""
    until = f" and stops at {made['expires_at']}" if made["expires_at"] else ""
    say(f"{made['token']}\n(shown only now; it is called {made['name']}, {made['role']}{whose}{until})")


def _end(days: int | None) -> datetime | None:
    return datetime.now(UTC) + timedelta(days=days) if days is not None else None
