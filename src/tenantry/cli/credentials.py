"""credentials add | list | rotate | check | bind | unbind-fallback | move."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tenantry.cli.context import FAILED, USAGE, fail, opened
from tenantry.cli.options import AsJson, Slug
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api
from tenantry.cli.secrets import read_secret
from tenantry.control.credential_check import Verdict, check_credential
from tenantry.control.live_everywhere import health_everywhere
from tenantry.control.site import UPSTREAM
from tenantry.control.views import credential_views
from tenantry.domain.alerts import mend_spent
from tenantry.ledger.live import SPENT, dead_credentials

app = typer.Typer(
    help="Add, list, rotate, check, bind and move upstream credentials. A credential is never shown again.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="The credential's name.")]
FromEnv = Annotated[str | None, typer.Option("--env", metavar="VAR", help="Take it from this environment variable.")]
FromStdin = Annotated[bool, typer.Option("--stdin", help="Read it from standard input.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    env: FromEnv = None,
    stdin: FromStdin = False,
    shared: Annotated[bool, typer.Option("--shared", help="Several tenants may use it.")] = False,
    upstream: Annotated[str, typer.Option(help="The upstream it belongs to.")] = UPSTREAM,
    workspace: Annotated[str | None, typer.Option(help="Workspace id to select with each request.")] = None,
) -> None:
    """Store a credential, encrypted."""
    secret = _read_secret(env, stdin)
    with opened() as at:
        if isinstance(at, Api):
            body = {"name": name, "secret": secret, "upstream": upstream, "shared": shared, "workspace_id": workspace}
            at.write("POST", "credentials", body=body)
        else:
            at.directory.add_credential(name, secret, upstream, shared=shared, workspace_id=workspace)
    say(f"Stored as {name}. Use it with: tenantry provision NAME --credential {name}")


@app.command("list")
def list_credentials(as_json: AsJson = False) -> None:
    """Credentials by name, their last four characters, their upstream, who uses them, and which are out of money."""
    with opened() as at:
        if isinstance(at, Api):
            rows = at.items("credentials")
        else:
            dead = dead_credentials(health_everywhere(at.engine, at.settings.journal_dir))
            found = credential_views(at.directory.list_credentials(), at.directory.list_tenants(), dead)
            rows = [one.as_json() for one in found]
    if as_json:
        print_json(rows)
        return
    columns = ["name", "upstream", "key", "shared", "tenants", "falls_back", "workspace_id", "created_at"]
    cells = [row | {name: ", ".join(row[name]) for name in ("tenants", "falls_back")} for row in rows]
    if any(row["state"] for row in rows):
        columns.append("state")
    print_table(columns, [["" if row[column] is None else row[column] for column in columns] for row in cells])
    for row in rows:
        if row["state"].startswith(SPENT):
            say(f"{row['name']} is {row['state']}. {mend_spent(row['name'])}.")


@app.command()
def rotate(name: Name, env: FromEnv = None, stdin: FromStdin = False) -> None:
    """Put a new secret in the place of the old one; requests in flight end under the old."""
    secret = _read_secret(env, stdin)
    with opened() as at:
        if isinstance(at, Api):
            at.write("POST", "credentials", name, "rotate", body={"secret": secret})
        else:
            at.directory.replace_secret(name, secret)
    say(f"{name} has a new secret; gateways use it within a second. Prove it: tenantry credentials check {name}")


@app.command()
def check(name: Name, as_json: AsJson = False) -> None:
    """Ask the credential's upstream whether it works; exit 1 when it does not.

    When it works, gateways use it again at once, whatever they knew against it, such as a spending cap until a date.
    """
    with opened() as at:
        if isinstance(at, Api):
            done = at.write("POST", "credentials", name, "check")
            base_url = done.pop("base_url")
        else:
            credential = at.directory.open_credential(name)
            checked = check_credential(credential)
            if checked.verdict is Verdict.WORKS:
                at.directory.credential_works(name)
            done, base_url = {"name": name, "upstream": credential.upstream.name}, credential.upstream.base_url
            done |= asdict(checked)
    where = f"{done['upstream']}, {base_url}"
    if as_json:
        print_json(done)
    elif done["verdict"] == Verdict.WORKS:
        say(f"{name} works at {where}: {done['found']}, {done['milliseconds']} ms")
    if done["verdict"] != Verdict.WORKS:
        raise fail(f"{name}: {done['verdict']} at {where}: {done['found']}", FAILED)


@app.command()
def bind(
    slug: Slug,
    name: Name,
    fallback: Annotated[
        bool, typer.Option("--fallback", help="Use it when the tenant's first one cannot serve.")
    ] = False,
    shared: Annotated[bool, typer.Option("--shared", help="Declare that several tenants may use it.")] = False,
) -> None:
    """Serve a tenant with this credential, or fall back to it."""
    with opened() as at:
        if isinstance(at, Api):
            where = "fallback" if fallback else "credential"
            at.write("PUT", "tenants", slug, where, body={"name": name, "shared": shared})
        else:
            at.directory.bind_credential(slug, name, declare_shared=shared, as_fallback=fallback)
    say(f"{slug} {'falls back to' if fallback else 'is served with'} {name}.")


@app.command("unbind-fallback")
def unbind_fallback(slug: Slug) -> None:
    """Let a tenant fall back to nothing."""
    with opened() as at:
        if isinstance(at, Api):
            at.write("DELETE", "tenants", slug, "fallback")
        else:
            at.directory.drop_fallback(slug)
    say(f"{slug} falls back to nothing.")


@app.command()
def move(name: Name, upstream: Annotated[str, typer.Option(help="The upstream it belongs to from now on.")]) -> None:
    """Switch a credential, and with it its tenants, to another upstream; clients change nothing."""
    with opened() as at:
        if isinstance(at, Api):
            at.write("POST", "credentials", name, "move", body={"upstream": upstream})
        else:
            at.directory.move_credential(name, upstream)
    say(f"{name} belongs to {upstream} now. Prove it: tenantry credentials check {name}")


def _read_secret(env: str | None, stdin: bool) -> str:
    if (env is None) != stdin:
        raise fail("say where the credential comes from: --env VAR or --stdin", USAGE)
    return read_secret(env)
