"""Backup of a running site into one file, and its way back.

A backup holds the database, the journals and a manifest with a checksum for each file; the master key only when asked
for. Journals are copied before the database: what is booked meanwhile is in the database then, and what is in both is
booked once, by its attempt id.

A restore checks everything in a folder of its own before it touches the site, and moves what it replaces aside. The
database comes last: without one nothing starts, so a restore that was killed is run again. PostgreSQL's is checked in
its place, with what was there aside (server_dump.py).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError

from tenantry import __version__
from tenantry.control.presence import alone
from tenantry.control.server_dump import PASSFILE, DumpFailed, database_beside, dump, has_site, in_place
from tenantry.control.site import Site
from tenantry.domain.values import value
from tenantry.ledger.exports import replacing
from tenantry.ledger.verification import Verification, verify
from tenantry.regular_files import open_regular, sync_folder
from tenantry.settings import Settings
from tenantry.storage.custody import ForeignMasterKey, Owner, find_owner
from tenantry.storage.database import copy_sqlite, is_sound, open_store, path_of_store
from tenantry.storage.key_files import KeyFiles
from tenantry.storage.migrating import MigrationBroken, migrate
from tenantry.storage.schema import StoreOutdated
from tenantry.storage.vault import MasterKeyUnusable

_DATABASE = "tenantry.db"
_DUMP = "tenantry.dump"  # of PostgreSQL
_MASTER_KEY = "master.key"
_MANIFEST = "manifest.json"
# Every name that a backup may hold: nothing else is ever written by a restore.
_NAME = re.compile(r"tenantry\.(?:db|dump)|master\.key|journal/[A-Za-z0-9][A-Za-z0-9._-]*/(?:lock|\d+\.log)", re.ASCII)
_FORMAT = 1
_MANIFEST_BYTES_MAX = 16 * 1024 * 1024
_CHUNK_BYTES = 1 << 20


class BackupFailed(Exception):
    """The backup was not made; nothing was left behind."""


class RestoreRefused(Exception):
    """The backup was not restored; the site is as it was."""


@value
class Backup:
    """What a backup holds."""

    made_at: str
    files: int
    bytes: int
    has_master_key: bool


@value
class Restored:
    """What a restore did. `aside` is where the files that were there before are now, `schema_aside` where PostgreSQL's
    tables are; `master_key_id` the fingerprint of the key that it needs, where that is known."""

    backup: Backup
    verified: Verification
    aside: Path | None
    needs_master_key: bool
    master_key_id: str | None
    schema_aside: str | None = None


def back_up(site: Site, file: Path, with_master_key: bool) -> Backup:
    """Write one file, mode 0600, while the site runs.

    Raises:
        BackupFailed: a copy is not sound, or PostgreSQL's own program could not make one.
        OSError: the disk refused.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with _folder_in(file.parent) as folder:
        _copy_journals(site.settings.journal_dir, folder / "journal")
        owner = _copy_database(site.engine, folder)
        key_id = owner.key_id if owner is not None else None
        if with_master_key:
            shutil.copyfile(_file_of_key(site.settings, key_id), folder / _MASTER_KEY)
        files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
        manifest = _manifest(files) | {"master_key_id": key_id}
        with replacing(file) as target:
            _write_archive(target, manifest, files)
    return _described(manifest)


def _copy_database(engine: Engine, folder: Path) -> Owner | None:
    """The key that the copy needs is the copy's own: it may have been rotated since the store was opened."""
    if engine.dialect.name != "sqlite":
        try:
            return dump(engine, folder / _DUMP)
        except DumpFailed as error:
            raise BackupFailed(str(error)) from None
        finally:
            (folder / PASSFILE).unlink(missing_ok=True)
    copy_sqlite(engine, folder / _DATABASE)
    if not is_sound(folder / _DATABASE):
        raise BackupFailed("the database is damaged: PRAGMA integrity_check finds faults in it")
    return _owner_of(folder)


