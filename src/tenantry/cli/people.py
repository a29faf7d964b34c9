"""keys people link | invite | list | change | disable | enable | reset-totp | delete."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tenantry.cli.context import confirm, fail, opened
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api
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
    with opened() as at:
        if isinstance(at, Api):
            made = at.write("POST", *(("first-owner-link",) if name is None else ("people", name, "link")))
        else:
            found = first_link(at) if name is None else link_of(at, at.directory.issue_reset_link(name))
            if found is None:
                raise fail("there is an owner, who invites others: under People, or with `tenantry keys people invite`")
            made = {"link": found, "hours": FIRST_LINK_HOURS if name is None else LINK_HOURS}
    _show(made, as_json)


@app.command()
def invite(name: Name, role: OfRole, tenant: OfTenants = None, email: Email = "", as_json: AsJson = False) -> None:
    """Add somebody; they choose a password through a one-time link, which is shown once."""
    with opened() as at:
        if isinstance(at, Api):
            body = {"name": name, "role": role.value, "tenants": tenant or None, "email": email or None}
            made = at.write("POST", "people", body=body)
        else:
            token = at.directory.invite_person(name, role, email or None, tenant or None)
            made = {"link": link_of(at, token), "hours": LINK_HOURS}
    _show(made, as_json)


@app.command("list")
def list_people(as_json: AsJson = False) -> None:
    """People by name, with what they may do, their second factor, and when they last signed in."""
    with opened() as at:
        if isinstance(at, Api):
            rows = at.items("people")
        else:
            rows = [person_view(one).as_json() for one in at.directory.list_people()]
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
    with opened() as at:
        if isinstance(at, Api):
            body = {"role": role.value, "tenants": tenant or None} | ({"email": email} if email is not None else {})
            at.write("PUT", "people", name, body=body)
        else:
            at.directory.change_person(name, role, tenant or None, email)
    say(f"{name} is {role} for {', '.join(tenant) if tenant else 'all tenants'}.")


@app.command()
def disable(name: Name, yes: Yes = False) -> None:
    """Sign somebody out everywhere, and let them in no more."""
    with opened() as at:
        confirm(f"{name} will be signed out at once, and cannot sign in. Disable?", yes)
        if isinstance(at, Api):
            at.write("POST", "people", name, "disable")
        else:
            at.directory.disable_person(name)
    say(f"{name} is disabled.")


@app.command()
def enable(name: Name) -> None:
    """Let somebody in again who was disabled."""
    with opened() as at:
        if isinstance(at, Api):
            at.write("POST", "people", name, "enable")
        else:
            at.directory.enable_person(name)
    say(f"{name} may sign in again.")


@app.command("reset-totp")
def reset_totp(name: Name, yes: Yes = False) -> None:
    """Turn off the second factor of somebody who has lost it, and their recovery codes."""
    question = f"{name} will sign in by password alone. Turn the second factor off?"
    with opened() as at:
        if isinstance(at, Api):
            at.get("people", name)
            confirm(question, yes)
            at.write("DELETE", "people", name, "second-factor")
        else:
            person = at.directory.get_person(name)
            confirm(question, yes)
            at.directory.drop_second_factor(person)
    say(f"{name} signs in without a second factor now.")


@app.command()
def delete(name: Name, yes: Yes = False) -> None:
    """Remove somebody; what they did stays in the audit log."""
    with opened() as at:
        confirm(f"{name} will be signed out at once and removed. Delete?", yes)
        if isinstance(at, Api):
            at.write("DELETE", "people", name)
        else:
            at.directory.delete_person(name)
    say(f"{name} is removed.")


def _show(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    say(f"{made['link']}\n(shown only now; it works once, within {made['hours']} h)")


def _cell(shown: str | bool | list[str] | None) -> str:
    if isinstance(shown, list):
        return " ".join(shown)
    if isinstance(shown, bool):
        return "yes" if shown else "no"
    return shown or ""
