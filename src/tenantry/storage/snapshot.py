"""What a gateway reads: the whole directory in one transaction, then only what changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Column, Connection, Engine, Row, Table, select

from tenantry.domain.allowances import Allowance
from tenantry.domain.budgets import Budget
from tenantry.domain.directory import (
    NO_BUDGET,
    NO_NAMES,
    Change,
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
from tenantry.domain.limits import Limits
from tenantry.storage.allowances import read_allowances
from tenantry.storage.caps import read_budgets
from tenantry.storage.client_hosts import read_hosts
from tenantry.storage.columns import utc
from tenantry.storage.database import StoreFile, path_of_store, reading
from tenantry.storage.notices import DirectoryNotices
from tenantry.storage.records import read_changes, read_tier, read_upstream
from tenantry.storage.sealed_rows import sealed_of
from tenantry.storage.tables import credentials, gateway_keys, tenant_slots, tenants, tiers, upstreams
from tenantry.storage.vault import SecretUnreadable, Vault
from tenantry.storage.versions import TOUCHED_MAX, VERSION_NAME, Kind, Touched, directory_version, read_touched

T = TypeVar("T")
UTC: Final = ZoneInfo("UTC")
_NONE: frozenset[Any] = frozenset()
# Limits of its own, as most have: the row's text for none.
_NO_LIMITS = "{}"
# Most tenants that have limits of their own have those that others have; one takes 300 bytes.
OWN_NAMES_MAX = 1024


@dataclass(slots=True)
class _Held:
    """A snapshot, and what its values were made of. Never edited once it is held."""

    version: int = -1
    tiers: dict[str, Tier] = field(default_factory=dict[str, Tier])
    upstreams: dict[str, Upstream] = field(default_factory=dict[str, Upstream])
    credentials: dict[str, Credential] = field(default_factory=dict[str, Credential])
    # The sealed secrets that were opened, by credential.
    sealed: dict[str, bytes] = field(default_factory=dict[str, bytes])
    # Why a credential does not open, by its id. The last one that did is in force, or none.
    closed: dict[str, str] = field(default_factory=dict[str, str])
    tenants: dict[str, Tenant] = field(default_factory=dict[str, Tenant])
    keys: dict[bytes, GatewayKey] = field(default_factory=dict[bytes, GatewayKey])
    digests: dict[str, tuple[bytes, ...]] = field(default_factory=dict[str, tuple[bytes, ...]])
    # Limits of their own as the rows keep them, by tenant's or key's id; who has none is not in it. Of a key of a slot
    # the slot's.
    own: dict[str, str] = field(default_factory=dict[str, str])
    # The slugs of tenants by the names that are their clients' own. Replaced when one changes.
    hosts: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])

    def copy(self) -> _Held:
        return _Held(
            self.version,
            self.tiers.copy(),
            self.upstreams.copy(),
            self.credentials.copy(),
            self.sealed.copy(),
            self.closed.copy(),
            self.tenants.copy(),
            self.keys.copy(),
            self.digests.copy(),
            self.own.copy(),
            self.hosts,
        )


class SnapshotLoader:
    """Reads the directory whole, then follows it.

    A value that has not changed is the same object in every snapshot, and a secret that has not is not decrypted
    again. Both calls take up to half a second at 10,000 tenants: make them in a thread, one at a time.

    A credential that does not open holds nobody up but its own tenants: they keep the one that opened last, and have
    none where there is none. `closed` says why, in words, as of the last reading.
    """

    def __init__(self, engine: Engine, vault: Vault, zone: ZoneInfo = UTC) -> None:
        """`zone` is the agency's: its days are those on which plans change."""
        self._engine = engine
        self._vault = vault
        self._zone = zone
        self._held: _Held | None = None

    @property
    def closed(self) -> list[str]:
        return sorted(self._held.closed.values()) if self._held is not None else []

    def load(self) -> Snapshot:
        """The directory as it is now, credentials decrypted."""
        with reading(self._engine) as connection:
            return self._keep(self._whole(connection, directory_version(connection)))

    def follow(self) -> Change:
        """The directory as it is now, and what differs from the last one that was read."""
        before = self._held
        if before is None:
            return Change(self.load(), None, None)
        with reading(self._engine) as connection:
            version = directory_version(connection)
            touched = read_touched(connection, before.version, version)
            if touched is None:
                after = self._whole(connection, version)
                ids, digests = before.tenants.keys() | after.tenants.keys(), before.keys.keys() | after.keys.keys()
            else:
                step = _Step(connection, self._vault, self._zone, before, before.copy(), version)
                step.read_touched(touched)
                after, ids, digests = step.after, step.tenants, step.keys
        return Change(
            self._keep(after),
            frozenset(one for one in ids if before.tenants.get(one) is not after.tenants.get(one)),
            frozenset(one for one in digests if before.keys.get(one) is not after.keys.get(one)),
        )

    def _whole(self, connection: Connection, version: int) -> _Held:
        step = _Step(connection, self._vault, self._zone, self._held or _Held(), _Held(), version)
        step.read_everything()
        return step.after

    def _keep(self, held: _Held) -> Snapshot:
        self._held = held
        return Snapshot(held.version, held.keys, held.tenants, held.hosts, held.tiers)


