"""Which master key a database belongs to, and the vault that opens it.

The key's fingerprint stands in the database. A database from before that is told by what is sealed in it: its
credentials, its alert targets, the end of its audit log. Under another key no credential opens.

What gateway keys and secrets are hashed with stands in the database too, sealed: so the master key can be rotated, and
every gateway key stays known. A database from before that gets what was derived from its master key then, when it is
opened first; its credentials are bound to the addresses that they go to, as these stand at that moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, insert, inspect, select, update

from tenantry.storage.addresses import bind_to_address
from tenantry.storage.audit import HEAD_NAME, lock_head
from tenantry.storage.columns import now_utc
from tenantry.storage.in_force import FINGERPRINT_NAME
from tenantry.storage.key_files import KeyFiles
from tenantry.storage.schema import require_usable_schema
from tenantry.storage.sealed_rows import columns_of, sealed_of
from tenantry.storage.tables import admin_users, alert_targets, credentials, gateway_keys, meta, site_secrets, upstreams
from tenantry.storage.vault import HashingKeys, MasterKey, MasterKeyUnusable, SecretUnreadable, Vault

_PEPPER, _FINGERPRINT = "pepper", "fingerprint"
# Under another pepper or fingerprint key these would not be known again.
_HASHED = (gateway_keys.c.key_id, admin_users.c.admin_id, credentials.c.credential_id)


class ForeignMasterKey(MasterKeyUnusable):
    """The database belongs to another master key; the message says to which, and what to do."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The master key that a database belongs to, by its fingerprint; by a seal where only that is known."""

    key_id: str | None
    sealed: str = ""
    seal: str = ""

    def is_key_of(self, key: MasterKey) -> bool:
        return self.key_id == key.key_id if self.key_id is not None else key.is_seal_of(self.sealed, self.seal)

    def find_key(self, files: KeyFiles) -> MasterKey:
        """The key among the files of a site: the one in its place, or one that a rotation has left beside it.

        Raises:
            ForeignMasterKey: it is another one.
            MasterKeyUnusable: the key in its place cannot be used.
        """
        placed = files.load()
        if self.is_key_of(placed):
            return placed
        found = files.find(self.key_id) if self.key_id is not None else None
        if found is None:
            raise ForeignMasterKey(
                f"the database belongs to {self}, and the key at hand is {placed.key_id}: no credential opens with it. "
                f"Put the right key in its place (master_key_file, mode 0600), {self.told_where(files)}"
                "or name the right database (store_url)"
            )
        return found

    def find_file(self, files: KeyFiles) -> Path | None:
        """Where the key lies here, if it does: one that was retired, too."""
        return files.path_of(self.key_id) if self.key_id is not None else None

    def told_where(self, files: KeyFiles) -> str:
        """The same, for the middle of a sentence."""
        path = self.find_file(files)
        return f"which is {path}, " if path is not None else ""

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


def require_master_key(engine: Engine, files: KeyFiles) -> MasterKey:
    """The key that the database belongs to. Raises: ForeignMasterKey, MasterKeyUnusable."""
    owner = find_owner(engine)
    while True:
        try:
            return files.load() if owner is None else owner.find_key(files)
        except ForeignMasterKey:
            before, owner = owner, find_owner(engine)
            if owner == before:  # else a rotation came between the two looks
                raise


def note_master_key(engine: Engine, key: MasterKey) -> None:
    """Write the fingerprint into a database that has none yet."""
    with engine.begin() as connection:
        if _value(connection, FINGERPRINT_NAME) is None:
            connection.execute(insert(meta).values(name=FINGERPRINT_NAME, value=key.key_id))


def open_vault(engine: Engine, files: KeyFiles) -> Vault:
    """What opens and seals the secrets of a database, with what it hashes keys with.

    Raises:
        MasterKeyUnusable: the key cannot be used, or the database belongs to another.
        StoreOutdated: the database needs `tenantry init`.
        SecretUnreadable: what the site keeps secret was changed.
    """
    with engine.connect() as connection:
        require_usable_schema(connection)
    master = require_master_key(engine, files)
    with engine.connect() as connection:
        hashing = _read_hashing(connection, Vault(master, None, files.find))
    return Vault(master, hashing or settle_seals(engine, Vault(master)), files.find)


def settle_seals(engine: Engine, vault: Vault) -> HashingKeys:
    """What a database has to have sealed since version 0011 of its schema, written once, by whoever opens it first.

    Raises:
        SecretUnreadable: a credential opens neither for its upstream's address nor as earlier versions sealed it; or
            what the site keeps secret was there, and somebody has removed it.
    """
    with engine.begin() as connection:
        lock_head(connection)
        known = _read_hashing(connection, vault)
        if known is not None:
            return known
        _require_never_settled(connection, vault)
        is_used = any(connection.execute(select(column).limit(1)).first() is not None for column in _HASHED)
        hashing = vault.master.derived_hashing() if is_used else HashingKeys.new()
        for name, value in ((_PEPPER, hashing.pepper), (_FINGERPRINT, hashing.fingerprint)):
            sealed = vault.seal(value.hex(), secret_context(name))
            row = {"name": name, "created_at": now_utc(), **columns_of(sealed)}
            connection.execute(insert(site_secrets).values(row))
        for row in connection.execute(select(upstreams.c.upstream_id, upstreams.c.base_url)).all():
            seal = vault.master.address_seal_of(row.upstream_id, row.base_url)
            here = upstreams.c.upstream_id == row.upstream_id
            connection.execute(update(upstreams).where(here).values(address_seal=seal))
            bind_to_address(connection, vault, vault.master, row.upstream_id, "", row.base_url)
    return hashing


def _require_never_settled(connection: Connection, vault: Vault) -> None:
    """A credential that is sealed for an address was so after that: whoever removes what is kept secret cannot have
    this done again, with addresses of his own. Raises: SecretUnreadable.
    """
    query = select(credentials, upstreams.c.base_url).join(upstreams)
    for row in connection.execute(query).all():
        if vault.is_for(sealed_of(row), row.credential_id, row.base_url):
            raise SecretUnreadable(
                "what gateway keys are hashed with was removed from the database by somebody other than Tenantry, and "
                "no key is known without it: restore a backup, and find out who writes to the database"
            )


def _read_hashing(connection: Connection, vault: Vault) -> HashingKeys | None:
    found = {
        row.name: bytes.fromhex(vault.open(sealed_of(row), secret_context(row.name)))
        for row in connection.execute(select(site_secrets))
    }
    return HashingKeys(found[_PEPPER], found[_FINGERPRINT]) if {_PEPPER, _FINGERPRINT} <= found.keys() else None


def secret_context(name: str) -> str:
    return f"site-secret-{name}"


def _value(connection: Connection, name: str) -> str | None:
    return connection.execute(select(meta.c.value).where(meta.c.name == name)).scalar()
