"""PostgreSQL's database as a file, by `pg_dump`, and back by `pg_restore`.

A restore puts the schema that is there aside under another name, in the same database: nothing more than owning the
database is needed for it, and what fails is undone by the old name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Engine, inspect, text
from sqlalchemy.exc import ProgrammingError

from tenantry.storage.custody import Owner, find_owner
from tenantry.storage.database import open_store
from tenantry.storage.tables import meta

# Beside what is dumped, in a folder that nobody else can read and that goes.
PASSFILE: Final = ".pgpass"
# Schemas that a restore has put aside. They are no part of a backup.
_ASIDE: Final = "replaced_"
_CLIENTS: Final = "`apt-get install postgresql-client`, of the server's version or a later one"
# A rotation of the master key takes a moment; a backup beside it is made again.
_TRIES_MAX: Final = 3
_WORDS_CHARS_MAX: Final = 300


class DumpFailed(Exception):
    """What `pg_dump` or `pg_restore` said."""


def dump(engine: Engine, file: Path) -> Owner | None:
    """Write the database into a file, mode 0600, as it was at one moment; whose it is.

    Raises:
        DumpFailed: there is no `pg_dump`, or it failed.
    """
    for _ in range(_TRIES_MAX):
        owner = find_owner(engine)
        file.touch(mode=0o600)
        _run(engine, file.parent, "pg_dump", "--format=custom", f"--exclude-schema={_ASIDE}*", f"--file={file}")
        if find_owner(engine) == owner:
            return owner
    raise DumpFailed("the master key was rotated while the backup was made: make it again")


def has_site(engine: Engine) -> bool:
    return inspect(engine).has_table(meta.name)


@contextmanager
def in_place(engine: Engine, file: Path) -> Generator[str | None]:
    """The dump's tables where the site's were; the name of the schema in which those are now, if there were any.

    Whoever raises meanwhile gets them back.

    Raises:
        DumpFailed: the dump could not be restored; the site is as it was.
    """
    aside = f"{_ASIDE}{datetime.now(UTC):%Y%m%dt%H%M%S%f}"
    is_there = has_site(engine)
    _say(engine, f"ALTER SCHEMA public RENAME TO {aside}", "CREATE SCHEMA public")
    try:
        _run(engine, file.parent, "pg_restore", "--exit-on-error", "--single-transaction", str(file))
        yield aside if is_there else None
    except BaseException:
        engine.dispose()
        _say(engine, "DROP SCHEMA public CASCADE", f"ALTER SCHEMA {aside} RENAME TO public")
        raise
    if not is_there:
        _say(engine, f"DROP SCHEMA {aside} CASCADE")


@contextmanager
def database_beside(engine: Engine) -> Generator[Engine]:
    """An empty database on the same server, dropped at the end.

    Raises:
        DumpFailed: this role may make none.
    """
    name = f"{engine.url.database}_check_{os.getpid()}"
    autonomous = engine.execution_options(isolation_level="AUTOCOMMIT")
    try:
        with autonomous.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE template0'))
    except ProgrammingError as error:
        reason = str(error.orig).splitlines()[0]
        raise DumpFailed(
            f"a backup is checked in a database of its own, and none could be made: {reason}; `ALTER ROLE "
            f"{engine.url.username} CREATEDB` lets it"
        ) from None
    other = open_store(_address_of(engine, name), password=_password_of(engine))
    try:
        yield other
    finally:
        other.dispose()
        with autonomous.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}"'))


def _say(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def _run(engine: Engine, folder: Path, program: str, *words: str) -> None:
    """Its password goes by a file (libpq's), for a command line is seen by everybody on the machine."""
    path = shutil.which(program)
    if path is None:
        raise DumpFailed(f"there is no {program} here: {_CLIENTS}")
    url = _address_of(engine, engine.url.database)
    where = ("--dbname", url, "--no-owner", "--no-privileges", "--no-password")
    done = subprocess.run(  # noqa: S603 -- no shell; the words are ours, and the operator's own setting
        [path, *where, *words],
        env={**os.environ, **_password(engine, folder)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = " ".join(done.stderr.split())[:_WORDS_CHARS_MAX]
        hint = f" ({_CLIENTS})" if "version mismatch" in said or "unsupported version" in said else ""
        raise DumpFailed(f"{program} failed: {said or f'it ended with {done.returncode}'}{hint}")


def _address_of(engine: Engine, database: str | None) -> str:
    """As libpq takes it, without the password."""
    url = engine.url
    bare = URL.create("postgresql", url.username, None, url.host, url.port, database, url.query)
    return bare.render_as_string()


def _password_of(engine: Engine) -> str | None:
    return str(engine.url.password) if engine.url.password is not None else None


def _password(engine: Engine, folder: Path) -> dict[str, str]:
    """What libpq finds the password by (postgresql.org/docs/current/libpq-pgpass.html)."""
    password = _password_of(engine)
    if password is None:
        return {}
    file = folder / PASSFILE
    file.touch(mode=0o600)
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    file.write_text(f"*:*:*:*:{escaped}\n", "utf-8")
    return {"PGPASSFILE": str(file)}
