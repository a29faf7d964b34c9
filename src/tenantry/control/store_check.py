"""What is wrong with a database, and the command that mends it. Nothing here changes it or makes one."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from tenantry.control.findings import Finding
from tenantry.kernel import STOPPED, command_of, holders_of, state_of
from tenantry.settings import Settings
from tenantry.storage.schema import COMPATIBLE_NAME, Fit, fit_of

# A transaction of Tenantry's takes milliseconds; whoever holds the file for longer is in the way.
LOCK_SECONDS_MAX = 2.0
_MAGIC = b"SQLite format 3\0"  # sqlite.org/fileformat.html, 1.3.1
# Where SQLite's locks stand: of the file, from 1 GiB on; of the shared memory beside it, those of writing,
# checkpointing and recovery (sqlite.org/walformat.html, 2.3).
_FILE_LOCKS = (0x40000000, 0x40000000 + 511)
_WRITE_LOCKS = (120, 122)
_RESTORE = (
    "stop Tenantry, `tenantry restore BACKUP.tar --yes` (what is there is kept aside), start it; "
    "docs/operations.md says how journals since the backup are booked"
)

# Of a schema that this version cannot use: what it is, and the cure.
SCHEMA_FAULTS: Final[dict[Fit, tuple[str, str]]] = {
    Fit.MISSING: ("the database has no tables", "run `tenantry init`"),
    Fit.OUTDATED: ("its schema is that of an earlier version", "`tenantry init` brings it up to date"),
    Fit.TOO_LATE: (
        "its schema is that of a later version",
        f"install the version that made it; or go back with a backup of this one: {_RESTORE}",
    ),
    Fit.COPYING: ("it holds a part of a copy", "run `tenantry store copy` again: it goes on where it was"),
}
# Of one that it can use.
SCHEMA_WORDS: Final[dict[Fit, str]] = {
    Fit.CURRENT: "schema current",
    Fit.WAITING: "a last step of the schema waits until no earlier version runs: then `tenantry init`",
    Fit.LATER: "schema of a later version, with which this one works: go on with the upgrade",
}


def check_file(settings: Settings, path: Path) -> Iterator[Finding]:
    """Every reason for which an SQLite store cannot be used; nothing when it can."""
    try:
        fault = _fault(settings, path)
    except sqlite3.DatabaseError as error:
        fault = _told(path, error)
    except OSError as error:
        fault = f"{path}: {error.strerror}", "chown it, and its folder, to the user that Tenantry runs as"
    if fault is not None:
        yield Finding("database", False, *fault)


def check_privacy(path: Path) -> Iterator[Finding]:
    """Files of an SQLite store that others of this machine can read or write: it holds names, and sealed keys.

    A folder that is closed to them closes its files too.
    """
    if not path.exists() or not path.parent.stat().st_mode & 0o011:
        return
    files = [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]
    open_files = [str(one) for one in files if one.exists() and stat.S_IMODE(one.stat().st_mode) & 0o077]
    if open_files:
        mend = f"`chmod go= {' '.join(open_files)}`"
        yield Finding("database's mode", False, f"others can read {', '.join(open_files)}", mend)


def _fault(settings: Settings, path: Path) -> tuple[str, str] | None:
    """What is wrong, and the cure. Raises: sqlite3.DatabaseError, OSError."""
    # A site that was initialised has its key, and a journal folder.
    was_there = settings.master_key_file.exists() and settings.journal_dir.exists()
    begin = "run `tenantry init`"
    if was_there:
        begin = f"{_RESTORE}. Without a backup, `tenantry init` begins an empty site"
    if not path.exists():
        return (f"{path} was deleted" if was_there else "there is no database"), begin
    with path.open("rb") as file:
        start = file.read(len(_MAGIC))
    if not start:
        return f"{path} is empty", begin
    if start != _MAGIC:
        return f"{path} is not a database", _RESTORE
    # Not through the store's own engine: it would wait for a lock, and write to the file.
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=LOCK_SECONDS_MAX)) as store:
        revision = _revision(store)
        if revision == "":
            return "it is the database of another program", _RESTORE
        fit = fit_of(revision, _compatible_from(store) if revision else None)
        if fit is Fit.MISSING:
            return SCHEMA_FAULTS[fit][0], begin
        if fit in (Fit.COPYING, Fit.TOO_LATE):
            return _numbered(fit, revision)
        verdict = str(store.execute("PRAGMA quick_check(1)").fetchone()[0])
        if verdict != "ok":
            return f"{path} is damaged: {verdict.splitlines()[-1]}", _RESTORE
        if fit is Fit.OUTDATED:
            return _numbered(fit, revision)
        store.execute("BEGIN IMMEDIATE")
        store.rollback()
    return None


def _revision(store: sqlite3.Connection) -> str | None:
    """Raises: sqlite3.DatabaseError."""
    tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "alembic_version" not in tables:
        return "" if tables else None
    row = store.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row is not None else None


def _compatible_from(store: sqlite3.Connection) -> str | None:
    """Raises: sqlite3.DatabaseError."""
    if store.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'").fetchone() is None:
        return None
    row = store.execute("SELECT value FROM meta WHERE name = ?", (COMPATIBLE_NAME,)).fetchone()
    return str(row[0]) if row is not None else None


def _numbered(fit: Fit, revision: str | None) -> tuple[str, str]:
    found, mend = SCHEMA_FAULTS[fit]
    return found.replace("its schema is", f"its schema ({revision}) is"), mend


def _told(path: Path, error: sqlite3.DatabaseError) -> tuple[str, str]:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return _locked(path)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return f"{path} is damaged: {error}", _RESTORE
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return f"{path}: {error}", f"free space on its disk (`df -h {path.parent}`); if there is some, the disk fails"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return f"{path}: {error}", "chown it, and its folder, to the user that Tenantry runs as"
    return f"{path}: {error}", _RESTORE


def _locked(path: Path) -> tuple[str, str]:
    """Who is in the way, where the kernel says so."""
    pids = holders_of(path, *_FILE_LOCKS, writing=True)
    pids += [
        pid for pid in holders_of(path.with_name(f"{path.name}-shm"), *_WRITE_LOCKS, writing=True) if pid not in pids
    ]
    found = f"{path} is locked for more than {LOCK_SECONDS_MAX:g} s"
    if not pids:
        return found, f"`fuser -v {path}` names who uses it: end what is not Tenantry"
    pid = pids[0]
    found += f" by process {pid} ({command_of(pid)[:80]})"
    if state_of(pid) == STOPPED:
        return found + ", which is stopped", f"let it go on: `kill -CONT {pid}`"
    return found, f"end it: `kill {pid}` (what it has not committed is undone; `tenantry serve` starts its own again)"