class _Step:
    """From `before` to `after`, in one reading transaction. `tenants` and `keys` are those that were looked at."""

    def __init__(
        self, connection: Connection, vault: Vault, zone: ZoneInfo, before: _Held, after: _Held, version: int
    ) -> None:
        self._connection = connection
        self._vault = vault
        self._zone = zone
        self._before = before
        self.after = after
        self.after.version = version
        self.tenants: set[str] = set()
        self.keys: set[bytes] = set()
        self._limits: dict[tuple[str, str, str], Limits] = {}

    def read_everything(self) -> None:
        self._read_tiers(None)
        self._read_upstreams(None)
        self._read_credentials(None)
        self._read_tenants(None)

    def read_touched(self, touched: Iterable[Touched]) -> None:
        """Read the touched rows again, then make anew what was made from them."""
        ids: dict[Kind, set[str]] = {kind: set() for kind in Kind}
        for kind, object_id in touched:
            ids[kind].add(object_id)
        if ids[Kind.TIER]:
            self._read_tiers(ids[Kind.TIER])
        if ids[Kind.UPSTREAM]:
            self._read_upstreams(ids[Kind.UPSTREAM])
            # A credential holds its upstream.
            held = self._before.credentials.values()
            ids[Kind.CREDENTIAL] |= {
                one.credential_id for one in held if one.upstream.upstream_id in ids[Kind.UPSTREAM]
            }
        if ids[Kind.CREDENTIAL]:
            self._read_credentials(ids[Kind.CREDENTIAL])
            # Tenants of one that did not open may have none: what they are to have stands in their rows alone.
            ids[Kind.TENANT] |= self._users(set(), ids[Kind.CREDENTIAL] & self._before.closed.keys())
        if ids[Kind.TENANT]:
            self._read_tenants(ids[Kind.TENANT])
        if ids[Kind.TIER] or ids[Kind.CREDENTIAL]:
            self._make_anew(ids[Kind.TIER], ids[Kind.CREDENTIAL], ids[Kind.TENANT])

    def _read_tiers(self, names: set[str] | None) -> None:
        _forget(self.after.tiers, names)
        for row in self._rows(tiers, tiers.c.name, names):
            self.after.tiers[row.name] = _shared(self._before.tiers.get(row.name), read_tier(row))

    def _read_upstreams(self, ids: set[str] | None) -> None:
        _forget(self.after.upstreams, ids)
        for row in self._rows(upstreams, upstreams.c.upstream_id, ids):
            upstream = _shared(self._before.upstreams.get(row.upstream_id), read_upstream(row))
            self.after.upstreams[row.upstream_id] = upstream

    def _read_credentials(self, ids: set[str] | None) -> None:
        _forget(self.after.credentials, ids)
        _forget(self.after.sealed, ids)
        _forget(self.after.closed, ids)
        for row in self._rows(credentials, credentials.c.credential_id, ids):
            known, upstream = self._before.credentials.get(row.credential_id), self.after.upstreams[row.upstream_id]
            # For another address it has to be sealed anew, though it is the same secret.
            is_there = known is not None and known.upstream.base_url == upstream.base_url
            if known is not None and is_there and self._before.sealed[row.credential_id] == row.ciphertext:
                secret = known.secret
            else:
                try:
                    secret = self._vault.open(sealed_of(row), row.credential_id, upstream.base_url)
                except SecretUnreadable as error:
                    self._leave_closed(row, known, str(error))
                    continue
            made = Credential(
                row.credential_id,
                row.name,
                upstream,
                secret,
                row.workspace_id,
                bool(row.shared),
                utc(row.checked_at),
            )
            self.after.credentials[row.credential_id] = _shared(known, made)
            self.after.sealed[row.credential_id] = row.ciphertext

    def _leave_closed(self, row: Row[*tuple[Any, ...]], known: Credential | None, why: str) -> None:
        """The one that opened last stays as it is, with its own upstream, until the row opens."""
        self.after.closed[row.credential_id] = f"credential {row.name!r}: {why}"
        if known is not None:
            self.after.credentials[row.credential_id] = known
            self.after.sealed[row.credential_id] = self._before.sealed[row.credential_id]

    def _read_tenants(self, ids: set[str] | None) -> None:
        """Tenants with their keys and budgets."""
        after = self.after
        for tenant_id in ids or ():
            after.tenants.pop(tenant_id, None)
            after.own.pop(tenant_id, None)
            for digest in after.digests.pop(tenant_id, ()):
                after.own.pop(after.keys.pop(digest).key_id, None)
                self.keys.add(digest)
        self.tenants |= ids or _NONE
        budgets = read_budgets(self._connection, ids)
        hosts = read_hosts(self._connection, ids)
        allowances = read_allowances(self._connection, ids, datetime.now(self._zone).date(), self._zone)
        for row in self._rows(tenants, tenants.c.tenant_id, ids):
            own = hosts.get(row.tenant_id, ())
            allowance = allowances.get(row.tenant_id)
            after.tenants[row.tenant_id] = self._tenant(row, budgets[row.tenant_id, ""], own, allowance)
        self._name_hosts(ids)
        slots = {
            (row.tenant_id, row.name): row.limits for row in self._rows(tenant_slots, tenant_slots.c.tenant_id, ids)
        }
        for row in self._rows(gateway_keys, gateway_keys.c.tenant_id, ids):
            budget, own_limits = budgets.get((row.tenant_id, row.key_id), NO_BUDGET), row.limits
            if row.slot:
                own_limits = slots.get((row.tenant_id, row.slot), _NO_LIMITS)
            after.keys[row.digest] = self._key(row, budget, own_limits)
            after.digests[row.tenant_id] = (*after.digests.get(row.tenant_id, ()), row.digest)
            self.keys.add(row.digest)

    def _name_hosts(self, ids: set[str] | None) -> None:
        """By whose host name who is named, where that of one of these tenants has changed."""
        before, after = self._before.tenants, self.after.tenants
        read = before.keys() | after.keys() if ids is None else ids
        if all(_hosts_of(before.get(one)) == _hosts_of(after.get(one)) for one in read):
            self.after.hosts = self._before.hosts
            return
        named = dict(self._before.hosts)
        for one in read:
            for host in _hosts_of(before.get(one)):
                named.pop(host, None)
        for one in read:
            named.update(_hosts_of(after.get(one)))
        self.after.hosts = named

    def _tenant(
        self, row: Row[*tuple[Any, ...]], budget: Budget, hosts: tuple[str, ...], allowance: Allowance | None
    ) -> Tenant:
        known = self._before.tenants.get(row.tenant_id)
        if row.limits != _NO_LIMITS:
            self.after.own[row.tenant_id] = row.limits
        limits = self._limits_of(row.tier, row.limits)
        made = Tenant(
            row.tenant_id,
            row.slug,
            row.name,
            TenantStatus(row.status),
            row.tier,
            _shared(known.limits, limits) if known is not None else limits,
            self.after.credentials.get(row.credential_id),
            self.after.credentials.get(row.fallback_credential_id),
            row.user_profile_id,
            Disconnect(row.disconnect),
            _shared(known.budget, budget) if known is not None else budget,
            hosts,
            _shared(known.allowance, allowance) if known is not None else allowance,
            _names_of(row.limits),
        )
        return _shared(known, made)

    def _key(self, row: Row[*tuple[Any, ...]], budget: Budget, own_limits: str) -> GatewayKey:
        """A slot has a lane also where it has the tenant's limits; another key only where it has its own."""
        known = self._before.keys.get(row.digest)
        limits = None
        if own_limits != _NO_LIMITS or row.slot:
            self.after.own[row.key_id] = own_limits
            tenant = self.after.tenants[row.tenant_id]
            limits = self._limits_of(tenant.tier, self.after.own.get(row.tenant_id, _NO_LIMITS), own_limits)
        made = GatewayKey(
            row.key_id,
            row.tenant_id,
            row.digest,
            KeyStatus(row.status),
            utc(row.expires_at),
            _shared(known.limits, limits) if known is not None else limits,
            _shared(known.budget, budget) if known is not None else budget,
            row.slot,
            _names_of(own_limits),
        )
        return _shared(known, made)

    def _make_anew(self, tier_names: set[str], credential_ids: set[str], read: set[str]) -> None:
        """Tenants whose tier or credential changed, but for those that were `read`."""
        after = self.after
        for tenant_id in self._users(tier_names, credential_ids) - read:
            tenant = self._before.tenants.get(tenant_id)
            if tenant is None:
                continue
            limits, credential, fallback = tenant.limits, tenant.credential, tenant.fallback
            if tenant.tier in tier_names:
                limits = self._limits_of(tenant.tier, after.own.get(tenant.tenant_id, _NO_LIMITS))
                limits = _shared(tenant.limits, limits)
            if credential is not None and credential.credential_id in credential_ids:
                credential = after.credentials.get(credential.credential_id)
            if fallback is not None and fallback.credential_id in credential_ids:
                fallback = after.credentials.get(fallback.credential_id)
            is_same = credential is tenant.credential and fallback is tenant.fallback
            if limits is not tenant.limits or not is_same:
                made = replace(tenant, limits=limits, credential=credential, fallback=fallback)
                after.tenants[tenant.tenant_id] = made
                self.tenants.add(tenant.tenant_id)
            if limits is not tenant.limits:
                self._limit_keys(tenant)

    def _users(self, tier_names: set[str], credential_ids: set[str]) -> set[str]:
        """Tenants of these tiers, and those that these credentials serve. The store finds them: it holds nobody up.

        It reads every tenant for that, which takes 5 ms of 10,000. A tier or credential that is new serves none but
        tenants that were touched with it.
        """
        tier_names = tier_names & self._before.tiers.keys()
        credential_ids = credential_ids & (self._before.credentials.keys() | self._before.closed.keys())
        if not (tier_names or credential_ids):
            return set()
        if len(credential_ids) > TOUCHED_MAX:  # an upstream of many; a statement has no room for so many
            return set(self._before.tenants)
        columns = tenants.c
        query = select(columns.tenant_id).where(
            columns.tier.in_(tier_names)
            | columns.credential_id.in_(credential_ids)
            | columns.fallback_credential_id.in_(credential_ids)
        )
        return set(self._connection.execute(query).scalars())

    def _limit_keys(self, tenant: Tenant) -> None:
        """A key's own limits stand on its tenant's."""
        after = self.after
        for digest in after.digests.get(tenant.tenant_id, ()):
            key = after.keys[digest]
            if key.limits is not None:
                own = after.own.get(tenant.tenant_id, _NO_LIMITS)
                limits = self._limits_of(tenant.tier, own, after.own[key.key_id])
                if limits != key.limits:
                    after.keys[digest] = replace(key, limits=limits)
                    self.keys.add(digest)

    def _limits_of(self, tier: str, own: str, key: str = _NO_LIMITS) -> Limits:
        """Most tenants have those of many others: they are made once."""
        limits = self._limits.get((tier, own, key))
        if limits is None:
            limits = self.after.tiers[tier].limits.with_changes(read_changes(own)).with_changes(read_changes(key))
            self._limits[tier, own, key] = limits
        return limits

    def _rows(self, table: Table, column: Column[Any], ids: Collection[str] | None) -> Iterator[Row[*tuple[Any, ...]]]:
        query = select(table)
        return iter(self._connection.execute(query if ids is None else query.where(column.in_(ids))))