def _owner_of(folder: Path) -> Owner | None:
    engine = create_engine(f"sqlite:///{folder / _DATABASE}")  # a store would be put into WAL mode
    try:
        return find_owner(engine)
    finally:
        engine.dispose()


def _file_of_key(settings: Settings, key_id: str | None) -> Path:
    path = KeyFiles(settings.master_key_file).path_of(key_id) if key_id is not None else None
    return path or settings.master_key_file


def _copy_journals(source: Path, target: Path) -> None:
    for path in sorted(source.glob("*/*")):
        if _NAME.fullmatch(f"journal/{path.parent.name}/{path.name}") is None:
            continue  # no part of a journal
        copy = target / path.parent.name / path.name
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, copy)
        except FileNotFoundError:  # booked to its end and removed meanwhile: the database has it
            shutil.rmtree(copy.parent, ignore_errors=True)


def _manifest(files: dict[str, Path]) -> dict[str, Any]:
    entries = {name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for name, path in files.items()}
    made_at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {"format": _FORMAT, "version": __version__, "made_at": made_at, "files": entries}


def _write_archive(target: IO[bytes], manifest: dict[str, Any], files: dict[str, Path]) -> None:
    with tarfile.open(fileobj=target, mode="w") as archive:
        data = json.dumps(manifest, indent=1).encode()
        archive.addfile(_entry(_MANIFEST, len(data)), io.BytesIO(data))
        for name, path in files.items():
            with path.open("rb") as file:
                archive.addfile(_entry(name, manifest["files"][name]["bytes"]), file)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry


def restore(settings: Settings, file: Path, replace: bool) -> Restored:
    """Put a backup in the place of the site.

    Raises:
        RestoreRefused: the file is not a whole backup, its ledger does not verify, its database belongs to another
            master key than the one that would stand beside it, or a site is there and `replace` is False.
        SiteRuns: a process of the site runs.
        OSError: the disk refused.
    """
    database = path_of_store(settings.store_url)
    if database is None:
        return _restore_to_server(settings, file, replace)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(settings), _folder_in(settings.data_dir) as folder:
        if not replace and (database.exists() or any(settings.journal_dir.glob("*/*"))):
            raise RestoreRefused(f"there is a site in {settings.data_dir}: --yes replaces it, and keeps it aside")
        manifest = _extract(file, folder, _DATABASE)
        verified = _check(folder)
        owner = _require_key(settings, folder, _owner_of(folder))
        aside = _swap(settings, database, folder)
    needs_key = not settings.master_key_file.exists()
    return Restored(_described(manifest), verified, aside, needs_key, owner.key_id if owner is not None else None)


def _restore_to_server(settings: Settings, file: Path, replace: bool) -> Restored:
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = open_store(settings.store_url, password=settings.store_password)
    try:
        with alone(settings), _folder_in(settings.data_dir) as folder:
            if not replace and (has_site(engine) or any(settings.journal_dir.glob("*/*"))):
                raise RestoreRefused("there is a site in the database: --yes replaces it, and keeps it aside")
            manifest = _extract(file, folder, _DUMP)
            with in_place(engine, folder / _DUMP) as schema_aside:
                verified = _verified(engine)
                owner = _require_key(settings, folder, find_owner(engine))
                aside = _swap(settings, None, folder)
    except DumpFailed as error:
        raise RestoreRefused(str(error)) from None
    finally:
        engine.dispose()
    key_id = owner.key_id if owner is not None else None
    return Restored(_described(manifest), verified, aside, not settings.master_key_file.exists(), key_id, schema_aside)


