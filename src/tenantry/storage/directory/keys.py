"""Gateway keys: issued, rotated, revoked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from tenantry.domain.directory import KeyStatus
from tenantry.domain.keys import digest_key, new_gateway_key
from tenantry.domain.limits import KEY_LIMITS, as_json, exceeds
from tenantry.storage.columns import new_id, now_utc, utc
from tenantry.storage.directory.changes import DirectoryError, NotInDirectory
from tenantry.storage.directory.tiers import TierChanges
from tenantry.storage.snapshot import read_changes
from tenantry.storage.tables import gateway_keys, tenants

# What the column holds.
LABEL_CHARACTERS_MAX = 128


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """`text` is the key itself, known only now."""

    key_id: str
    text: str
    hint: str


class KeyChanges(TierChanges):
    """Changes to gateway keys."""

    def issue_key(
        self,
        slug: str,
        label: str,
        expires_at: datetime | None = None,
        limits: Mapping[str, Any] | None = None,
    ) -> IssuedKey:
        """A new gateway key, with limits of its own within its tenant's. `limits` has been read by `read_limits`.

        Raises:
            NotInDirectory: no such tenant.
            DirectoryError: the label is too long, or a limit is not for keys or lies above the tenant's.
        """
        if len(label) > LABEL_CHARACTERS_MAX or not label.isprintable():
            raise DirectoryError(f"a label is one line of {LABEL_CHARACTERS_MAX} characters at most")
        with self._engine.begin() as connection:
            tenant = self._tenant(connection, slug)
            self._check_limits(connection, tenant, limits or {})
            key = self._insert_key(connection, slug, tenant.tenant_id, label, expires_at, _stored(limits or {}))
            self._record(connection, "key.issue", key.key_id, {"tenant": slug, "label": label})
        return key

    def rotate_key(self, key_id: str, stops_at: datetime) -> IssuedKey:
        """A new key in the place of an old one, which goes on until `stops_at`.

        Raises:
            NotInDirectory: no such key.
            DirectoryError: it does not work any more, or has been replaced already.
        """
        with self._engine.begin() as connection:
            row = self._key(connection, key_id)
            expires_at = utc(row.expires_at)
            if row.status != KeyStatus.ACTIVE.value or (expires_at is not None and expires_at <= now_utc()):
                raise DirectoryError(f"key {key_id} does not work any more; issue another with `tenantry keys issue`")
            if row.replaced_by is not None:
                raise DirectoryError(f"key {key_id} is being replaced by {row.replaced_by} already; rotate that one")
            slug = connection.execute(select(tenants.c.slug).where(tenants.c.tenant_id == row.tenant_id)).scalar_one()
            key = self._insert_key(connection, slug, row.tenant_id, row.label, expires_at, row.limits)
            stops_at = min(stops_at, expires_at) if expires_at is not None else stops_at
            connection.execute(
                update(gateway_keys)
                .where(gateway_keys.c.key_id == key_id)
                .values(expires_at=stops_at, replaced_by=key.key_id)
            )
            detail = {"tenant": slug, "new": key.key_id, "stops_at": stops_at.isoformat()}
            self._record(connection, "key.rotate", key_id, detail)
        return key

    def _check_limits(self, connection: Connection, tenant: Row[*tuple[Any, ...]], own: Mapping[str, Any]) -> None:
        foreign = [name for name in own if name not in KEY_LIMITS]
        if foreign:
            raise DirectoryError(f"{foreign[0]} belongs to a tenant; a key may have {', '.join(KEY_LIMITS)}")
        most = self._tier(connection, tenant.tier).limits.with_changes(read_changes(tenant.limits))
        problems = exceeds(own, most)
        if problems:
            raise DirectoryError("\n".join(problems))

    def _insert_key(
        self,
        connection: Connection,
        slug: str,
        tenant_id: str,
        label: str,
        expires_at: datetime | None,
        limits: str,
    ) -> IssuedKey:
        text = new_gateway_key(slug)
        key = IssuedKey(new_id("key"), text, f"...{text[-4:]}")
        connection.execute(
            insert(gateway_keys).values(
                key_id=key.key_id,
                tenant_id=tenant_id,
                label=label,
                digest=digest_key(self._vault.pepper, text),
                hint=key.hint,
                status=KeyStatus.ACTIVE.value,
                limits=limits,
                expires_at=expires_at,
                created_at=now_utc(),
            )
        )
        return key

    def _key(self, connection: Connection, key_id: str) -> Row[*tuple[Any, ...]]:
        row = connection.execute(select(gateway_keys).where(gateway_keys.c.key_id == key_id)).first()
        if row is None:
            raise NotInDirectory(f"there is no key {key_id!r}; `tenantry keys list` names them by id (`key_...`)")
        return row

    def revoke_key(self, key_id: str) -> None:
        """Raises: NotInDirectory."""
        with self._engine.begin() as connection:
            row = self._key(connection, key_id)
            if row.status != KeyStatus.REVOKED.value:
                connection.execute(
                    update(gateway_keys)
                    .where(gateway_keys.c.key_id == key_id)
                    .values(status=KeyStatus.REVOKED.value, revoked_at=now_utc())
                )
                self._record(connection, "key.revoke", key_id, {})

    def list_keys(self, slug: str | None = None) -> Sequence[Row[*tuple[Any, ...]]]:
        """Raises: NotInDirectory."""
        query = (
            select(
                gateway_keys.c.key_id,
                tenants.c.slug,
                gateway_keys.c.label,
                gateway_keys.c.hint,
                gateway_keys.c.status,
                gateway_keys.c.expires_at,
                gateway_keys.c.created_at,
                gateway_keys.c.revoked_at,
                gateway_keys.c.limits,
                gateway_keys.c.replaced_by,
                gateway_keys.c.last_used_at,
                gateway_keys.c.last_used_address,
                gateway_keys.c.last_used_agent,
            )
            .join(tenants, tenants.c.tenant_id == gateway_keys.c.tenant_id)
            .order_by(tenants.c.slug, gateway_keys.c.created_at)
        )
        with self._engine.connect() as connection:
            if slug is not None:
                self._tenant(connection, slug)
                query = query.where(tenants.c.slug == slug)
            return list(connection.execute(query))


def _stored(limits: Mapping[str, Any]) -> str:
    return json.dumps({name: as_json(value) for name, value in limits.items()})
