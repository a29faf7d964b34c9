"""Which schema a database has, and whether this version can use it. Without Alembic: each process asks at its start.

A migration either *expands* (it adds what versions before it do not see, so they go on) or *contracts* (it takes away
what versions before `compatible_from` use). The database says from which schema on a version survives what was done to
it (docs/decisions/0023-upgrades.md).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Connection, Engine, inspect, select, text

from tenantry.storage.tables import meta

MIGRATIONS = Path(__file__).parent / "migrations"
# Where Alembic notes what it has applied.
_APPLIED_TABLE = "alembic_version"
# Stands there instead of a schema while a store is being copied into the database (copying.py).
COPYING = "copying"
# In `meta`: the oldest schema whose version can use the database as it is. Where it is missing, none but its own can.
COMPATIBLE_NAME: Final = "schema_compatible_from"
# The last migration from before the rule. It and those before it changed whatever they liked.
LAST_UNDECLARED: Final = "0024"
_DECLARED: Final = re.compile(r'^(kind|compatible_from) = "(\w+)"$', re.MULTILINE)


class StoreOutdated(Exception):
    """The database's schema is not the one this version needs. Run `tenantry init` to bring it up to date."""


class StoreLater(StoreOutdated):
    """The database's schema is that of a later version of Tenantry. Install that version, or restore a backup."""


class StoreIncomplete(StoreOutdated):
    """The database holds a part of a copy. Run `tenantry store copy` again: it goes on where it was."""


class MigrationUndeclared(Exception):
    """A migration does not say whether it expands or contracts the schema."""


class Migration(NamedTuple):
    """`compatible_from`: the oldest schema whose version survives it, of one that contracts; else None."""

    revision: str
    compatible_from: str | None

    @property
    def contracts(self) -> bool:
        return self.compatible_from is not None


class Fit(Enum):
    """How a database's schema stands to this version."""

    CURRENT = "it is this version's"
    WAITING = "steps that earlier versions would not survive have not been done yet"
    LATER = "a later version has made it, and this one survives that"
    OUTDATED = "an earlier version has made it"
    TOO_LATE = "a later version has made it, which this one does not survive"
    MISSING = "there is none"
    COPYING = "a copy into it was not finished"


USABLE: Final = frozenset({Fit.CURRENT, Fit.WAITING, Fit.LATER})
_REFUSALS: Final[dict[Fit, type[StoreOutdated]]] = {Fit.TOO_LATE: StoreLater, Fit.COPYING: StoreIncomplete}


def applied_revision(connection: Connection) -> str | None:
    """The schema of the database; None where it has none."""
    if not inspect(connection).has_table(_APPLIED_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {_APPLIED_TABLE}")).scalar()  # noqa: S608 -- a constant


def compatible_from(connection: Connection) -> str | None:
    """The oldest schema whose version can use the database; None where it does not say."""
    if not inspect(connection).has_table(meta.name):
        return None
    return connection.execute(select(meta.c.value).where(meta.c.name == COMPATIBLE_NAME)).scalar()


@cache
def known_revisions() -> list[str]:
    """The schema of this version, then those of the versions before it: `v0008_some_words.py` is 0008."""
    return sorted((path.name[1:5] for path in MIGRATIONS.glob("versions/v[0-9]*.py")), reverse=True)


@cache
def known_migrations() -> Sequence[Migration]:
    """All of this version, oldest first. Raises: MigrationUndeclared."""
    return [_read(path) for path in sorted(MIGRATIONS.glob("versions/v[0-9]*.py"))]


def _read(path: Path) -> Migration:
    revision = path.name[1:5]
    declared = dict[str, str](_DECLARED.findall(path.read_text(encoding="utf-8")))
    if revision <= LAST_UNDECLARED:
        return Migration(revision, revision)
    since = declared.get("compatible_from")
    if declared.get("kind") != ("expand" if since is None else "contract"):
        raise MigrationUndeclared(
            f'{path.name}: say `kind = "expand"`, or `kind = "contract"` and in `compatible_from` the oldest schema '
            "whose version no longer uses what goes"
        )
    return Migration(revision, since)


def fit_of(applied: str | None, since: str | None) -> Fit:
    """How a schema stands to this version. `since` is what the database says in `compatible_from`."""
    known = known_revisions()
    if applied is None:
        return Fit.MISSING
    if applied == COPYING:
        return Fit.COPYING
    if applied == known[0]:
        return Fit.CURRENT
    if applied in known:
        return Fit.WAITING if all(one.contracts for one in missing(applied)) and _has_rule(applied) else Fit.OUTDATED
    return Fit.LATER if since is not None and since <= known[0] else Fit.TOO_LATE


def missing(applied: str | None) -> Sequence[Migration]:
    """What this version would do to a database with this schema, oldest first. Raises: MigrationUndeclared."""
    return [one for one in known_migrations() if applied is None or one.revision > applied]


def _has_rule(applied: str) -> bool:
    return applied >= LAST_UNDECLARED


def look(engine: Engine) -> Fit:
    """How the schema of a database stands to this version."""
    with engine.connect() as connection:
        return find_fit(connection)


def find_fit(connection: Connection) -> Fit:
    """The same, for a connection that is there."""
    applied = applied_revision(connection)
    is_strange = applied not in (None, COPYING, *known_revisions())
    return fit_of(applied, compatible_from(connection) if is_strange else None)


def require_usable_schema(connection: Connection) -> None:
    """Raises: StoreOutdated; StoreLater and StoreIncomplete, which are such."""
    _require(find_fit(connection), USABLE)


def require_current_schema(engine: Engine) -> None:
    """For what knows every table and column. Raises: StoreOutdated; StoreLater and StoreIncomplete, which are such."""
    fit = look(engine)
    _require(Fit.TOO_LATE if fit is Fit.LATER else fit, {Fit.CURRENT})


def _require(fit: Fit, wanted: frozenset[Fit] | set[Fit]) -> None:
    if fit not in wanted:
        refusal = _REFUSALS.get(fit, StoreOutdated)
        raise refusal((refusal.__doc__ or "").strip())
