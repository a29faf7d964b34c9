"""A store that is migrated once and copied for each test: migrating takes 80 ms of CPU, a copy less than one.

Which database it is in says the test's `database` (tests/conftest.py): a file of SQLite, or one of PostgreSQL's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url

from tenantry import settings as site_settings
from tenantry.control import init
from tenantry.settings import Settings
from tenantry.storage import database, migrating, schema, tables
from tenantry.storage.database import copy_sqlite, open_store
from tenantry.storage.migrating import migrate
from tests import postgresql

SQLITE, POSTGRESQL = "sqlite", "postgresql"
# Kept between runs, and shared by the workers of one; nobody else may write there.
FOLDER = Path(__file__).parents[1] / ".pytest_cache" / "stores"
_FILE_OF = site_settings.default_store


class Where:
    """In which database new stores are made."""

    kind = SQLITE


@contextlib.contextmanager
def stores_in(kind: str) -> Iterator[str]:
    """New stores are in such a database; those of PostgreSQL are gone afterwards. There each folder of data has one."""
    before, held = Where.kind, postgresql.DATABASES.held
    stores = postgresql.DATABASES.of_folder if kind == POSTGRESQL else _FILE_OF
    Where.kind = kind
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(site_settings, "default_store", stores)
            yield kind
    finally:
        Where.kind = before
        postgresql.DATABASES.give_back(held)


def copy_data(source: Path, target: Path) -> None:
    """The data of a site that nothing holds open, its store with it."""
    shutil.copytree(source, target)
    if Where.kind == POSTGRESQL:
        postgresql.DATABASES.copy(source, target)


class KeptStore:
    """The store of a folder of data as it is, to be brought back. Nobody may be connected to it then, nor now."""

    def __init__(self, data_dir: Path, folder: Path) -> None:
        self._data_dir = data_dir
        self._kept = folder / "kept.db"
        if Where.kind == POSTGRESQL:
            postgresql.DATABASES.copy(data_dir, self._kept)
        else:
            shutil.copy(data_dir / "tenantry.db", self._kept)

    def bring_back(self) -> None:
        if Where.kind == POSTGRESQL:
            postgresql.DATABASES.replace(self._data_dir, self._kept)
        else:
            shutil.copy(self._kept, self._data_dir / "tenantry.db")


@cache
def template() -> Path:
    """The file of a migrated, empty store, named for the code that made it: another migration makes another file."""
    sources = [Path(one.__file__) for one in (database, migrating, schema, tables)]
    sources += sorted(Path(database.__file__).parent.glob("migrations/**/*.py"))
    name = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:24]
    found = FOLDER / f"{name}.db"
    if not found.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        draft, whole = FOLDER / f"{name}.{os.getpid()}.draft", FOLDER / f"{name}.{os.getpid()}.db"
        engine = open_store(f"sqlite:///{draft}")
        migrate(engine)
        copy_sqlite(engine, whole)
        engine.dispose()
        for left in FOLDER.glob(f"{draft.name}*"):
            left.unlink()
        whole.replace(found)  # of two workers the second replaces the first's by its equal
    return found


def new_store(path: Path) -> Engine:
    """A migrated store, opened: in the file `path` where it is SQLite's."""
    if Where.kind == POSTGRESQL:
        return open_store(postgresql.DATABASES.take())
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(template(), path)
    path.chmod(0o600)
    return open_store(f"sqlite:///{path}")


def init_from_template(settings: Settings) -> None:
    """What `init_site` makes, its store copied instead of migrated. A store that is there stays."""
    path = Path(settings.store_url.removeprefix("sqlite:///"))
    is_whole = postgresql.DATABASES.has(settings.store_url)
    if make_url(settings.store_url).get_backend_name() == SQLITE and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new_store(path).dispose()
        is_whole = True
    with pytest.MonkeyPatch.context() as patch:
        if is_whole:  # that nothing is missing Alembic finds out in 10 ms
            patch.setattr(init, "migrate_in_use", lambda _engine: None)
        init.init_site(settings)
