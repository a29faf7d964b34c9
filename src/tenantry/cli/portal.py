"""tenants portal link | list | revoke | set: the page of its own that a client opens by a link."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry.cli.context import USAGE, fail, opened
from tenantry.cli.options import AsJson, Slug
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api
from tenantry.domain.portal import LINK_DAYS, LINK_DAYS_MAX

app = typer.Typer(
    help="Links to a client's own page: make, list and revoke them; what it allows.", no_args_is_help=True
)


@app.command()
def link(
    slug: Slug,
    days: Annotated[int, typer.Option(min=1, max=LINK_DAYS_MAX, help="How long it works.")] = LINK_DAYS,
    invoices: Annotated[bool, typer.Option("--invoices/--no-invoices", help="Show issued invoices there.")] = True,
    as_json: AsJson = False,
) -> None:
    """A new link to the client's own page, for the client. Whoever has it sees the page; it is shown once."""
    from tenantry.control.portal_links import portal_link_of, portal_link_view

    with opened() as at:
        if isinstance(at, Api):
            told = at.write("POST", "tenants", slug, "portal-links", body={"days": days, "invoices": invoices})
            if invoices and not told["invoices"]:
                say("Invoices are not shown there: this admin token may not see them itself.", err=True)
        else:
            made, token = at.directory.issue_portal_link(slug, days, shows_invoices=invoices)
            told = portal_link_view(slug, made).as_json() | {"link": portal_link_of(at, token)}
    if as_json:
        print_json({name: told[name] for name in ("tenant", "link_id", "link", "expires_at")})
        return
    say(told["link"])
    say(f"Send it to {slug} on a safe way. It works until {told['expires_at']} and is not shown again.")
    say(f"`tenantry tenants portal revoke {slug} {told['link_id']}` takes it back.")


@app.command("list")
def list_links(slug: Slug, as_json: AsJson = False) -> None:
    """Links of a client, and when each was opened last."""
    from tenantry.control.portal_links import portal_link_view

    with opened() as at:
        if isinstance(at, Api):
            rows = at.items("tenants", slug, "portal-links")
        else:
            rows = [portal_link_view(slug, one).as_json() for one in at.directory.list_portal_links(slug)]
    rows.sort(key=lambda one: (one["created_at"], one["link_id"]))
    if as_json:
        print_json(rows)
        return
    columns = ["link_id", "state", "expires_at", "opened_at", "made_by"]
    print_table(columns, [[row[column] or "" for column in columns] for row in rows])


@app.command()
def revoke(
    slug: Slug,
    link_id: Annotated[str | None, typer.Argument(metavar="LINK", help="Which, as `list` names it.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Each that works.")] = False,
) -> None:
    """Take a link back; whoever came by it is let out at once."""
    if (link_id is None) != all_:
        raise fail("name a link, or say --all; `tenantry tenants portal list` names them", USAGE)
    with opened() as at:
        if isinstance(at, Api):
            links = at.items("tenants", slug, "portal-links")
            active = [one["link_id"] for one in links if one["state"] == "active"]
        else:
            active = [one.link_id for one in at.directory.list_portal_links(slug) if one.state == "active"]
        gone = active if link_id is None else [link_id]
        for one in gone:
            if isinstance(at, Api):
                at.write("POST", "tenants", slug, "portal-links", one, "revoke")
            else:
                at.directory.revoke_portal_link(slug, one)
    say(f"{len(gone)} of {slug} taken back." if all_ else f"{link_id} is taken back.")


@app.command("set")
def set_portal(
    slug: Slug,
    rotate: Annotated[
        bool | None, typer.Option("--rotate/--no-rotate", help="The client may rotate its own keys there.")
    ] = None,
    password_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Ask for a password, which is in this environment variable.")
    ] = None,
    no_password: Annotated[bool, typer.Option("--no-password", help="The link is enough.")] = False,
) -> None:
    """What the client's own page allows, and whether it asks for a password besides the link."""
    from tenantry.cli.secrets import read_secret
    from tenantry.control.people.passwords import Passwords, common_passwords
    from tenantry.control.portal_links import portal_view
    from tenantry.domain.people import BadPassword, check_password

    if password_env is not None and no_password:
        raise fail("--password-env and --no-password contradict each other", USAGE)
    if rotate is None and password_env is None and not no_password:
        raise fail("say what to change, such as --rotate; `--help` has every option", USAGE)
    password: str | None = None
    if password_env is not None:
        try:
            password = check_password(read_secret(password_env), slug, common_passwords())
        except BadPassword as error:
            raise fail(str(error), USAGE) from None
    with opened() as at:
        if isinstance(at, Api):
            body = {"may_rotate": rotate} if rotate is not None else {}
            body |= {"password": password} if password is not None or no_password else {}
            found = at.write("PATCH", "tenants", slug, "portal", body=body)
        else:
            hashed = Passwords().hash(password) if password is not None else "" if no_password else None
            at.directory.set_portal(slug, rotate, hashed)
            found = portal_view(at, slug).as_json()
    asks = "asks for a password" if found["password"] else "opens by the link alone"
    say(f"The portal of {slug} {asks}; its keys are rotated by {'the client too' if found['may_rotate'] else 'you'}.")
