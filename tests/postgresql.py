"""A PostgreSQL server for the tests: Debian's, in a folder of its own, as a user without rights, gone at their end.

Nothing it keeps has to outlive a power cut, so it syncs nothing. Each store of a test is a database of its own; those
of a process are emptied and used again, for to make one takes fifty times as long as to empty it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool, Pool

from tenantry.storage.all_tables import ALL_TABLES
from tenantry.storage.database import open_store
from tenantry.storage.migrating import migrate

# The server that the run has started, for its workers; or one that is to be used.
VARIABLE = "TENANTRY_TEST_POSTGRESQL"
# Debian's, in the order of preference.
_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/local/bin", "/usr/bin")
_NOBODY = 65534
_KEEPER = Path(__file__).with_name("postgresql_keeper.py")
_SETTINGS = ("max_connections=400", "listen_addresses=127.0.0.1", "unix_socket_directories=", "log_min_messages=fatal")
_CARELESS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_wal_size=2GB", "shared_buffers=64MB")
# As it is used: what was committed outlives a kill -9 of every process of the server, and `doctor` is content.
KEEPING = ("max_wal_size=2GB", "shared_buffers=64MB")
_START_SECONDS_MAX = 60.0
_CLUSTER = ("-U", "tenantry", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
# All that is here are tests: who is on this machine may look. One role has to say its password.
GUARDED = "guarded"
_WHO_MAY = f"host all {GUARDED} 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"


@cache
def binaries() -> Path | None:
    """The folder of the newest server that is installed."""
    found = [
        path.parent for folder in _FOLDERS for path in sorted(Path("/").glob(f"{folder[1:]}/initdb"), reverse=True)
    ]
    return found[0] if found else None


class Server:
    """A server that runs. `url` is its owner's."""

    def __init__(self, folder: Path, settings: Sequence[str] = _CARELESS) -> None:
        """Raises: RuntimeError: it did not start; its last words."""
        home = binaries()
        if home is None:
            raise RuntimeError("PostgreSQL is not installed")
        self.folder, self._home, self._settings = folder, home, (*_SETTINGS, *settings)
        self._who = {"user": _NOBODY, "group": _NOBODY, "extra_groups": ()} if os.getuid() == 0 else {}
        if self._who:
            os.chown(folder, _NOBODY, _NOBODY)
        self._run(str(home / "initdb"), "-D", str(folder / "data"), *_CLUSTER, "--no-sync")
        (folder / "data" / "pg_hba.conf").write_text(_WHO_MAY)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"postgresql://tenantry@127.0.0.1:{self.port}/postgres"
        self.launch()

    def launch(self) -> None:
        """Start it, on the data and the port that it has. Raises: RuntimeError."""
        options = [word for setting in self._settings for word in ("-c", setting)]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [str(self._home / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), *options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the tests, which then end it
                **self._who,
            )
        self._wait()

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, check=False, **self._who)
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stderr}")

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS_MAX
        engine = create_engine(_driven(self.url), poolclass=NullPool)
        while True:
            try:
                engine.connect().close()
                return
            except SQLAlchemyError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text(errors="replace")[-2000:]) from None
                time.sleep(0.05)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # "fast": it waits for nobody (pg_ctl(1))
            self.process.wait(_START_SECONDS_MAX)


def start(settings: Sequence[str] = _CARELESS) -> Server:
    """In a temporary folder. Both are gone with this process, also when it is killed. Raises: RuntimeError."""
    folder = Path(tempfile.mkdtemp(prefix="tenantry-postgresql-")).resolve()
    keeper = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_KEEPER), str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,  # what ends the tests as a group does not end it
    )

    def end(server: Server | None = None) -> None:
        if server is not None:
            server.stop()
        keeper.communicate(b".")

    try:
        server = Server(folder, settings)
    except BaseException:
        end()
        raise
    atexit.register(end, server)
    return server


@cache
def url() -> str:
    """Of the server of this run, which is started where there is none yet."""
    known = os.environ.get(VARIABLE)
    return known if known else start().url


def port() -> int:
    found = make_url(url()).port
    assert found is not None
    return found


def _driven(plain: str) -> str:
    return plain.replace("postgresql://", "postgresql+psycopg://", 1)


def _named(name: str) -> str:
    return make_url(url()).set(database=name).render_as_string(hide_password=False)


@contextlib.contextmanager
def as_admin(database: str = "postgres") -> Iterator[Engine]:
    engine = create_engine(_driven(_named(database)), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        yield engine
    finally:
        engine.dispose()


def new_database(name: str, template: str | None = None) -> str:
    """Its URL."""
    words = f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else "")
    with as_admin() as engine, engine.connect() as connection:
        connection.execute(text(words))
    return _named(name)


def migrated_database(name: str) -> str:
    """The URL of one with all tables, empty but for what migrations write."""
    return new_database(name, _template())