def _hosts_of(tenant: Tenant | None) -> dict[bytes, bytes]:
    """The tenant's slug by each of its hosts."""
    return {} if tenant is None or not tenant.hosts else {one.encode(): tenant.slug.encode() for one in tenant.hosts}


@lru_cache(OWN_NAMES_MAX)
def _names_of(limits: str) -> frozenset[str]:
    """Which limits are changed; where they are the same ones, it is the same object."""
    return frozenset(read_changes(limits)) if limits != _NO_LIMITS else NO_NAMES


def _shared(known: T | None, made: T) -> T:
    """The one that is known, where it is equal."""
    return known if known is not None and known == made else made


def _forget(held: dict[str, Any], ids: Iterable[str] | None) -> None:
    for one in ids or ():
        held.pop(one, None)


class DirectoryWatch:
    """Tells when the directory has changed since it was last asked, without waiting for anything.

    On SQLite a poll is one pragma on a connection kept for it, some microseconds: `data_version` moves when another
    connection commits. The drain commits all day, so only a moved version of the directory itself counts. PostgreSQL
    is asked by a thread (notices.py), for a server may take its time.
    """

    def __init__(self, engine: Engine) -> None:
        """Raises: the store's own errors."""
        path = path_of_store(engine.url)
        self._file = StoreFile(path) if path is not None else None
        self._data_version: int | None = None
        self._version: int | None = None
        self._sqlite: sqlite3.Connection | None = None
        self._notices: DirectoryNotices | None = None
        if engine.dialect.name == "postgresql":
            self._notices = DirectoryNotices(engine)
            return
        self._connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        driver = self._connection.connection.driver_connection
        if not isinstance(driver, sqlite3.Connection):
            raise TypeError(f"a directory is not followed in {engine.dialect.name}")
        self._sqlite = driver
        self.changed()
        driver.execute("PRAGMA busy_timeout = 0")  # asked on the event loop, which waits for nobody's lock

    def changed(self) -> bool:
        """Raises: StoreReplaced; the store's own errors."""
        if self._notices is not None:
            return self._notices.take()
        if self._file is not None:
            self._file.require()
        if self._sqlite is None:
            return False
        data_version = self._sqlite.execute("PRAGMA data_version").fetchone()[0]
        if data_version == self._data_version:
            return False
        self._data_version = data_version
        version = self._read_version(self._sqlite)
        moved = version != self._version
        self._version = version
        return moved

    def _read_version(self, sqlite: sqlite3.Connection) -> int:
        # Without a statement's compilation, for it is asked on the event loop.
        row = sqlite.execute("SELECT value FROM meta WHERE name = ?", (VERSION_NAME,)).fetchone()
        return int(row[0]) if row is not None else 0

    def forget(self) -> None:
        """Make the next call report a change: what was reported could not be read."""
        if self._notices is not None:
            self._notices.forget()
        self._data_version = self._version = None

    def close(self) -> None:
        if self._notices is not None:
            self._notices.close()
        else:
            self._connection.close()
