"""What `doctor` asks a PostgreSQL server: its version, what its role may do, and what it does with a commit."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, Engine, text

from tenantry.control.findings import Finding
from tenantry.storage.server import SERVER_VERSION_MIN

_CLIENT_SECONDS_MAX: Final = 5.0
_CLIENTS: Final = "`apt-get install postgresql-client`, of the server's version or a later one"
_MAJOR: Final = 10_000
_RIGHTS: Final = text(
    "SELECT current_user, current_database(), has_database_privilege(current_database(), 'CREATE'), "
    "(SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user), "
    "(SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' "
    "AND pg_get_userbyid(relowner) <> current_user)"
)


def check_server(engine: Engine) -> Iterator[Finding]:
    """Raises: SQLAlchemyError."""
    with engine.connect() as connection:
        version = int(str(connection.execute(text("SHOW server_version_num")).scalar_one()))
        yield _version(version)
        yield from _encoding(connection)
        yield _rights(connection)
        yield _commits(connection)
    yield _dump_program(version)


def _version(version: int) -> Finding:
    told = f"PostgreSQL {version // _MAJOR}.{version % _MAJOR}"
    if version < SERVER_VERSION_MIN:
        mend = f"a server of version {SERVER_VERSION_MIN // _MAJOR} or later, with `pg_dump` and `pg_restore`"
        return Finding("database server", False, f"{told} is older than what Tenantry is tested with", mend)
    return Finding("database server", True, told)


def _encoding(connection: Connection) -> Iterator[Finding]:
    """Another one refuses names that it has no letters for, when somebody gives one."""
    encoding = str(connection.execute(text("SHOW server_encoding")).scalar_one())
    if encoding != "UTF8":
        mend = (
            "`tenantry backup`, then `tenantry restore` into a database made with ENCODING 'UTF8' (docs/postgresql.md)"
        )
        yield Finding("database encoding", False, f"is {encoding}: not every text can be written", mend)


def _rights(connection: Connection) -> Finding:
    role, database, may_create, may_make_databases, foreign = connection.execute(_RIGHTS).one()
    if not may_create or foreign:
        found = f"the role {role} does not own {database}" + (
            f", and {foreign} tables are another's" if foreign else ""
        )
        mend = f"`ALTER DATABASE {database} OWNER TO {role}`; of tables `REASSIGN OWNED BY their-owner TO {role}`"
        return Finding("database rights", False, found, mend)
    beside = "" if may_make_databases else "; `backup --check` would need `CREATEDB`"
    return Finding("database rights", True, f"{role} owns {database}{beside}")


def _commits(connection: Connection) -> Finding:
    """Journals are removed once they are booked: a commit that a power cut takes back would be lost for good."""
    names = ("fsync", "synchronous_commit", "full_page_writes")
    off = [name for name in names if connection.execute(text(f"SHOW {name}")).scalar_one() == "off"]
    if off:
        found = f"{', '.join(off)} is off: a power cut takes back what was booked, and its journal is gone by then"
        return Finding("database commits", False, found, "set it to `on` in postgresql.conf, and reload the server")
    return Finding("database commits", True, "are on the server's disk before they are told")


def _dump_program(version: int) -> Finding:
    """An older `pg_dump` refuses a newer server (postgresql.org/docs/current/app-pgdump.html, Notes)."""
    path = shutil.which("pg_dump")
    if path is None or shutil.which("pg_restore") is None:
        return Finding("pg_dump", False, "`backup` and `restore` find no pg_dump and pg_restore here", _CLIENTS)
    try:
        done = subprocess.run(  # noqa: S603 -- no shell, and no word of anybody's
            [path, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CLIENT_SECONDS_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("pg_dump", False, f"{path} cannot be run: {error}", _CLIENTS)
    found = re.search(r"(\d+)(\.\d+)*", done.stdout)
    if found is None or int(found[1]) < version // _MAJOR:
        told = f"{path} says {done.stdout.strip()[:80]!r}, older than the server: it would refuse to make a backup"
        return Finding("pg_dump", False, told, _CLIENTS)
    return Finding("pg_dump", True, done.stdout.strip()[:80])
