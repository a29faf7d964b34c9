"""The directory's version, and what each move of it touched, so that a gateway reads again only that."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select, update

from tenantry.storage.server import notify
from tenantry.storage.tables import directory_changes, meta

VERSION_NAME = "directory_version"
# On which PostgreSQL tells gateways that it moved.
CHANNEL = "tenantry_directory"
# A gateway that is further behind reads the whole directory, which takes 0.3 s at 10,000 tenants.
VERSIONS_KEPT = 10_000
# More than that at once are not read one by one either: the whole costs no more.
TOUCHED_MAX = 500


class Kind(StrEnum):
    """What a gateway holds of the directory."""

    TENANT = "tenant"  # with its keys and budgets
    TIER = "tier"
    CREDENTIAL = "credential"
    UPSTREAM = "upstream"
    ALL = "all"
    NOTHING = "nothing"


class Touched(NamedTuple):
    """One thing that a change touched. `object_id` is its internal id, or a tier's name."""

    kind: Kind
    object_id: str


# Of a change to what no gateway holds: plans, alert targets, admins.
NOTHING: tuple[Touched, ...] = ()


def directory_version(connection: Connection) -> int:
    """Goes up by one with every change to the directory."""
    value = connection.execute(select(meta.c.value).where(meta.c.name == VERSION_NAME)).scalar()
    return int(value) if value is not None else 0


def move_version(connection: Connection, moves: int, touched: Collection[Touched]) -> None:
    """Go on by `moves` versions that touched this. The caller's transaction has locked the end of the audit log, so
    that no two move to the same number."""
    since = directory_version(connection)
    version = since + moves
    if since == 0:
        connection.execute(insert(meta).values(name=VERSION_NAME, value=str(version)))
    else:
        connection.execute(update(meta).where(meta.c.name == VERSION_NAME).values(value=str(version)))
    kept: Collection[Touched] = set(touched) or (Touched(Kind.NOTHING, ""),)
    if len(kept) > TOUCHED_MAX:
        kept = (Touched(Kind.ALL, ""),)
    connection.execute(
        insert(directory_changes),
        [{"version": version, "since": since, "kind": one.kind.value, "object_id": one.object_id} for one in kept],
    )
    connection.execute(delete(directory_changes).where(directory_changes.c.version <= version - VERSIONS_KEPT))
    notify(connection, CHANNEL)


def read_touched(connection: Connection, since: int, version: int) -> Sequence[Touched] | None:
    """What the moves from `since` to `version` touched; None where that is not known, or is too much to tell.

    It is not known when rows were dropped since, or when a program that does not write them moved the version.
    """
    query = select(directory_changes).where(directory_changes.c.version > since).order_by(directory_changes.c.version)
    touched: list[Touched] = []
    begun, reached = since, since
    for row in connection.execute(query.limit(TOUCHED_MAX + 1)):
        if row.version != reached:
            begun, reached = reached, row.version
        if row.since != begun or row.kind == Kind.ALL.value:
            return None
        if row.kind != Kind.NOTHING.value:
            touched.append(Touched(Kind(row.kind), row.object_id))
    return touched if reached == version else None


def tenant_touched(tenant_id: str) -> tuple[Touched, ...]:
    """A change to a tenant, its keys or its budgets."""
    return (Touched(Kind.TENANT, tenant_id),)


def tier_touched(name: str) -> tuple[Touched, ...]:
    """A change to a tier's limits."""
    return (Touched(Kind.TIER, name),)


def credential_touched(credential_id: str) -> tuple[Touched, ...]:
    """A change to what is sent upstream, or where."""
    return (Touched(Kind.CREDENTIAL, credential_id),)


def upstream_touched(upstream_id: str) -> tuple[Touched, ...]:
    """A change to an upstream."""
    return (Touched(Kind.UPSTREAM, upstream_id),)
