"""What a gateway reads: the whole directory in one transaction, and a cheap way to know that it changed."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, select, text

from tenantry.domain.directory import (
    Credential,
    GatewayKey,
    KeyStatus,
    Snapshot,
    Tenant,
    TenantStatus,
    Tier,
    Upstream,
)
from tenantry.storage.columns import utc
from tenantry.storage.tables import credentials, gateway_keys, meta, tenants, tiers, upstreams
from tenantry.storage.vault import Sealed, Vault

VERSION_NAME = "directory_version"


def directory_version(connection: Connection) -> int:
    """Goes up by one with every change to the directory."""
    value = connection.execute(select(meta.c.value).where(meta.c.name == VERSION_NAME)).scalar()
    return int(value) if value is not None else 0


def load_snapshot(engine: Engine, vault: Vault) -> Snapshot:
    """The directory as it is now, credentials decrypted.

    Raises:
        SecretUnreadable: a credential does not open under this master key.
    """
    with engine.connect() as connection:
        version = directory_version(connection)
        known_tiers = {row.name: Tier(row.name, row.sessions_max) for row in connection.execute(select(tiers))}
        known_upstreams = {
            row.upstream_id: Upstream(row.upstream_id, row.name, row.base_url, row.ca_file)
            for row in connection.execute(select(upstreams))
        }
        opened = {
            row.credential_id: Credential(
                row.credential_id,
                row.name,
                known_upstreams[row.upstream_id],
                vault.open(Sealed(row.master_key_id, row.wrapped_key, row.ciphertext), row.credential_id),
                row.workspace_id,
            )
            for row in connection.execute(select(credentials))
        }
        known_tenants = {
            row.tenant_id: Tenant(
                row.tenant_id,
                row.slug,
                row.name,
                TenantStatus(row.status),
                known_tiers[row.tier],
                opened.get(row.credential_id),
                row.user_profile_id,
            )
            for row in connection.execute(select(tenants))
        }
        keys = {
            row.digest: GatewayKey(row.key_id, row.tenant_id, row.digest, KeyStatus(row.status), utc(row.expires_at))
            for row in connection.execute(select(gateway_keys))
        }
    return Snapshot(version, keys, known_tenants)


class DirectoryWatch:
    """Tells when the directory has changed since it was last asked.

    On SQLite a poll is one pragma on a connection kept for it: `data_version` moves when another connection commits.
    The drain commits all day, so only a moved version of the directory itself counts.
    """

    def __init__(self, engine: Engine) -> None:
        self._connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._data_version: int | None = None
        self._version: int | None = None
        self.changed()

    def changed(self) -> bool:
        if self._is_sqlite:
            data_version = self._connection.execute(text("PRAGMA data_version")).scalar()
            if data_version == self._data_version:
                return False
            self._data_version = data_version
        version = directory_version(self._connection)
        moved = version != self._version
        self._version = version
        return moved

    def forget(self) -> None:
        """Make the next call report a change: what was reported could not be read."""
        self._data_version = self._version = None

    def close(self) -> None:
        self._connection.close()