def check_backup(settings: Settings, file: Path) -> Restored:
    """Whether a backup could be restored: all that `restore` looks at, in a folder that is removed. The site may run.

    Raises:
        RestoreRefused: it could not.
        OSError: the disk refused.
    """
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _folder_in(settings.data_dir) as folder:
        if path_of_store(settings.store_url) is not None:
            manifest = _extract(file, folder, _DATABASE)
            verified = _check(folder)
            owner = _require_key(settings, folder, _owner_of(folder))
        else:
            manifest = _extract(file, folder, _DUMP)
            verified, owner = _checked_beside(settings, folder)
    key_id = owner.key_id if owner is not None else None
    return Restored(_described(manifest), verified, None, not settings.master_key_file.exists(), key_id)


def _checked_beside(settings: Settings, folder: Path) -> tuple[Verification, Owner | None]:
    """In a database of its own beside the site's, which is dropped."""
    engine = open_store(settings.store_url, password=settings.store_password)
    try:
        with database_beside(engine) as other, in_place(other, folder / _DUMP):
            return _verified(other), _require_key(settings, folder, find_owner(other))
    except DumpFailed as error:
        raise RestoreRefused(str(error)) from None
    finally:
        engine.dispose()


def _extract(file: Path, folder: Path, database: str) -> dict[str, Any]:
    """Write the files of the archive into `folder`, each checked against the manifest. `database` is one of them."""
    try:
        with open_regular(file) as source, tarfile.open(fileobj=source, mode="r:") as archive:
            manifest = _read_manifest(file, archive)
            missing = dict(manifest["files"])
            while (entry := archive.next()) is not None:
                wanted = missing.pop(entry.name, None)
                if wanted is None or not entry.isreg() or entry.size != wanted["bytes"]:
                    raise RestoreRefused(f"{file}: {entry.name!r} is not what the manifest says")
                path = folder / entry.name
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                content = archive.extractfile(entry)
                if content is None or _copy(content, path) != wanted["sha256"]:
                    raise RestoreRefused(f"{file}: the checksum of {entry.name} is wrong")
    except (tarfile.TarError, EOFError) as error:
        raise RestoreRefused(f"{file} is not a backup, or damaged: {error}") from error
    if missing:
        raise RestoreRefused(f"{file}: {', '.join(sorted(missing))} missing")
    if database not in manifest["files"]:
        kinds = ("SQLite", "PostgreSQL") if database == _DUMP else ("PostgreSQL", "SQLite")
        raise RestoreRefused(f"{file} is the backup of a site on {kinds[0]}, and store_url here names {kinds[1]}")
    return manifest


