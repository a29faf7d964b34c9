"""The master key rotated while gateways serve, and gone on with after a kill at any moment.

Three steps, each whole on the disk before the next: the next key is made beside the old one; the database goes over to
it in one transaction; it takes the old one's place. Whoever opens the site in between finds the key that the database
belongs to in one of the two files, and a process that runs finds it there when it meets something sealed under it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tenantry.control.presence import locked, present
from tenantry.control.site import Site
from tenantry.storage.custody import find_owner
from tenantry.storage.key_files import KeyFiles
from tenantry.storage.vault import MasterKeyUnusable

LOCK_FILE = "rotation.lock"


class RotationRuns(Exception):
    """Another rotation of the master key runs; it takes seconds."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did. `retired` is where the old key is now; `secrets` how many went over to the new one."""

    old_id: str
    new_id: str
    secrets: int
    retired: Path
    was_begun: bool


def rotate_master_key(site: Site) -> Rotated:
    """Make a new master key and go over to it; what a rotation that was killed has begun is finished.

    Raises:
        RotationRuns: by somebody else.
        SiteReplaced: a restore is under way.
        SecretUnreadable, DirectoryError: something sealed does not open; nothing was rotated.
        MasterKeyUnusable: the next key cannot be used.
        OSError: the disk refused; run it again.
    """
    files = KeyFiles(site.settings.master_key_file)
    with present(site.settings), _one_at_a_time(site.settings.data_dir / LOCK_FILE):
        was_begun = files.next_path.exists()
        owner, placed = find_owner(site.engine), files.load()
        new = files.make_next()
        if owner is not None and not owner.is_key_of(placed) and not owner.is_key_of(new):
            raise MasterKeyUnusable(f"the database belongs to {owner}, and neither {files.path} nor the next key is it")
        _, secrets = site.directory.take_master_key(new)
        return Rotated(placed.key_id, new.key_id, secrets, files.take_place(placed.key_id), was_begun)


@contextmanager
def _one_at_a_time(path: Path) -> Generator[None]:
    with locked(path, fcntl.LOCK_EX) as got:
        if not got:
            raise RotationRuns((RotationRuns.__doc__ or "").strip())
        yield
