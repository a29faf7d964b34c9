"""A store that is migrated once and copied for each test: migrating takes 80 ms of CPU, a copy less than one.

Which database it is in says the test's `database` (tests/conftest.py): a file of SQLite, or one of PostgreSQL's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from functools import cache
from pathlib import Path

from sqlalchemy import Engine, make_url

from tenantry.control.init import init_site
from tenantry.settings import Settings
from tenantry.storage import database, migrating, schema, tables
from tenantry.storage.database import copy_sqlite, open_store
from tenantry.storage.migrating import migrate
from tests import postgresql

SQLITE, POSTGRESQL = "sqlite", "postgresql"
# Kept between runs, and shared by the workers of one; nobody else may write there.
FOLDER = Path(__file__).parents[1] / ".pytest_cache" / "stores"


class Where:
    """In which database new stores are made."""

    kind = SQLITE


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
    if make_url(settings.store_url).get_backend_name() == SQLITE and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new_store(path).dispose()
    init_site(settings)
