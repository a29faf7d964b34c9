"""init, serve, restart, gateway, control, sandbox, doctor."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tenantry.cli.context import FAILED, Processes, fail, settings, told
from tenantry.cli.output import print_json, print_table, say


def register(app: typer.Typer) -> None:
    for command in (init, serve, restart, gateway, control, sandbox, doctor):
        app.command()(command)


def init() -> None:
    """Make the master key, the database and the admin; running it again changes nothing."""
    from tenantry.control.init import init_site

    found = settings()
    with told():
        done = init_site(found)
    if done.made_master_key:
        say(f"Made the master key {found.master_key_file} (mode 0600).")
        say("Back it up apart from the database: without it no stored credential can be read.")
    if done.admin_token is None:
        say(f"Already initialised: {found.data_dir}")
        return
    say(f"Made the database in {found.data_dir}.")
    say(f"Admin token (shown only now): {done.admin_token}")


def serve(
    context: typer.Context,
    demo: Annotated[
        bool, typer.Option("--demo", help="Make a tenant `demo` if there is none, and print how to use it.")
    ] = False,
) -> None:
    """Run gateway, control and, where a tenant uses it, the sandbox; restart what dies."""
    found = settings(starts=True)
    with told():
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
    from tenantry.control.doctor import examine

    findings = list(examine(settings()))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table(
            ["", "check", "found", "how to mend"],
            [["ok" if one.ok else "FAIL", one.check, one.found, one.mend] for one in findings],
        )
    if not all(finding.ok for finding in findings):
        raise typer.Exit(FAILED)


def _processes(context: typer.Context) -> Processes:
    return context.obj
