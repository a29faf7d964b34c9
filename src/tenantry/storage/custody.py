"""Which master key a database belongs to: its fingerprint stands in the database.

A database from before that is told by what is sealed in it: its credentials, its alert targets, the end of its audit
log. Under another key no credential opens, and no gateway key or admin token is known again, though nothing is broken.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Engine, insert, inspect, select

from tenantry.storage.audit import HEAD_NAME
from tenantry.storage.tables import alert_targets, credentials, meta
from tenantry.storage.vault import MasterKeyUnusable, Vault

FINGERPRINT_NAME = "master_key_id"


class ForeignMasterKey(MasterKeyUnusable):
    """The database belongs to another master key; the message says to which, and what to do."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The master key that a database belongs to, by its fingerprint; by a seal where only that is known."""

    key_id: str | None
    sealed: str = ""
    seal: str = ""

    def is_key_of(self, vault: Vault) -> bool:
        return self.key_id == vault.key_id if self.key_id is not None else vault.is_seal_of(self.sealed, self.seal)

    def __str__(self) -> str:
        return f"the master key with the fingerprint {self.key_id}" if self.key_id is not None else "another master key"


def find_owner(engine: Engine) -> Owner | None:
    """The master key that a database belongs to; None where nothing in it needs one."""
    with engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        return _find_owner(connection, tables) if meta.name in tables else None


def _find_owner(connection: Connection, tables: set[str]) -> Owner | None:
    noted = _value(connection, FINGERPRINT_NAME)
    if noted is not None:
        return Owner(noted)
    for table in (credentials, alert_targets):
        # The schema may be that of an earlier version.
        if table.name in tables:
            found = connection.execute(select(table.c.master_key_id).limit(1)).scalar()
            if found is not None:
                return Owner(found)
    sealed, _, seal = (_value(connection, HEAD_NAME) or "").partition(":")
    return Owner(None, sealed, seal) if seal else None


def require_master_key(engine: Engine, vault: Vault) -> None:
    """Raises: ForeignMasterKey: the database belongs to another."""
    owner = find_owner(engine)
    if owner is not None and not owner.is_key_of(vault):
        raise ForeignMasterKey(
            f"the database belongs to {owner}, and the key at hand is {vault.key_id}: no credential opens with it. "
            "Put the right key in its place (master_key_file, mode 0600), or name the right database (store_url)"
        )


def note_master_key(engine: Engine, vault: Vault) -> None:
    """Write the fingerprint into a database that has none yet. Raises: ForeignMasterKey: it belongs to another."""
    require_master_key(engine, vault)
    with engine.begin() as connection:
        if _value(connection, FINGERPRINT_NAME) is None:
            connection.execute(insert(meta).values(name=FINGERPRINT_NAME, value=vault.key_id))


def _value(connection: Connection, name: str) -> str | None:
    return connection.execute(select(meta.c.value).where(meta.c.name == name)).scalar()
