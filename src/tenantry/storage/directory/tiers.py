"""Tiers: named sets of limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from tenantry.domain.directory import KeyStatus, Tier
from tenantry.domain.keys import is_slug
from tenantry.domain.limits import SHIPPED_SESSIONS, Limits, as_json, exceeds, first_limits
from tenantry.domain.near import did_you_mean
from tenantry.storage.columns import now_utc
from tenantry.storage.directory.changes import Changes, DirectoryError, NotInDirectory
from tenantry.storage.records import read_changes, read_tier
from tenantry.storage.tables import gateway_keys, tenants, tiers
from tenantry.storage.versions import tier_touched


class TierChanges(Changes):
    """Changes to tiers."""

    def seed_tiers(self) -> None:
        """The tiers that ship. One that is there stays as it is."""
        with self._engine.begin() as connection:
            known = set(connection.execute(select(tiers.c.name)).scalars())
            for name in SHIPPED_SESSIONS:
                if name not in known:
                    limits = first_limits(name)
                    self._insert(connection, name, limits)
                    detail = {"before": None, "after": limits.as_json()}
                    self._record(connection, "tier.add", name, detail, tier_touched(name))

    def set_tier(self, name: str, changes: Mapping[str, Any]) -> Tier:
        """Change limits of a tier, or make a new tier from the defaults; what it is then.

        `changes` has been read by `read_limits`.

        Raises:
            DirectoryError: the name is malformed, or a key would have more than its tenant.
        """
        if not is_slug(name):
            raise DirectoryError(f"{name!r} is not a tier's name: use a-z, 0-9 and inner hyphens")
        with self._engine.begin() as connection:
            row = connection.execute(select(tiers).where(tiers.c.name == name)).first()
            before = read_tier(row).limits if row is not None else None
            limits = (before or Limits()).with_changes(changes)
            if row is None:
                self._insert(connection, name, limits)
            else:
                self._check_tenants(connection, name, limits)
                connection.execute(
                    update(tiers).where(tiers.c.name == name).values(limits=json.dumps(limits.as_json()))
                )
            old = {key: as_json(getattr(before, key)) for key in changes} if before is not None else None
            new = {key: as_json(value) for key, value in changes.items()}
            self._record(connection, "tier.set", name, {"before": old, "after": new}, tier_touched(name))
        return Tier(name, limits)

    def get_tier(self, name: str) -> Tier:
        """Raises: NotInDirectory."""
        with self._engine.connect() as connection:
            return self._tier(connection, name)

    def list_tiers(self) -> list[Tier]:
        with self._engine.connect() as connection:
            return [read_tier(row) for row in connection.execute(select(tiers).order_by(tiers.c.name))]

    def _tier(self, connection: Connection, name: str) -> Tier:
        row = connection.execute(select(tiers).where(tiers.c.name == name)).first()
        if row is None:
            names = sorted(connection.execute(select(tiers.c.name)).scalars())
            meant = did_you_mean(name, names, f"there are: {', '.join(names)}")
            raise NotInDirectory(f"there is no tier {name!r}; {meant}")
        return read_tier(row)

    def _check_tenants(self, connection: Connection, tier: str, limits: Limits) -> None:
        """Refuse limits of a tier that a key of one of its tenants would be above. Of most keys nothing is read."""
        owners = select(tenants.c.limits.label("own"), gateway_keys).join(
            tenants, tenants.c.tenant_id == gateway_keys.c.tenant_id
        )
        for row in connection.execute(owners.where(tenants.c.tier == tier, _can_exceed())):
            _check_key(row, limits.with_changes(read_changes(row.own)))

    def _check_keys(self, connection: Connection, tenant_id: str, limits: Limits) -> None:
        """Refuse limits of a tenant that a key of it, one that still works, would be above."""
        keys = select(gateway_keys).where(gateway_keys.c.tenant_id == tenant_id, _can_exceed())
        for row in connection.execute(keys):
            _check_key(row, limits)

    def _insert(self, connection: Connection, name: str, limits: Limits) -> None:
        connection.execute(insert(tiers).values(name=name, limits=json.dumps(limits.as_json()), created_at=now_utc()))


def _can_exceed() -> ColumnElement[bool]:
    """Keys that still work and have limits of their own."""
    works = gateway_keys.c.expires_at.is_(None) | (gateway_keys.c.expires_at > now_utc())
    return works & (gateway_keys.c.status == KeyStatus.ACTIVE.value) & (gateway_keys.c.limits != "{}")


def _check_key(row: Row[*tuple[Any, ...]], limits: Limits) -> None:
    problems = exceeds(read_changes(row.limits), limits)
    if problems:
        raise DirectoryError(f"key {row.key_id} ({row.label}) would have more than its tenant: {problems[0]}")
