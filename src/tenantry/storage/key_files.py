"""The master key as files: the one in its place, the next one while it is rotated, those that were retired.

A key is on the disk, whole, before anything is sealed under it, and there is a file in its place at every moment.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from tenantry.regular_files import read_regular, sync_folder
from tenantry.storage.vault import MasterKey, MasterKeyUnusable

MASTER_KEY_BYTES = 32
# Twice the digits of a key, with room for blanks.
_FILE_BYTES_MAX = 256
_RETIRED = "master.key.retired-"


class KeyFiles:
    """The files of a site's master key; `path` is its place."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def next_path(self) -> Path:
        """Where the next key waits until it takes its place."""
        return self.path.with_name(f"{self.path.name}.next")

    def load(self) -> MasterKey:
        """The key in its place. Raises: MasterKeyUnusable."""
        return MasterKey(load_master_key(self.path))

    def find(self, key_id: str) -> MasterKey | None:
        """The key with this fingerprint: the next one, or the one in its place; the retired ones open nothing here.

        In this order: a key that takes its place between two looks is found by the second.
        """
        return next((key for _, key in _usable(self.next_path, self.path) if key.key_id == key_id), None)

    def at_hand(self) -> list[MasterKey]:
        """The keys that can be used here: the next one, and the one in its place."""
        return [key for _, key in _usable(self.next_path, self.path)]

    def path_of(self, key_id: str) -> Path | None:
        """The file with the key of this fingerprint, a retired one too."""
        paths = (self.next_path, self.path, *self.retired())
        return next((path for path, key in _usable(*paths) if key.key_id == key_id), None)

    def retired_path(self, key_id: str) -> Path:
        """Where the key of this fingerprint lies when it has been rotated away."""
        return self.path.with_name(_RETIRED + key_id)

    def retired(self) -> Sequence[Path]:
        """Files of keys that were rotated away and that lie here still."""
        return sorted(self.path.parent.glob(f"{_RETIRED}*"))

    def make_next(self) -> MasterKey:
        """The next key, made if it is not there yet: a rotation that was killed goes on with its own.

        Raises:
            MasterKeyUnusable: what is there is no key.
        """
        for draft in self.path.parent.glob(f".{self.next_path.name}.*"):
            draft.unlink(missing_ok=True)  # of one that was killed here
        with contextlib.suppress(FileExistsError):
            create_master_key_file(self.next_path)
        return MasterKey(load_master_key(self.next_path))

    def take_place(self, old_id: str) -> Path:
        """Put the next key in the place of the old one, which is kept aside; where."""
        aside = self.retired_path(old_id)
        with contextlib.suppress(FileExistsError):  # killed between the two
            _write_new(aside, self.path.read_bytes())
        os.replace(self.next_path, self.path)
        sync_folder(self.path.parent)
        return aside


def _usable(*paths: Path) -> Iterator[tuple[Path, MasterKey]]:
    """Those of the files that hold a key, each read when it is asked for."""
    for path in paths:
        with contextlib.suppress(MasterKeyUnusable):
            yield path, MasterKey(load_master_key(path))


def create_master_key_file(path: Path) -> None:
    """Make a new master key, readable by its owner only, whole and on the disk before this returns.

    Raises:
        FileExistsError: there is one; it is never overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write_new(path, secrets.token_hex(MASTER_KEY_BYTES).encode() + b"\n")


def _write_new(path: Path, data: bytes) -> None:
    """A file of its owner's, whole and on the disk, or none. Raises: FileExistsError."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(draft, path)  # as a rename, but that it replaces nothing
    finally:
        draft.unlink()
    sync_folder(path.parent)


def require_site(folder: Path) -> None:
    """Raises: MasterKeyUnusable: a site was never made there."""
    if not folder.exists():
        raise MasterKeyUnusable(
            f"there is no site in {folder}: go to the folder of the one that is meant, or name it by "
            "TENANTRY_CONFIG or TENANTRY_DATA_DIR; `tenantry init` begins a new one"
        )


def load_master_key(path: Path) -> bytes:
    """Read the master key.

    Raises:
        MasterKeyUnusable: missing, readable by others, or not a key.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = read_regular(path, _FILE_BYTES_MAX).decode("ascii").strip()
    except FileNotFoundError:
        require_site(path.parent)
        raise MasterKeyUnusable(
            f"there is no master key at {path}: put it back; `tenantry init` makes one for a new site"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise MasterKeyUnusable(f"the master key at {path} cannot be read: {error}") from error
    if mode & 0o077:
        raise MasterKeyUnusable(f"the master key at {path} is open to others (mode {mode:04o}): chmod 600 {path}")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != MASTER_KEY_BYTES:
        raise MasterKeyUnusable(f"{path} does not hold a master key of {MASTER_KEY_BYTES} bytes: restore it")
    return key
