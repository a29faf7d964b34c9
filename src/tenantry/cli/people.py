"""keys people link | invite | list | change | disable | enable | reset-totp | delete."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry.cli.context import confirm, fail, opened_site
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, print_table, say
from tenantry.control.people.links import first_link, link_of
from tenantry.control.views import person_view
from tenantry.domain.people import FIRST_LINK_HOURS, LINK_HOURS
from tenantry.domain.roles import Role

app = typer.Typer(help="Invite, list, change, disable and delete people who sign in.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The name that they sign in with.")]
OfRole = Annotated[Role, typer.Option("--role", help="What they may do.")]
OfTenants = Annotated[
    list[str] | None, typer.Option("--tenant", help="Only for this tenant; again for more. Without it: for all.")
]
Email = Annotated[str, typer.Option("--email", help="By which the OIDC provider knows them.")]


@app.command()
def link(
    name: Annotated[str | None, typer.Argument(help="For whom; without it: for the first owner.")] = None,
    as_json: AsJson = False,
) -> None:
    """A one-time link: to become the first owner, or for NAME to choose a new password. It is shown once."""
    with opened_site() as site:
        found = first_link(site) if name is None else link_of(site, site.directory.issue_reset_link(name))
    if found is None:
        raise fail("there is an owner, who invites others: under People, or with `tenantry keys people invite`")
    _show(found, FIRST_LINK_HOURS if name is None else LINK_HOURS, as_json)


@app.command()
def invite(name: Name, role: OfRole, tenant: OfTenants = None, email: Email = "", as_json: AsJson = False) -> None:
    """Add somebody; they choose a password through a one-time link, which is shown once."""
    with opened_site() as site:
        token = site.directory.invite_person(name, role, email or None, tenant or None)
        found = link_of(site, token)
    _show(found, LINK_HOURS, as_json)


@app.command("list")
def list_people(as_json: AsJson = False) -> None:
    """People by name, with what they may do, their second factor, and when they last signed in."""
    with opened_site() as site:
        rows = [person_view(one).as_json() for one in site.directory.list_people()]
    if as_json:
        print_json(rows)
        return
    columns = ["name", "role", "tenants", "status", "second_factor", "email", "signed_in_at"]
    print_table(columns, [[_cell(row[column]) for column in columns] for row in rows])


@app.command()
def change(
    name: Name,
    role: OfRole,
    tenant: OfTenants = None,
    email: Annotated[str | None, typer.Option("--email", help="Another address; '' for none.")] = None,
) -> None:
    """What somebody may do from now on, and for which tenants; where that is something else they sign in again."""
    with opened_site() as site:
        site.directory.change_person(name, role, tenant or None, email)
    say(f"{name} is {role} for {', '.join(tenant) if tenant else 'all tenants'}.")


@app.command()
def disable(name: Name, yes: Yes = False) -> None:
    """Sign somebody out everywhere, and let them in no more."""
    with opened_site() as site:
        confirm(f"{name} will be signed out at once, and cannot sign in. Disable?", yes)
        site.directory.disable_person(name)
    say(f"{name} is disabled.")


@app.command()
def enable(name: Name) -> None:
    """Let somebody in again who was disabled."""
    with opened_site() as site:
        site.directory.enable_person(name)
    say(f"{name} may sign in again.")


@app.command("reset-totp")
def reset_totp(name: Name, yes: Yes = False) -> None:
    """Turn off the second factor of somebody who has lost it, and their recovery codes."""
    with opened_site() as site:
        person = site.directory.find_person(name)
        if person is None:
            raise fail(f"there is nobody called {name!r}; `tenantry keys people list` names them")
        confirm(f"{name} will sign in by password alone. Turn the second factor off?", yes)
        site.directory.drop_second_factor(person)
    say(f"{name} signs in without a second factor now.")


@app.command()
def delete(name: Name, yes: Yes = False) -> None:
    """Remove somebody; what they did stays in the audit log."""
    with opened_site() as site:
        confirm(f"{name} will be signed out at once and removed. Delete?", yes)
        site.directory.delete_person(name)
    say(f"{name} is removed.")


def _show(found: str, hours: int, as_json: bool) -> None:
    if as_json:
        print_json({"link": found, "hours": hours})
        return
    say(f"{found}\n(shown only now; it works once, within {hours} h)")


def _cell(shown: str | bool | list[str] | None) -> str:
    if isinstance(shown, list):
        return " ".join(shown)
    if isinstance(shown, bool):
        return "yes" if shown else "no"
    return shown or ""
