"""The command line: parses, calls, prints. Exit codes: 0 done, 1 it failed or differs, 2 wrong usage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenantry import __version__
from tenantry.cli.context import Processes
from tenantry.cli.later import LaterGroup
from tenantry.cli.output import say
from tenantry.cli.remote.server import ADDRESS_VARIABLE, CA_VARIABLE, NAMED, Named

PLAIN = {"help_option_names": ["-h", "--help"]}


class Commands(LaterGroup):
    """All of them, in the order of the help. A test holds the words equal to what the modules say."""

    table = {
        "init": (
            "serving",
            "Make master key, database and admin, or bring the database up to date; again, it changes nothing.",
        ),
        "restart": ("serving", "Start gateway and control of a running `serve` anew, without a dropped call."),
        "serve": (
            "serving",
            "Run gateway, control and, where used, the sandbox; restart what dies. The first start does `init`.",
        ),
        "gateway": ("serving", "Run the data plane alone."),
        "control": (
            "serving",
            "Run the control plane alone: admin API, and the booking of journals into the ledger.",
        ),
        "sandbox": (
            "serving",
            "Run the SIMULATED Messages API: made-up answers, for trying the gateway without a key.",
        ),
        "doctor": (
            "serving",
            "Check files, database, processes, booking, disk, clock, ports and upstreams; say how to mend each.",
        ),
        "provision": (
            "provision",
            "Make a tenant with credential, key, live check and client guide; on any failure nothing is left.",
        ),
        "usage": (
            "usage",
            "Requests, tokens and cost by model, of one tenant or all, in a month; or a week's summary.",
        ),
        "simulate": (
            "simulate",
            "Waits, refusals, use of limits and money of a site that does not run yet; "
            "or a storm over the promises.\n\n"
            "The decisions are the gateway's own; time, network and disk are simulated. "
            "Nothing is sent, and no site is needed.",
        ),
        "plan": (
            "declare",
            "What would change, and what that does to money and running requests. "
            "Exit 0 nothing, 1 changes, 2 bad file.",
        ),
        "apply": (
            "declare",
            "Make it so: the whole plan in one transaction, or nothing. New keys are shown once.",
        ),
        "drift": (
            "declare",
            "What was changed by hand since the last apply, by whom and when. Exit 0 nothing, 1 differences.",
        ),
        "audit": ("audit", "The audit log, from old to new."),
        "export": (
            "export",
            "Every row of a week or month, adjustments included; the sums are the ledger's to the nano-dollar.",
        ),
        "backup": ("backup", "The database and the journals in one checked file, while everything runs."),
        "restore": (
            "backup",
            "Put a backup in place, after its checksums and its ledger are checked. Stop gateway and control first.",
        ),
        "store": ("store", "Move the site's store between SQLite and PostgreSQL."),
        "import": (
            "importing",
            "Move over from another proxy: say what each line becomes, and write tenantry.toml and tenants.toml.",
        ),
        "tiers": ("tiers", "List, show, change and make tiers: named sets of limits."),
        "tenants": ("tenants", "List, show, change, disable, enable and delete tenants."),
        "keys": ("keys", "Issue, rotate, list and revoke gateway keys; admin tokens; people; the master key."),
        "slots": (
            "slots",
            "Slots: endpoints of a tenant, each with keys and a lane of its own, as many as its plan has.",
        ),
        "credentials": (
            "credentials",
            "Add, list, rotate, check, bind and move upstream credentials. A credential is never shown again.",
        ),
        "upstreams": ("upstreams", "List and show upstreams; tenantry.toml declares them."),
        "prices": (
            "prices",
            "What models cost, in dollars per million tokens, from which day on.",
        ),
        "plans": ("plans", "What tenants pay: plans, their terms from which day on, and who is on which."),
        "invoice": (
            "invoice",
            "The invoice of a month: looked at, or issued with a number; an interrupted `--all` goes on where it was.",
        ),
        "invoices": ("invoices", "What was issued: list, show, take back and prove it; and who bills whom."),
        "margin": (
            "margin",
            "Revenue less list cost by tenant, plan and in total; where a running month goes; who is under water.",
        ),
        "budget": ("budget", "Show, set and raise what a tenant may cost."),
        "alerts": ("alerts", "What was raised, where it goes, and at which percents."),
        "ledger": ("ledger", "Prove, read and correct the ledger. No row of it is ever edited."),
        "gateways": ("gateways", "Gateways of a cluster: list them, and declare a lost machine."),
        "cells": ("cells", "Cells: what counts together, and which gateway owns it."),
        "controls": ("controls", "Control processes: which live, and who does what one does at a time."),
        "service": ("service", "Units for systemd: service, socket, daily backup."),
        "verify": ("verify", "Prove what the gateway promises, on the running one."),
    }


def _tell_version(asked: bool) -> None:
    """The version, and in which form it runs, told before a command is asked for."""
    if asked:
        from tenantry.control.form import describe_form

        say(f"tenantry {__version__}")
        say(describe_form())
        raise typer.Exit


VERSION = typer.Option("--version", help="Print version and form.", is_eager=True, callback=_tell_version)

SERVER = typer.Option(
    metavar="URL",
    envvar=ADDRESS_VARIABLE,
    help="Work through the admin API of the control there; docs/admin-api.md says which commands can.",
)
CA_FILE = typer.Option(metavar="FILE", envvar=CA_VARIABLE, help="With --server: the CA its certificate is from.")


def build_cli(processes: Processes) -> typer.Typer:
    """The `tenantry` command, with `processes` behind the ones that run for long."""
    app = typer.Typer(
        name="tenantry",
        cls=Commands,
        help="A self-hosted, multi-tenant gateway for the Claude API.",
        no_args_is_help=True,
        context_settings=PLAIN,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def top(  # pyright: ignore[reportUnusedFunction] -- registered by its decorator
        context: typer.Context,
        version: Annotated[bool, VERSION] = False,
        server: Annotated[str | None, SERVER] = None,
        ca_file: Annotated[Path | None, CA_FILE] = None,
    ) -> None:
        NAMED.set(Named(server, ca_file) if server else None)
        context.obj = processes

    return app