def _read_manifest(file: Path, archive: tarfile.TarFile) -> dict[str, Any]:
    entry = archive.next()
    source = archive.extractfile(entry) if entry is not None and entry.isreg() else None
    if entry is None or source is None or entry.name != _MANIFEST or entry.size > _MANIFEST_BYTES_MAX:
        raise RestoreRefused(f"{file} is not a backup: it does not begin with the manifest of one")
    try:
        manifest: dict[str, Any] = json.loads(source.read())
        files: dict[str, Any] = manifest["files"]
        described = _described(manifest)
        is_whole = all(_NAME.fullmatch(name) and len(one["sha256"]) == 64 for name, one in files.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RestoreRefused(f"{file}: the manifest of the backup cannot be read: {error!r}") from error
    if manifest.get("format") != _FORMAT or not is_whole or not {_DATABASE, _DUMP} & {*files} or not described.files:
        raise RestoreRefused(f"{file}: the manifest names files that no backup of this version holds")
    return manifest


def _check(folder: Path) -> Verification:
    """The restored database is sound, of a schema that is known, and its ledger is whole."""
    if not is_sound(folder / _DATABASE):
        raise RestoreRefused("the database of the backup is damaged")
    engine = open_store(f"sqlite:///{folder / _DATABASE}")
    try:
        return _verified(engine)
    finally:
        engine.dispose()


def _verified(engine: Engine) -> Verification:
    try:
        migrate(engine)
        verified = verify(engine)
    except (SQLAlchemyError, MigrationBroken, StoreOutdated) as error:
        raise RestoreRefused(f"the database of the backup cannot be used: {str(error).splitlines()[0]}") from error
    if verified.fault_count:
        first = verified.faults[0]
        raise RestoreRefused(f"its ledger has {verified.fault_count} faults; the first: {first.run}: {first.message}")
    return verified


def _require_key(settings: Settings, folder: Path, owner: Owner | None) -> Owner | None:
    """The master key that the restored database belongs to. The one that will stand beside it has to be that one."""
    in_backup = folder / _MASTER_KEY
    files = KeyFiles(in_backup if in_backup.exists() else settings.master_key_file)
    if owner is None or not files.path.exists():
        return owner
    where = "the key in the backup" if in_backup.exists() else f"the key at {files.path}"
    try:
        owner.find_key(files)
    except ForeignMasterKey:
        raise RestoreRefused(
            f"the database of the backup belongs to {owner}, and {where} is {files.load().key_id}: nothing of it would "
            f"open. {_where_to_put(owner, settings, files.load().key_id)}"
        ) from None
    except MasterKeyUnusable as error:
        raise RestoreRefused(f"{where} cannot be used: {error}") from None
    return owner


def _where_to_put(owner: Owner, settings: Settings, placed_id: str) -> str:
    files, place = KeyFiles(settings.master_key_file), settings.master_key_file
    here = owner.find_file(files)
    if here is not None:
        save, bring = f"mv {place} {files.retired_path(placed_id)}", f"cp -p {here} {place}"
        return (
            f"The backup is from before the master key was rotated, and its key is here still: `{save} && {bring}`, "
            "then restore, then `tenantry keys master rotate`"
        )
    return (
        "A backup from before the master key was rotated needs the key of then. "
        f"Put the right key at {place}, or move that file away and put the key back afterwards"
    )


def _swap(settings: Settings, database: Path | None, folder: Path) -> Path | None:
    """Old files aside, new ones in their place, the database last, where it is a file."""
    aside = settings.data_dir / f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    key = settings.master_key_file
    new_key = folder / _MASTER_KEY
    key_changes = new_key.exists() and key.exists() and key.read_bytes() != new_key.read_bytes()
    old = [settings.journal_dir]
    if database is not None:
        old = [*(database.with_name(database.name + end) for end in ("", "-wal", "-shm")), settings.journal_dir]
    for path in [*old, *([key] if key_changes else [])]:
        if path.exists():
            aside.mkdir(mode=0o700, exist_ok=True)
            shutil.move(path, aside / path.name)
    if new_key.exists():
        new_key.rename(key)
    journal = folder / "journal"
    journal.mkdir(mode=0o700, exist_ok=True)
    journal.rename(settings.journal_dir)
    for end in ("-wal", "-shm"):
        (folder / (_DATABASE + end)).unlink(missing_ok=True)
    sync_folder(settings.data_dir)
    if database is None:
        return aside if aside.exists() else None
    # In two steps where the database lies on another disk than the data: its name is taken at once.
    ready = database.with_name(f".{database.name}.restored")
    shutil.move(folder / _DATABASE, ready)
    os.replace(ready, database)
    sync_folder(database.parent)
    return aside if aside.exists() else None


def _described(manifest: dict[str, Any]) -> Backup:
    files = manifest["files"]
    total = sum(one["bytes"] for one in files.values())
    return Backup(str(manifest["made_at"]), len(files), total, _MASTER_KEY in files)


@contextmanager
def _folder_in(parent: Path) -> Generator[Path]:
    """A folder for its owner only, on the same disk, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix=".part-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(source: IO[bytes], path: Path) -> str:
    """Copy to a new file, on the disk when this returns; its checksum."""
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with open(descriptor, "wb") as file:
        for part in _parts(source):
            digest.update(part)
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for part in _parts(file):
            digest.update(part)
    return digest.hexdigest()


def _parts(file: IO[bytes]) -> Iterator[bytes]:
    while part := file.read(_CHUNK_BYTES):
        yield part
