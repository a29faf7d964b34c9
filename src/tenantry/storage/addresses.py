"""Addresses of upstreams: who can write the database, and has no master key, cannot point a secret at another one.

An address is sealed beside it, and each credential is sealed for the address of its upstream: under another one it does
not open, and no new secret is sealed for one that was written by somebody else.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select, update

from tenantry.storage.sealed_rows import columns_of, sealed_of
from tenantry.storage.tables import credentials
from tenantry.storage.vault import MasterKey, Vault


def is_own_address(upstream: Row[*tuple[Any, ...]], key: MasterKey) -> bool:
    """Whether the address in the row of an upstream was written by who has the master key."""
    return key.is_address_seal_of(upstream.upstream_id, upstream.base_url, upstream.address_seal or "")


def bind_to_address(connection: Connection, vault: Vault, key: MasterKey, upstream_id: str, old: str, new: str) -> int:
    """Seal the credentials of an upstream for its new address; how many were not yet.

    Raises:
        SecretUnreadable: one opens for neither.
    """
    count = 0
    for row in connection.execute(select(credentials).where(credentials.c.upstream_id == upstream_id)).all():
        sealed = sealed_of(row)
        if not vault.is_for(sealed, row.credential_id, new):
            bound = vault.rewrap(sealed, row.credential_id, old, key, new)
            here = credentials.c.credential_id == row.credential_id
            connection.execute(update(credentials).where(here).values(columns_of(bound)))
            count += 1
    return count
