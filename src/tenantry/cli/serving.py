"""init, serve, restart, gateway, control, sandbox, doctor."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry.cli.context import FAILED, Processes, fail, is_nothing_there, opened, settings, told
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api
from tenantry.cli.remote.server import NAMED
from tenantry.settings import Settings

if TYPE_CHECKING:
    from tenantry.control.init import Initialised
    from tenantry.storage.migrating import Waiting


def register(app: typer.Typer) -> None:
    for command in (init, serve, restart, gateway, control, sandbox, doctor):
        app.command()(command)


def init() -> None:
    """Make master key, database and admin, or bring the database up to date; again, it changes nothing."""
    from tenantry.control.init import init_site

    found = settings()
    with told():
        done = init_site(found)
    _tell_initialised(found, done, None)


def database_words(found: Settings) -> str:
    """Where the books are now, without a password."""
    if found.store_url.startswith("postgresql:"):
        return f"tables in {found.store_url}"
    return f"database in {found.data_dir}"


def _tell_initialised(found: Settings, done: Initialised, token_file: Path | None) -> None:
    if done.made_master_key:
        say(f"Made the master key {found.master_key_file} (mode 0600).")
        say("Back it up apart from the database: without it no stored credential can be read.")
    for words in done.moved:
        say(f"{words[0].upper()}{words[1:]}.")
    if done.waiting is not None:
        _tell_waiting(done.waiting)
    if done.admin_token is None:
        say(f"Already initialised: {found.data_dir}")
        return
    say(f"Made the {database_words(found)}.")
    if token_file is None:
        _show_first_link(found)
        say(f"Admin token (shown only now): {done.admin_token}")
        return
    descriptor = os.open(token_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w") as file:
        file.write(done.admin_token + "\n")
    say(f"The admin token is in {token_file} (mode 0600): move it to where you keep secrets.")


def _tell_waiting(waiting: Waiting) -> None:
    say(f"The last step of the schema ({waiting.revision}) waits for what still runs in an earlier version:")
    for one in waiting.users:
        say(f"  {one}")
    say("Restart those, then `tenantry init` again. Until then everything works as it is.")


def _show_first_link(found: Settings) -> None:
    """How to get into the control room, where nobody can yet."""
    from tenantry.control.people.links import first_link
    from tenantry.control.site import open_site

    site = open_site(found)
    try:
        link = first_link(site)
    finally:
        site.engine.dispose()
    if link is not None:
        say(f"The control room, for its first owner (works once, within an hour): {link}")


def _init_where_nothing_is(found: Settings) -> None:
    """What a first start needs."""
    from tenantry.control.init import init_site

    if is_nothing_there(found):
        # What is no terminal is a log.
        _tell_initialised(found, init_site(found), None if sys.stdout.isatty() else found.data_dir / "admin.token")


def serve(
    context: typer.Context,
    demo: Annotated[
        bool, typer.Option("--demo", help="Make a tenant `demo` if there is none, and print how to use it.")
    ] = False,
) -> None:
    """Run gateway, control and, where used, the sandbox; restart what dies. The first start does `init`."""
    found = settings(starts=True)
    with told():
        _init_where_nothing_is(found)
        raise typer.Exit(_processes(context).serve(found, demo))


def restart() -> None:
    """Start gateway and control of a running `serve` anew, without a dropped call."""
    from tenantry.control.restarting import RestartFailed, ServeMissing, ask_restart

    try:
        ask_restart(settings(starts=True).data_dir)
    except (RestartFailed, ServeMissing) as error:
        raise fail(str(error)) from None
    say("The new gateway serves. What was in flight at the old one goes on to its end.")


def gateway(context: typer.Context) -> None:
    """Run the data plane alone."""
    found = settings(starts=True)
    with told():
        raise typer.Exit(_processes(context).gateway(found))


def control(context: typer.Context) -> None:
    """Run the control plane alone: admin API, and the booking of journals into the ledger."""
    found = settings(starts=True)
    with told():
        raise typer.Exit(_processes(context).control(found))


def sandbox(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; default: sandbox_port.")] = None,
) -> None:
    """Run the SIMULATED Messages API: made-up answers, for trying the gateway without a key."""
    found = settings()
    raise typer.Exit(_processes(context).sandbox(found, host, found.sandbox_port if port is None else port))


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check files, database, processes, booking, disk, clock, ports and upstreams; say how to mend each."""
    findings = _findings()
    if as_json:
        print_json(findings)
    else:
        print_table(
            ["", "check", "found", "how to mend"],
            [["ok" if one["ok"] else "FAIL", one["check"], one["found"], one["mend"]] for one in findings],
        )
    if not all(one["ok"] for one in findings):
        raise typer.Exit(FAILED)


def _findings() -> list[dict[str, Any]]:
    """Of this machine, also where no store can be opened; or of the machine of control."""
    if NAMED.get() is not None:
        with opened() as at:
            return at.get("doctor")["findings"] if isinstance(at, Api) else []
    from tenantry.control.doctor import examine

    return [asdict(one) for one in examine(settings())]


def _processes(context: typer.Context) -> Processes:
    return context.obj
