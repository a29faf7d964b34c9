"""A backup with a name of the time, in a folder of which the newest are kept: for commands and the API alike."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tenantry.control.backup import BackupFailed, RestoreRefused, back_up, check_backup
from tenantry.control.site import Site
from tenantry.control.views import View
from tenantry.domain.values import value
from tenantry.settings import Settings

# Of a backup that gets its name from the time: the oldest is the first.
_NAMED: Final = "tenantry-"


@value
class BackupView(View):
    """`path`: where it lies on the machine of Tenantry. `checked_rows`: of its ledger, each verified; null: not asked.

    `removed`: older ones that are not kept any more.
    """

    file: str
    path: str
    files: int
    bytes: int
    made_at: str
    master_key: bool
    checked_rows: int | None
    removed: list[str]


def backups_folder(settings: Settings) -> Path:
    """Where those go of which it is not said where to: the units for systemd have it so, too."""
    return settings.data_dir / "backups"


def named_by_time(folder: Path) -> Path:
    """Of a backup that is made now."""
    return folder / f"{_NAMED}{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar"


def list_backup_files(folder: Path) -> list[Path]:
    """From old to new."""
    return sorted(folder.glob(f"{_NAMED}*.tar"))


def make_backup(
    site: Site, file: Path, *, with_master_key: bool = False, check: bool = False, keep: int | None = None
) -> BackupView:
    """Back up into `file`; look whether it could be restored; and keep the newest `keep` of its folder.

    Raises:
        BackupFailed: it was not made, or could not be restored; the older ones are there still.
    """
    try:
        done = back_up(site, file, with_master_key)
    except OSError as error:
        raise BackupFailed(f"{file} cannot be written: {error.strerror or error}") from None
    told = {"files": done.files, "master_key": done.has_master_key}
    site.directory.audit("site.backup", file.name, told)
    rows = _checked(site.settings, file) if check else None
    removed = list_backup_files(file.parent)[:-keep] if keep is not None else []
    for old in removed:
        old.unlink()
    names = [old.name for old in removed]
    return BackupView(file.name, str(file), done.files, done.bytes, done.made_at, done.has_master_key, rows, names)


def _checked(settings: Settings, file: Path) -> int:
    """How many rows its ledger has. Raises: BackupFailed."""
    try:
        return check_backup(settings, file).verified.rows
    except RestoreRefused as error:
        raise BackupFailed(f"{file} could not be restored: {error}") from None
    except OSError as error:
        raise BackupFailed(f"{error.filename or file}: {error.strerror or error}") from None
