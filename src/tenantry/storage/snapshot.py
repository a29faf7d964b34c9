"""What a gateway reads: the whole directory in one transaction, and a cheap way to know that it changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, Row, select, text

from tenantry.domain.directory import (
    NO_BUDGET,
    UNLIMITED,
    Credential,
    Disconnect,
    GatewayKey,
    KeyStatus,
    Snapshot,
    Tenant,
    TenantStatus,
    Tier,
    Upstream,
)
from tenantry.domain.limits import Limits, read_limits
from tenantry.storage.caps import read_budgets
from tenantry.storage.columns import utc
from tenantry.storage.database import reading
from tenantry.storage.tables import credentials, gateway_keys, meta, tenants, tiers, upstreams
from tenantry.storage.vault import Sealed, Vault

VERSION_NAME = "directory_version"


def directory_version(connection: Connection) -> int:
    """Goes up by one with every change to the directory."""
    value = connection.execute(select(meta.c.value).where(meta.c.name == VERSION_NAME)).scalar()
    return int(value) if value is not None else 0


class SnapshotLoader:
    """Reads the directory again and again; a secret that has not changed is not decrypted again."""

    def __init__(self, engine: Engine, vault: Vault) -> None:
        self._engine = engine
        self._vault = vault
        self._opened: dict[tuple[str, bytes], str] = {}

    def load(self) -> Snapshot:
        """The directory as it is now, credentials decrypted.

        Raises:
            SecretUnreadable: a credential does not open under this master key.
        """
        opened: dict[tuple[str, bytes], str] = {}

        def secret_of(row: Row[*tuple[Any, ...]]) -> str:
            key = (row.credential_id, row.ciphertext)
            secret = self._opened.get(key)
            if secret is None:
                sealed = Sealed(row.master_key_id, row.wrapped_key, row.ciphertext)
                secret = self._vault.open(sealed, row.credential_id)
            opened[key] = secret
            return secret

        with reading(self._engine) as connection:
            snapshot = _read(connection, secret_of)
        self._opened = opened
        return snapshot


def _read(connection: Connection, secret_of: Callable[[Row[*tuple[Any, ...]]], str]) -> Snapshot:
    version = directory_version(connection)
    known_tiers = {row.name: read_tier(row) for row in connection.execute(select(tiers))}
    known_upstreams = {row.upstream_id: read_upstream(row) for row in connection.execute(select(upstreams))}
    opened = {
        row.credential_id: Credential(
            row.credential_id,
            row.name,
            known_upstreams[row.upstream_id],
            secret_of(row),
            row.workspace_id,
        )
        for row in connection.execute(select(credentials))
    }
    budgets = read_budgets(connection)
    known_tenants = {
        row.tenant_id: Tenant(
            row.tenant_id,
            row.slug,
            row.name,
            TenantStatus(row.status),
            row.tier,
            known_tiers[row.tier].limits.with_changes(read_changes(row.limits)),
            opened.get(row.credential_id),
            opened.get(row.fallback_credential_id),
            row.user_profile_id,
            Disconnect(row.disconnect),
            budget=budgets[row.tenant_id, ""],
        )
        for row in connection.execute(select(tenants))
    }
    keys = {
        row.digest: GatewayKey(
            row.key_id,
            row.tenant_id,
            row.digest,
            KeyStatus(row.status),
            utc(row.expires_at),
            known_tenants[row.tenant_id].limits.with_changes(read_changes(row.limits)) if row.limits != "{}" else None,
            budget=budgets.get((row.tenant_id, row.key_id), NO_BUDGET),
        )
        for row in connection.execute(select(gateway_keys))
    }
    return Snapshot(version, keys, known_tenants)


def read_changes(stored: str) -> dict[str, Any]:
    """Limits as a row keeps them.

    Raises:
        BadLimit: the store holds what no version of this program wrote.
    """
    return read_limits(json.loads(stored)) if stored != "{}" else {}


def read_tier(row: Row[*tuple[Any, ...]], column: str = "limits") -> Tier:
    """A tier from its row, or from `column` of a joined one."""
    return Tier(row.tier if column != "limits" else row.name, Limits().with_changes(read_changes(getattr(row, column))))


def read_upstream(row: Row[*tuple[Any, ...]]) -> Upstream:
    """An upstream from its row."""
    return Upstream(
        row.upstream_id,
        row.name,
        row.base_url,
        row.ca_file,
        row.connect_seconds,
        row.answer_seconds,
        UNLIMITED.with_changes(read_changes(row.capacity)),
        bool(row.shares_capacity),
    )


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
