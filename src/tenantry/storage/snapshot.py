"""What a gateway reads: the whole directory in one transaction, and a cheap way to know that it changed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, select, text

from tenantry.domain.budgets import Budget, Cap, Raise
from tenantry.domain.directory import (
    UNLIMITED,
    Credential,
    GatewayKey,
    KeyStatus,
    Snapshot,
    Tenant,
    TenantStatus,
    Tier,
    Upstream,
)
from tenantry.domain.limits import Limits, read_limits
from tenantry.storage.columns import now_utc, utc
from tenantry.storage.tables import (
    budget_raises,
    budgets,
    credentials,
    gateway_keys,
    meta,
    tenants,
    tiers,
    upstreams,
)
from tenantry.storage.vault import Sealed, Vault

VERSION_NAME = "directory_version"
BUDGET_PERIODS = ("day", "week", "month")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
        known_tiers = {row.name: read_tier(row) for row in connection.execute(select(tiers))}
        known_upstreams = {row.upstream_id: _read_upstream(row) for row in connection.execute(select(upstreams))}
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
        caps = read_caps(connection)
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
                Budget(caps.get((row.tenant_id, ""), ()), row.budget_mode),
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
                known_tenants[row.tenant_id].limits.with_changes(read_changes(row.limits))
                if row.limits != "{}"
                else None,
                Budget(caps.get((row.tenant_id, row.key_id), ()), known_tenants[row.tenant_id].budget.mode),
            )
            for row in connection.execute(select(gateway_keys))
        }
    return Snapshot(version, keys, known_tenants)


def read_caps(connection: Connection, tenant_id: str | None = None) -> dict[tuple[str, str], tuple[Cap, ...]]:
    """Caps by tenant and key (key "" is the tenant itself), day first; of one tenant, or of all.

    Raises that are over are left out.
    """
    raises = select(budget_raises).where(budget_raises.c.until > now_utc()).order_by(budget_raises.c.created_at)
    rows = select(budgets).order_by(budgets.c.period)
    if tenant_id is not None:
        raises = raises.where(budget_raises.c.tenant_id == tenant_id)
        rows = rows.where(budgets.c.tenant_id == tenant_id)
    raised: dict[tuple[str, str], tuple[Raise, ...]] = {}
    for row in connection.execute(raises):
        one = Raise(row.amount_nanos, _unix_us(row.created_at), _unix_us(row.until))
        raised[row.tenant_id, row.period] = (*raised.get((row.tenant_id, row.period), ()), one)
    found: dict[tuple[str, str], list[Cap]] = {}
    for row in connection.execute(rows):
        # A raise is the tenant's: its keys stay as they are.
        of_cap = raised.get((row.tenant_id, row.period), ()) if not row.key_id else ()
        found.setdefault((row.tenant_id, row.key_id), []).append(Cap(row.period, row.amount_nanos, of_cap))
    return {holder: tuple(sorted(caps, key=_length)) for holder, caps in found.items()}


def _length(cap: Cap) -> int:
    return BUDGET_PERIODS.index(cap.period)


def _unix_us(at: datetime) -> int:
    aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def read_changes(stored: str) -> dict[str, Any]:
    """Limits as a row keeps them.

    Raises:
        BadLimit: the store holds what no version of this program wrote.
    """
    return read_limits(json.loads(stored)) if stored != "{}" else {}


def read_tier(row: Row[*tuple[Any, ...]], column: str = "limits") -> Tier:
    """A tier from its row, or from `column` of a joined one."""
    return Tier(row.tier if column != "limits" else row.name, Limits().with_changes(read_changes(getattr(row, column))))


def _read_upstream(row: Row[*tuple[Any, ...]]) -> Upstream:
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
