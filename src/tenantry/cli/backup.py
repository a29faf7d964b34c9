"""backup, restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenantry.cli.context import fail, opened_site, settings
from tenantry.cli.output import say
from tenantry.control.backup import BackupFailed, RestoreRefused, back_up
from tenantry.control.backup import restore as restore_backup
from tenantry.control.presence import SiteRuns


def register(app: typer.Typer) -> None:
    app.command("backup")(backup)
    app.command("restore")(restore)


def backup(
    file: Annotated[Path, typer.Argument(help="Where to; an existing file is replaced.")],
    with_master_key: Annotated[
        bool, typer.Option("--with-master-key", help="Put the key in too: who has the file has every credential.")
    ] = False,
) -> None:
    """The database and the journals in one checked file, while everything runs."""
    with opened_site() as site:
        try:
            done = back_up(site, file, with_master_key)
        except BackupFailed as error:
            raise fail(str(error)) from None
        except OSError as error:
            raise fail(f"{file} cannot be written: {error.strerror or error}") from None
        site.directory.audit("site.backup", file.name, {"files": done.files, "master_key": done.has_master_key})
    say(f"{file}: {done.files} files, {done.bytes} bytes, made {done.made_at}")
    if not done.has_master_key:
        say("The master key is not in it. Keep it apart: without it no stored credential can be read.")


def restore(
    file: Annotated[Path, typer.Argument(help="What `tenantry backup` wrote.")],
    yes: Annotated[bool, typer.Option("--yes", help="Replace the site that is there; it is kept aside.")] = False,
) -> None:
    """Put a backup in place, after its checksums and its ledger are checked. Stop gateway and control first."""
    found = settings()
    try:
        done = restore_backup(found, file, yes)
    except (RestoreRefused, SiteRuns) as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"{error.filename or file}: {error.strerror or error}") from None
    say(f"Restored the backup of {done.backup.made_at}: {done.verified.rows} ledger rows, each verified.")
    if done.aside is not None:
        say(f"What was there before is in {done.aside}.")
    if done.needs_master_key:
        which = f"; its fingerprint is {done.master_key_id}" if done.master_key_id is not None else ""
        say(f"Now put the master key back: {found.master_key_file} (mode 0600{which}).")
