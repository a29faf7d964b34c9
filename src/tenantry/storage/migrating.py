"""Bringing the store's schema up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine

from tenantry.storage.schema import (
    COPYING,
    MIGRATIONS,
    StoreIncomplete,
    StoreLater,
    applied_revision,
    known_revisions,
)
from tenantry.storage.server import Lock, take_turn

if TYPE_CHECKING:
    from alembic.config import Config


class MigrationBroken(Exception):
    """A migration would leave rows that refer to nothing. The database is as it was before."""


def migrate(engine: Engine, revision: str = "head") -> None:
    """Apply every migration that is missing, all or none. Running it again changes nothing.

    Raises:
        MigrationBroken: rows would be left that refer to nothing, or the steps from this schema are not known.
        StoreLater: a later version has made it.
        StoreIncomplete: a copy into it was not finished.
    """
    with engine.connect() as connection:
        applied = applied_revision(connection)
        if applied == COPYING:
            raise StoreIncomplete((StoreIncomplete.__doc__ or "").strip())
        if applied not in (None, *known_revisions()):
            raise StoreLater((StoreLater.__doc__ or "").strip())
        connection.rollback()
        if engine.dialect.name != "sqlite":
            take_turn(connection, Lock.MIGRATION)
            _upgrade(connection, revision)
            connection.commit()
            return
        _begin_sqlite_migration(connection)
        try:
            _upgrade(connection, revision)
            if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                raise MigrationBroken((MigrationBroken.__doc__ or "").strip())
            connection.commit()
        finally:
            connection.rollback()
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")


def _upgrade(connection: Connection, revision: str) -> None:
    # Alembic takes a tenth of a second to load, and control has nothing to migrate but what it restores.
    from alembic import command
    from alembic.util import CommandError

    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise MigrationBroken(str(error)) from error


def _begin_sqlite_migration(connection: Connection) -> None:
    """One transaction around everything, and tables that may be replaced while others refer to them.

    SQLite cannot alter most of a table, so a migration makes a new one and drops the old; with foreign keys on, that
    fails as soon as there are rows (sqlite.org/lang_altertable.html, section 7). The pragma has no effect inside a
    transaction, and the driver by itself begins none before a change of the schema.
    """
    connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config
