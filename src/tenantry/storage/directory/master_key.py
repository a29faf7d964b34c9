"""The master key of the site: all that is sealed under it goes over to the next one in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, bindparam, delete, insert, select, update

from tenantry.storage.addresses import is_own_address
from tenantry.storage.custody import secret_context
from tenantry.storage.directory.changes import AddressNotOurs, Changes
from tenantry.storage.in_force import FINGERPRINT_NAME
from tenantry.storage.people_tables import people_totp
from tenantry.storage.sealed_rows import columns_of, sealed_of
from tenantry.storage.tables import alert_targets, credentials, meta, site_secrets, upstreams
from tenantry.storage.vault import MasterKey, SecretUnreadable
from tenantry.storage.versions import NOTHING

# By which the audit log names a rotation.
ROTATED = "master_key.rotate"


class MasterKeyChanges(Changes):
    """The change of the master key."""

    def take_master_key(self, new: MasterKey) -> tuple[str, int]:
        """Wrap every secret under `new`, or none: a database belongs to one key at every moment.

        Secrets stay as they are, and so does what keys are hashed with: nothing is read anew by a gateway, and no
        gateway key becomes unknown. Returns the fingerprint of the key before, and how many secrets there are.

        Raises:
            SecretUnreadable: a secret does not open, and says which.
            AddressNotOurs: somebody else has written an upstream's address.
        """
        with self._engine.begin() as connection:
            old = self._sealing_key(connection)
            if old.key_id == new.key_id:
                return old.key_id, 0
            count = self._rewrap_credentials(connection, new)
            count += self._rewrap(connection, alert_targets, "target_id", "name", "alert target", new)
            count += self._rewrap(connection, people_totp, "person_id", "person_id", "second factor of", new)
            count += self._rewrap(connection, site_secrets, "name", "name", "site secret", new)
            _seal_addresses(connection, old, new)
            connection.execute(delete(meta).where(meta.c.name == FINGERPRINT_NAME))
            connection.execute(insert(meta).values(name=FINGERPRINT_NAME, value=new.key_id))
            detail = {"before": {"fingerprint": old.key_id}, "after": {"fingerprint": new.key_id}, "secrets": count}
            self._record(connection, ROTATED, new.key_id, detail, NOTHING)
        return old.key_id, count

    def _rewrap_credentials(self, connection: Connection, new: MasterKey) -> int:
        query = select(credentials, upstreams.c.base_url).join(upstreams)
        found = (
            (f"credential {row.name!r}", row.credential_id, row.credential_id, row.base_url, row)
            for row in connection.execute(query).all()
        )
        return self._write(connection, credentials, "credential_id", new, found)

    def _rewrap(self, connection: Connection, table: Table, key: str, name: str, what: str, new: MasterKey) -> int:
        found = (
            (
                f"{what} {getattr(row, name)!r}",
                getattr(row, key),
                secret_context(row.name) if table is site_secrets else getattr(row, key),
                "",
                row,
            )
            for row in connection.execute(select(table)).all()
        )
        return self._write(connection, table, key, new, found)

    def _write(
        self,
        connection: Connection,
        table: Table,
        key: str,
        new: MasterKey,
        found: Iterator[tuple[str, str, str, str, Row[*tuple[Any, ...]]]],
    ) -> int:
        """Of each row its name for people, its key, its context, its place and what it has sealed."""
        rows: list[dict[str, Any]] = []
        for what, row_key, context, place, row in found:
            try:
                sealed = self._vault.rewrap(sealed_of(row), context, place, new, place)
            except SecretUnreadable as error:
                raise SecretUnreadable(f"{what}: {error}; nothing was rotated") from None
            rows.append({"row_key": row_key, **{f"new_{name}": one for name, one in columns_of(sealed).items()}})
        _update_all(connection, table, key, rows)
        return len(rows)


def _update_all(connection: Connection, table: Table, key: str, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        values: dict[str, Any] = {
            name: bindparam(f"new_{name}") for name in ("master_key_id", "wrapped_key", "ciphertext")
        }
        connection.execute(update(table).where(table.c[key] == bindparam("row_key")).values(values), rows)


def _seal_addresses(connection: Connection, old: MasterKey, new: MasterKey) -> None:
    for row in connection.execute(select(upstreams)).all():
        if not is_own_address(row, old):
            raise AddressNotOurs(
                f"the address of upstream {row.name!r} in the database, {row.base_url}, was not written by Tenantry: "
                "`tenantry init` puts that of tenantry.toml back. Nothing was rotated"
            )
        seal = new.address_seal_of(row.upstream_id, row.base_url)
        here = upstreams.c.upstream_id == row.upstream_id
        connection.execute(update(upstreams).where(here).values(address_seal=seal))
