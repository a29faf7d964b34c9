"""service show | install."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tenantry.cli.context import USAGE, confirm, fail, settings
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, say
from tenantry.control.service import SERVICE_USER, SYSTEM_DIR, USER_DIR, Unit, UnitsImpossible, install, units

app = typer.Typer(help="Units for systemd: service, socket, daily backup.", no_args_is_help=True)

OfUser = Annotated[bool, typer.Option("--user", help="For your own systemd, without root.")]
OfSystem = Annotated[bool, typer.Option("--system", help=f"For the machine's systemd, as the user `{SERVICE_USER}`.")]


@app.command()
def show(of_user: OfUser = False, of_system: OfSystem = False, as_json: AsJson = False) -> None:
    """The units as `install` would write them."""
    found, _ = _units(of_user, of_system)
    if as_json:
        print_json({unit.name: unit.text for unit in found})
        return
    _print(found)


@app.command("install")
def install_command(of_user: OfUser = False, of_system: OfSystem = False, yes: Yes = False) -> None:
    """Write the units, after showing them. It starts nothing: it says what to type."""
    found, target = _units(of_user, of_system)
    _print(found)
    confirm(f"Write these {len(found)} files to {target}?", yes)
    try:
        install(found, target)
    except OSError as error:
        raise fail(f"{target} cannot be written: {error.strerror or error}; as root, or with --user") from None
    manage = "systemctl" if of_system else "systemctl --user"
    say(f"Wrote {', '.join(unit.name for unit in found)} to {target}. Next:")
    say(f"  {manage} daemon-reload")
    say(f"  {manage} enable --now tenantry.socket tenantry.service tenantry-backup.timer")
    if not of_system:
        say("  loginctl enable-linger        # or it ends when you log out")
    say(f"  {manage} reload tenantry         # after an upgrade: no call is dropped")


def _units(of_user: bool, of_system: bool) -> tuple[list[Unit], Path]:
    if of_user == of_system:
        raise fail("say for whom: --user or --system", USAGE)
    named = os.environ.get("TENANTRY_CONFIG")
    try:
        found = units(settings(), Path.cwd(), Path(named) if named else None, of_system=of_system)
    except UnitsImpossible as error:
        raise fail(str(error)) from None
    return found, SYSTEM_DIR if of_system else Path.home() / USER_DIR


def _print(found: list[Unit]) -> None:
    for unit in found:
        say(f"# {unit.name}")
        say(unit.text)