def guarded_database(name: str, password: str) -> str:
    """The URL, without the password, of a database whose owner has to say it, and may do nothing else here."""
    with as_admin() as engine, engine.connect() as connection:
        known = connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": GUARDED}).first()
        if known is None:
            connection.execute(text(f"CREATE ROLE {GUARDED} LOGIN CREATEDB"))
        connection.execute(text(f"ALTER ROLE {GUARDED} PASSWORD '{password}'"))
        connection.execute(text(f'CREATE DATABASE "{name}" OWNER {GUARDED}'))
    return make_url(url()).set(database=name, username=GUARDED).render_as_string()


def drop_database(name: str) -> None:
    with as_admin() as engine, engine.connect() as connection:
        connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


class Databases:
    """The migrated databases of this process: those that tests use now, and those that wait to be used again."""

    def __init__(self) -> None:
        self._idle: list[str] = []
        self._used: list[str] = []
        self._of_folders: dict[Path, str] = {}
        self._count = 0
        self._connections: list[tuple[str, Any]] = []
        event.listen(Pool, "connect", self._note)

    def _note(self, connection: Any, _record: object) -> None:
        if not isinstance(connection, sqlite3.Connection):
            self._connections.append((connection.info.dbname, connection))

    @property
    def held(self) -> int:
        return len(self._used)

    def take(self) -> str:
        """The URL of a migrated, empty one."""
        return _named(self._hold(self._idle.pop() if self._idle else self._new(_template())))

    def of_folder(self, folder: Path) -> str:
        """The URL of that of a folder of data, which is taken when it is first asked for."""
        if folder not in self._of_folders:
            self._of_folders[folder] = make_url(self.take()).database or ""
        return _named(self._of_folders[folder])

    def has(self, url: str) -> bool:
        """Whether it is in use as one that was migrated."""
        return make_url(url).database in self._used

    def copy(self, source: Path, target: Path) -> None:
        """The folder `target` has what `source` has, to which nobody may be connected."""
        self._of_folders[target] = self._hold(self._new(self._of_folders[source]))

    def replace(self, target: Path, source: Path) -> None:
        """The folder `target` has what `source` has; whoever is connected to either is cut off."""
        name = self._of_folders[target]
        drop_database(name)
        new_database(name, self._of_folders[source])

    def _new(self, source: str) -> str:
        self._count += 1
        name = f"of_{os.getpid()}_{self._count}"
        new_database(name, source)
        return name

    def _hold(self, name: str) -> str:
        self._used.append(name)
        return name

    def give_back(self, held: int = 0) -> None:
        """All but the first `held` ones: whatever is open there is ended too, and what was written is gone."""
        back, self._used = self._used[held:], self._used[:held]
        if not back:
            return
        self._of_folders = {folder: name for folder, name in self._of_folders.items() if name not in back}
        for name in back:
            self._empty(name)
        self._connections = [(name, connection) for name, connection in self._connections if name not in back]
        self._idle += back

    def _empty(self, name: str) -> None:
        """By the driver alone: this is done a thousand times in a run, and an engine of SQLAlchemy asks for more."""
        with psycopg.connect(_named(name), autocommit=True) as own:
            own.execute(_END_STATEMENTS)  # which does not wait, as a server that is to wait looks each 100 ms
            for of_name, connection in self._connections:
                if of_name == name:
                    # A thread that a test has left may be in the middle of a statement: libpq has memory of it.
                    with connection.lock:
                        connection.close()
            own.execute(_END_OTHERS)
            own.execute(f"DO $$ BEGIN {_EMPTY} END $$")


_END_STATEMENTS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_END_OTHERS = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_EMPTY = " ".join(
    [
        # As a replica's own work, which no trigger keeps from anything.
        "SET LOCAL session_replication_role = replica;",
        *(f'DELETE FROM "{table.name}";' for table in ALL_TABLES.sorted_tables),  # noqa: S608 -- names of our tables
        "PERFORM setval(seqrelid::regclass, 1, false) FROM pg_sequence;",
        # What migrations write stands in a table of the template alone.
        "INSERT INTO meta SELECT * FROM template_meta;",
    ]
)


@cache
def _template() -> str:
    """A migrated database that the workers of a run share: the first makes it."""
    with as_admin() as engine, engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(1)"))  # until this connection is closed
        known = connection.execute(text("SELECT 1 FROM pg_database WHERE datname = 'template_of_stores'")).first()
        if known is None:
            drop_database("template_draft")
            store = open_store(new_database("template_draft"))
            migrate(store)
            with store.begin() as own:
                own.execute(text("CREATE TABLE template_meta AS SELECT * FROM meta"))
            store.dispose()
            connection.execute(text("ALTER DATABASE template_draft RENAME TO template_of_stores"))
    return "template_of_stores"


DATABASES = Databases()
