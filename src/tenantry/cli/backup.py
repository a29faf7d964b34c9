"""backup, restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenantry.cli.context import USAGE, confirm, fail, opened, settings
from tenantry.cli.output import say
from tenantry.cli.remote.api import Api
from tenantry.cli.remote.tasks import followed
from tenantry.control.backup import BackupFailed, RestoreRefused, check_backup
from tenantry.control.backup import restore as restore_backup
from tenantry.control.backup_files import backups_folder, make_backup, named_by_time
from tenantry.control.presence import SiteRuns
from tenantry.settings import Settings

_STAYS = (
    "through --server a backup stays on the machine of control, in the folder backups of its data directory, and no "
    "master key leaves: leave FILE and --with-master-key out"
)


def register(app: typer.Typer) -> None:
    app.command("backup")(backup)
    app.command("restore")(restore)


def backup(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Where to, NAME.tar. In a folder (no ending) it gets a name with the time. "
            "Default, and always with --server: the folder backups of the data directory."
        ),
    ] = None,
    with_master_key: Annotated[
        bool, typer.Option("--with-master-key", help="Put the key in too: who has the file has every credential.")
    ] = False,
    keep: Annotated[
        int | None, typer.Option("--keep", min=1, help="Of the backups in the folder, keep so many; remove the oldest.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Then check it as a restore would; exit 1 when it could not be restored.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Replace a file that is there.")] = False,
) -> None:
    """The database and the journals in one checked file, while everything runs."""
    with opened() as at:
        if isinstance(at, Api):
            if file is not None or with_master_key:
                raise fail(_STAYS, USAGE)
            done = followed(at, "backups", body={"check": check, "keep": keep})
        else:
            target = _target(file or backups_folder(at.settings), keep, yes)
            try:
                done = make_backup(at, target, with_master_key=with_master_key, check=check, keep=keep).as_json()
            except BackupFailed as error:
                raise fail(str(error)) from None
    path = done["path"]
    say(f"{path}: {done['files']} files, {done['bytes']} bytes, made {done['made_at']}")
    if not done["master_key"]:
        say("The master key is not in it. Keep it apart: without it no stored credential can be read.")
    if done["checked_rows"] is not None:
        say(f"{path} can be restored: of {done['made_at']}, {done['checked_rows']} ledger rows, each verified.")
    for old in done["removed"]:
        say(f"Removed {old}: {keep} are kept.")


def _target(file: Path, keep: int | None, yes: bool) -> Path:
    # A name without an ending is a folder's, also before the first backup has made it.
    folder = file if file.is_dir() or keep is not None or not file.suffix else None
    if folder is not None and folder.is_file():
        raise fail(f"{folder} is a file where a folder has to be: move it away, or name another")
    if folder is not None:
        return named_by_time(folder)
    if file.exists():
        confirm(f"{file} is there already. Replace it?", yes)
    return file


def _check(found: Settings, file: Path) -> None:
    try:
        done = check_backup(found, file)
    except RestoreRefused as error:
        raise fail(f"{file} could not be restored: {error}") from None
    except OSError as error:
        raise fail(f"{error.filename or file}: {error.strerror or error}") from None
    say(f"{file} can be restored: of {done.backup.made_at}, {done.verified.rows} ledger rows, each verified.")


def restore(
    file: Annotated[Path, typer.Argument(help="What `tenantry backup` wrote.")],
    yes: Annotated[bool, typer.Option("--yes", help="Replace the site that is there; it is kept aside.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only look whether it could be restored; the site may run.")
    ] = False,
) -> None:
    """Put a backup in place, after its checksums and its ledger are checked. Stop gateway and control first."""
    found = settings()
    if check:
        _check(found, file)
        return
    try:
        done = restore_backup(found, file, yes)
    except (RestoreRefused, SiteRuns) as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"{error.filename or file}: {error.strerror or error}") from None
    say(f"Restored the backup of {done.backup.made_at}: {done.verified.rows} ledger rows, each verified.")
    if done.aside is not None:
        say(f"What was there before is in {done.aside}.")
    if done.schema_aside is not None:
        say(f"The tables that were there are in the schema {done.schema_aside} of the same database.")
    if done.needs_master_key:
        which = f"; its fingerprint is {done.master_key_id}" if done.master_key_id is not None else ""
        say(f"Now put the master key back: {found.master_key_file} (mode 0600{which}).")
