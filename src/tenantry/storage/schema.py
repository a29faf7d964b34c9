"""Which schema a database has, and which one this version needs. Without Alembic: each process asks at its start."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

MIGRATIONS = Path(__file__).parent / "migrations"
# Where Alembic notes what it has applied.
_APPLIED_TABLE = "alembic_version"
# Stands there instead of a schema while a store is being copied into the database (copying.py).
COPYING = "copying"


class StoreOutdated(Exception):
    """The database's schema is not the one this version needs. Run `tenantry init` to bring it up to date."""


class StoreLater(StoreOutdated):
    """The database's schema is that of a later version of Tenantry. Install that version, or restore a backup."""


class StoreIncomplete(StoreOutdated):
    """The database holds a part of a copy. Run `tenantry store copy` again: it goes on where it was."""


def applied_revision(connection: Connection) -> str | None:
    """The schema of the database; None where it has none."""
    if not inspect(connection).has_table(_APPLIED_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {_APPLIED_TABLE}")).scalar()  # noqa: S608 -- a constant


@cache
def known_revisions() -> list[str]:
    """The schema of this version, then those of the versions before it: `v0008_some_words.py` is 0008."""
    return sorted((path.name[1:5] for path in MIGRATIONS.glob("versions/v[0-9]*.py")), reverse=True)


def schema_is_current(engine: Engine) -> bool:
    with engine.connect() as connection:
        return applied_revision(connection) == known_revisions()[0]


def is_part_of_copy(engine: Engine) -> bool:
    with engine.connect() as connection:
        return applied_revision(connection) == COPYING


def require_current_schema(engine: Engine) -> None:
    """Raises: StoreOutdated; StoreLater and StoreIncomplete, which are such."""
    with engine.connect() as connection:
        applied = applied_revision(connection)
    known = known_revisions()
    if applied == COPYING:
        raise StoreIncomplete((StoreIncomplete.__doc__ or "").strip())
    if applied != known[0]:
        found = StoreOutdated if applied is None or applied in known else StoreLater
        raise found((found.__doc__ or "").strip())
