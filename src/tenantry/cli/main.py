"""The command line: parses, calls, prints. Exit codes: 0 done, 1 it failed or differs, 2 wrong usage."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry import __version__
from tenantry.cli import (
    alerts,
    audit,
    backup,
    budget,
    credentials,
    declare,
    export,
    guides,
    importing,
    keys,
    ledger,
    provision,
    serving,
    tenants,
    tiers,
    upstreams,
    usage,
    verify,
)
from tenantry.cli.context import Processes
from tenantry.cli.output import say
from tenantry.control.form import describe_form

PLAIN = {"help_option_names": ["-h", "--help"]}


def _tell_version(asked: bool) -> None:
    """The version, and in which form it runs, told before a command is asked for."""
    if asked:
        say(f"tenantry {__version__}")
        say(describe_form())
        raise typer.Exit


VERSION = typer.Option("--version", help="Print version and form.", is_eager=True, callback=_tell_version)


def build_cli(processes: Processes) -> typer.Typer:
    """The `tenantry` command, with `processes` behind the ones that run for long."""
    app = typer.Typer(
        name="tenantry",
        help="A self-hosted, multi-tenant gateway for the Claude API.",
        no_args_is_help=True,
        context_settings=PLAIN,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def top(  # pyright: ignore[reportUnusedFunction] -- registered by its decorator
        context: typer.Context,
        version: Annotated[bool, VERSION] = False,
    ) -> None:
        context.obj = processes

    serving.register(app)
    provision.register(app)
    usage.register(app)
    declare.register(app)
    audit.register(app)
    export.register(app)
    backup.register(app)
    guides.register(tenants.app)
    app.add_typer(importing.app, name="import")
    app.add_typer(tiers.app, name="tiers")
    app.add_typer(tenants.app, name="tenants")
    app.add_typer(keys.app, name="keys")
    app.add_typer(credentials.app, name="credentials")
    app.add_typer(upstreams.app, name="upstreams")
    app.add_typer(budget.app, name="budget")
    app.add_typer(alerts.app, name="alerts")
    app.add_typer(ledger.app, name="ledger")
    app.add_typer(verify.app, name="verify")
    return app
