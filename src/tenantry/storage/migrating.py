"""Bringing the store's schema up to date: at once, or as far as the versions that use it survive."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, Engine, delete, insert

from tenantry.storage.in_use import EarlierUsers
from tenantry.storage.schema import (
    COMPATIBLE_NAME,
    MIGRATIONS,
    Fit,
    StoreIncomplete,
    StoreLater,
    StoreOutdated,
    applied_revision,
    find_fit,
    known_migrations,
    missing,
)
from tenantry.storage.server import Lock, take_turn
from tenantry.storage.tables import meta

if TYPE_CHECKING:
    from alembic.config import Config

_HEAD = "head"


class MigrationBroken(Exception):
    """A migration would leave rows that refer to nothing. The database is as it was before."""


class MigrationBlocked(StoreOutdated):
    """This version's schema needs a step that versions which are running would not survive. Nothing was changed."""


class Waiting(NamedTuple):
    """The step that waits, and for whom."""

    revision: str
    users: list[str]


def migrate(engine: Engine, revision: str = _HEAD) -> None:
    """Apply every migration that is missing, all or none, in a store that nobody uses. Again, it changes nothing.

    Raises:
        MigrationBroken: rows would be left that refer to nothing, or the steps from this schema are not known.
        StoreLater: a later version has made it, and this one does not survive that.
        StoreIncomplete: a copy into it was not finished.
    """
    _migrate(engine, revision, spares=False)


def migrate_in_use(engine: Engine) -> Waiting | None:
    """Apply what is missing, but for steps that a running version would not survive; which of those is the first.

    Raises:
        MigrationBlocked: this version cannot do without what comes behind it.
        MigrationBroken, StoreLater, StoreIncomplete: as `migrate`.
    """
    return _migrate(engine, _HEAD, spares=True)


def _migrate(engine: Engine, revision: str, *, spares: bool) -> Waiting | None:
    with ExitStack() as stack, engine.connect() as connection:
        locked_out = stack if spares else None
        take_turn(connection, Lock.MIGRATION)
        fit = find_fit(connection)
        if fit is Fit.COPYING:
            raise StoreIncomplete((StoreIncomplete.__doc__ or "").strip())
        if fit is Fit.TOO_LATE:
            raise StoreLater((StoreLater.__doc__ or "").strip())
        if fit in (Fit.CURRENT, Fit.LATER):
            return None
        if engine.dialect.name != "sqlite":
            waiting = _apply(connection, revision, locked_out)
            connection.commit()
            return waiting
        connection.rollback()
        _begin_sqlite_migration(connection)
        try:
            waiting = _apply(connection, revision, locked_out)
            if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                raise MigrationBroken((MigrationBroken.__doc__ or "").strip())
            connection.commit()
        finally:
            connection.rollback()
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        return waiting


def _apply(connection: Connection, revision: str, locked_out: ExitStack | None) -> Waiting | None:
    """In the caller's transaction. `locked_out`: what keeps earlier versions out until it is committed; None where
    nobody uses the store. Raises: MigrationBlocked, MigrationBroken.
    """
    applied = applied_revision(connection)
    waiting = None
    if locked_out is not None and applied is not None:
        waiting = _find_waiting(connection, applied, locked_out)
    if waiting is None:
        _upgrade(connection, revision)
    elif (reached := _before(waiting.revision)) != applied:
        _upgrade(connection, reached)
    _note_compatible(connection)
    return waiting


def _find_waiting(connection: Connection, applied: str, locked_out: ExitStack) -> Waiting | None:
    """The first step that somebody would not survive. Raises: MigrationBlocked."""
    steps = missing(applied)
    for step in steps:
        if step.compatible_from is None:
            continue
        earlier = locked_out.enter_context(closing(EarlierUsers(connection, step.compatible_from)))
        if earlier.told:
            if any(not one.contracts for one in steps if one.revision > step.revision):
                raise MigrationBlocked(
                    f"earlier versions run that would not survive the step {step.revision} of the schema, which this "
                    f"version needs: {', '.join(earlier.told)}. Install a version between the two first, or stop them"
                )
            return Waiting(step.revision, earlier.told)
    return None


def _before(revision: str) -> str:
    return max(one.revision for one in known_migrations() if one.revision < revision)


def _note_compatible(connection: Connection) -> None:
    """Say from which schema on a version survives what was done."""
    applied = applied_revision(connection) or ""
    since = [one.compatible_from for one in known_migrations() if one.compatible_from and one.revision <= applied]
    connection.execute(delete(meta).where(meta.c.name == COMPATIBLE_NAME))
    connection.execute(insert(meta).values(name=COMPATIBLE_NAME, value=max(since)))


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
