"""Gateway keys: issued, rotated, revoked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from tenantry.domain.directory import KeyStatus
from tenantry.domain.keys import digest_key, new_gateway_key
from tenantry.domain.limits import KEY_LIMITS, as_json, exceeds
from tenantry.domain.near import did_you_mean
from tenantry.storage.columns import new_id, now_utc, utc
from tenantry.storage.directory.changes import DirectoryError, NotInDirectory
from tenantry.storage.directory.slots import SlotChanges, require_slot
from tenantry.storage.many import rows_where
from tenantry.storage.records import KeyRecord, read_changes, read_key
from tenantry.storage.tables import gateway_keys, tenants
from tenantry.storage.versions import tenant_touched

# Shorter than any key that a proxy makes, and far too long to be guessed over a network.
TAKEN_CHARS_MIN = 16
# What the column holds.
LABEL_CHARACTERS_MAX = 128


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """`text` is the key itself, known only now."""

    key_id: str
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class WantedKey:
    """A gateway key to be made; see `issue_key`."""

    slug: str
    label: str
    expires_at: datetime | None = None
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    rotate_days: int | None = None
    text: str | None = field(default=None, repr=False)
    slot: str = ""


class KeyChanges(SlotChanges):
    """Changes to gateway keys."""

    def issue_key(
        self,
        slug: str,
        label: str,
        expires_at: datetime | None = None,
        limits: Mapping[str, Any] | None = None,
        *,
        rotate_days: int | None = None,
        text: str | None = None,
        slot: str = "",
    ) -> IssuedKey:
        """A new gateway key, with limits of its own within its tenant's. `limits` has been read by `read_limits`.

        `text` is that of a key from elsewhere, which goes on working here; None makes a new one. `slot`: for that one
        of the tenant alone; it has the slot's limits then, and none of its own.

        Raises:
            NotInDirectory: no such tenant, or no such slot of it.
            DirectoryError: the label is too long, a limit is not for keys or lies above the tenant's, or `text` is a
                key already.
        """
        return self.issue_keys([WantedKey(slug, label, expires_at, limits or {}, rotate_days, text, slot)])[0]

    def issue_keys(self, wanted: Sequence[WantedKey]) -> list[IssuedKey]:
        """Gateway keys in the order in which they are wanted. Raises: as `issue_key`."""
        with self._engine.begin() as connection:
            slugs = list({one.slug for one in wanted})
            owners = {row.slug: row for row in rows_where(connection, tuple(tenants.c), tenants.c.slug, slugs)}
            self._refuse_known(connection, [one.text for one in wanted if one.text is not None])
            issued: list[IssuedKey] = []
            rows: list[dict[str, Any]] = []
            for one in wanted:
                if len(one.label) > LABEL_CHARACTERS_MAX or not one.label.isprintable():
                    raise DirectoryError(f"a label is one line of {LABEL_CHARACTERS_MAX} characters at most")
                tenant = owners.get(one.slug)
                if tenant is None:
                    tenant = self._tenant(connection, one.slug)  # says that there is none
                if one.slot:
                    require_slot(connection, tenant, one.slot)
                self._check_limits(connection, tenant, one.limits, one.slot)
                key = _issued(one.text or new_gateway_key(tenant.slug))
                stored: dict[str, Any] = {
                    "limits": _stored(one.limits),
                    "rotate_days": one.rotate_days,
                    "slot": one.slot,
                }
                issued.append(key)
                rows.append(self._key_row(tenant.tenant_id, key, one.label, one.expires_at, stored))
                self._tell_issued(connection, one, key, tenant.tenant_id)
            if rows:
                connection.execute(insert(gateway_keys), rows)
        return issued

    def _tell_issued(self, connection: Connection, one: WantedKey, key: IssuedKey, tenant_id: str) -> None:
        after = {
            "label": one.label,
            "key": key.hint,
            "expires_at": one.expires_at,
            "limits": {name: as_json(value) for name, value in one.limits.items()},
            "rotate_days": one.rotate_days,
            "taken_over": one.text is not None,
            **({"slot": one.slot} if one.slot else {}),
        }
        detail = {"tenant": one.slug, "before": None, "after": after}
        self._record(connection, "key.issue", key.key_id, detail, tenant_touched(tenant_id))

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
            tenant = self._owner(connection, row.tenant_id)
            stored = {"limits": row.limits, "rotate_days": row.rotate_days, "slot": row.slot}
            key = _issued(new_gateway_key(tenant.slug))
            connection.execute(
                insert(gateway_keys).values(self._key_row(tenant.tenant_id, key, row.label, expires_at, stored))
            )
            stops_at = min(stops_at, expires_at) if expires_at is not None else stops_at
            stands = (gateway_keys.c.status == KeyStatus.ACTIVE.value) & gateway_keys.c.replaced_by.is_(None)
            here = (gateway_keys.c.key_id == key_id) & stands  # looked at above, and maybe changed by somebody since
            values = {"expires_at": stops_at, "replaced_by": key.key_id}
            if not connection.execute(update(gateway_keys).where(here).values(values)).rowcount:
                raise DirectoryError(f"key {key_id} was replaced or revoked just now; look at it again")
            before = {"expires_at": expires_at}
            after = {"expires_at": stops_at, "replaced_by": key.key_id}
            detail = {"tenant": tenant.slug, "before": before, "after": after}
            self._record(connection, "key.rotate", key_id, detail, tenant_touched(tenant.tenant_id))
        return key

    def _check_limits(
        self, connection: Connection, tenant: Row[*tuple[Any, ...]], own: Mapping[str, Any], slot: str
    ) -> None:
        if not own:
            return
        if slot:
            cure = f"`tenantry slots set {tenant.slug} {slot}` says what all of its keys share"
            raise DirectoryError(f"a key of a slot has the slot's limits: {cure}")
        foreign = [name for name in own if name not in KEY_LIMITS]
        if foreign:
            raise DirectoryError(f"{foreign[0]} belongs to a tenant; a key may have {', '.join(KEY_LIMITS)}")
        most = self._tier(connection, tenant.tier).limits.with_changes(read_changes(tenant.limits))
        problems = exceeds(own, most)
        if problems:
            raise DirectoryError("\n".join(problems))

    def _key_row(
        self, tenant_id: str, key: IssuedKey, label: str, expires_at: datetime | None, stored: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {
            "key_id": key.key_id,
            "tenant_id": tenant_id,
            "label": label,
            "digest": digest_key(self._vault.pepper, key.text),
            "hint": key.hint,
            "status": KeyStatus.ACTIVE.value,
            **stored,
            "expires_at": expires_at,
            "created_at": now_utc(),
        }

    def _refuse_known(self, connection: Connection, texts: Sequence[str]) -> None:
        """A key from elsewhere has to be a secret, and can be one key here only."""
        for text in texts:
            if len(text) < TAKEN_CHARS_MIN or not text.isascii() or not text.isprintable() or " " in text:
                raise DirectoryError(f"this is no key to take over: it needs {TAKEN_CHARS_MIN} printable characters")
            if text.startswith("sk-ant-"):
                raise DirectoryError("this is an Anthropic key; clients must not present it. Give them a gateway key")
        digests = [digest_key(self._vault.pepper, text) for text in texts]
        known = rows_where(connection, (gateway_keys.c.key_id,), gateway_keys.c.digest, digests)
        if next(known, None) is not None or len(set(digests)) < len(digests):
            raise DirectoryError("this key text is a key of the gateway already, perhaps one that was revoked")

    def set_key(
        self, key_id: str, expires_at: datetime | None, rotate_days: int | None, limits: Mapping[str, Any]
    ) -> None:
        """Give a key another end, rotation and limits.

        Raises:
            NotInDirectory: no such key.
            DirectoryError: a limit is not for keys, or lies above the tenant's.
        """
        with self._engine.begin() as connection:
            row = self._key(connection, key_id)
            tenant = self._owner(connection, row.tenant_id)
            self._check_limits(connection, tenant, limits, row.slot)
            values: dict[str, Any] = {"expires_at": expires_at, "rotate_days": rotate_days, "limits": _stored(limits)}
            connection.execute(update(gateway_keys).where(gateway_keys.c.key_id == key_id).values(values))
            before = {
                "expires_at": utc(row.expires_at),
                "rotate_days": row.rotate_days,
                "limits": json.loads(row.limits),
            }
            after = values | {"limits": json.loads(values["limits"])}
            detail = {"tenant": tenant.slug, "before": before, "after": after}
            self._record(connection, "key.set", key_id, detail, tenant_touched(tenant.tenant_id))

    def has_key(self, text: str) -> bool:
        """Whether this is a key that works."""
        digest = digest_key(self._vault.pepper, text)
        active = (gateway_keys.c.digest == digest) & (gateway_keys.c.status == KeyStatus.ACTIVE.value)
        with self._engine.connect() as connection:
            return connection.execute(select(gateway_keys.c.key_id).where(active)).first() is not None

    def _owner(self, connection: Connection, tenant_id: str) -> Row[*tuple[Any, ...]]:
        return connection.execute(select(tenants).where(tenants.c.tenant_id == tenant_id)).one()

    def _key(self, connection: Connection, key_id: str) -> Row[*tuple[Any, ...]]:
        row = connection.execute(select(gateway_keys).where(gateway_keys.c.key_id == key_id)).first()
        if row is None:
            raise NotInDirectory(f"there is no key {key_id!r}; {_meant_key(connection, key_id)}")
        return row

    def require_key(self, key_id: str) -> None:
        """Raises: NotInDirectory."""
        with self._engine.connect() as connection:
            self._key(connection, key_id)

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
                detail = {
                    "tenant": self._owner(connection, row.tenant_id).slug,
                    "label": row.label,
                    "before": {"status": row.status},
                    "after": {"status": KeyStatus.REVOKED.value},
                }
                self._record(connection, "key.revoke", key_id, detail, tenant_touched(row.tenant_id))

    def list_keys(self, slug: str | None = None) -> list[KeyRecord]:
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
                gateway_keys.c.rotate_days,
                gateway_keys.c.last_used_at,
                gateway_keys.c.last_used_address,
                gateway_keys.c.last_used_agent,
                gateway_keys.c.slot,
            )
            .join(tenants, tenants.c.tenant_id == gateway_keys.c.tenant_id)
            .order_by(tenants.c.slug, gateway_keys.c.created_at, gateway_keys.c.key_id)
        )
        with self._engine.connect() as connection:
            if slug is not None:
                self._tenant(connection, slug)
                query = query.where(tenants.c.slug == slug)
            return [read_key(row) for row in connection.execute(query)]


def _meant_key(connection: Connection, key_id: str) -> str:
    """The id that was probably meant: a key is known to people by its label, too."""
    rows = connection.execute(select(gateway_keys.c.key_id, gateway_keys.c.label)).all()
    labelled = [row.key_id for row in rows if row.label == key_id]
    if labelled:
        return f"labelled so: {', '.join(labelled)}"
    return did_you_mean(key_id, [row.key_id for row in rows], "`tenantry keys list` names them by id (`key_...`)")


def _issued(text: str) -> IssuedKey:
    return IssuedKey(new_id("key"), text, f"...{text[-4:]}")


def _stored(limits: Mapping[str, Any]) -> str:
    return json.dumps({name: as_json(value) for name, value in limits.items()})
