"""Which master key is in force: its fingerprint stands in the database, and moves in the transaction of a rotation."""

from __future__ import annotations

from sqlalchemy import Connection, select

from tenantry.storage.tables import meta
from tenantry.storage.vault import MasterKey, Vault

FINGERPRINT_NAME = "master_key_id"


def key_in_force(connection: Connection, vault: Vault) -> MasterKey:
    """The master key to seal under. It stays so until the transaction ends, where the audit log's end is locked.

    Raises:
        SecretUnreadable: it is not at hand.
    """
    noted = connection.execute(select(meta.c.value).where(meta.c.name == FINGERPRINT_NAME)).scalar()
    return vault.key(noted) if noted is not None else vault.master
