"""Tiers: named sets of limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select, update

from tenantry.domain.directory import KeyStatus, Tier
from tenantry.domain.keys import is_slug
from tenantry.domain.limits import Limits, as_json, exceeds
from tenantry.storage.columns import now_utc
from tenantry.storage.directory.changes import Changes, DirectoryError, NotInDirectory
from tenantry.storage.snapshot import read_changes, read_tier
from tenantry.storage.tables import gateway_keys, tenants, tiers

_SHIPPED = {"standard": 5, "premium": 15, "enterprise": 50}


class TierChanges(Changes):
    """Changes to tiers."""

    def seed_tiers(self) -> None:
        """The tiers that ship. One that is there stays as it is."""
        with self._engine.begin() as connection:
            known = set(connection.execute(select(tiers.c.name)).scalars())
            for name, sessions_max in _SHIPPED.items():
                if name not in known:
                    self._insert(connection, name, Limits(sessions_max=sessions_max))

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
            limits = (read_tier(row).limits if row is not None else Limits()).with_changes(changes)
            if row is None:
                self._insert(connection, name, limits)
            else:
                self._check_tenants(connection, name, limits)
                connection.execute(
                    update(tiers).where(tiers.c.name == name).values(limits=json.dumps(limits.as_json()))
                )
            self._record(connection, "tier.set", name, {key: as_json(value) for key, value in changes.items()})
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
            raise NotInDirectory(f"there is no tier {name!r}; there are: {', '.join(names)}")
        return read_tier(row)

    def _check_tenants(self, connection: Connection, tier: str, limits: Limits) -> None:
        for row in connection.execute(select(tenants).where(tenants.c.tier == tier)):
            self._check_keys(connection, row.tenant_id, limits.with_changes(read_changes(row.limits)))

    def _check_keys(self, connection: Connection, tenant_id: str, limits: Limits) -> None:
        """Refuse limits of a tenant that a key of it, one that still works, would be above."""
        works = gateway_keys.c.expires_at.is_(None) | (gateway_keys.c.expires_at > now_utc())
        active = gateway_keys.c.status == KeyStatus.ACTIVE.value
        keys = select(gateway_keys).where(gateway_keys.c.tenant_id == tenant_id, active, works)
        for key in connection.execute(keys):
            problems = exceeds(read_changes(key.limits), limits)
            if problems:
                raise DirectoryError(f"key {key.key_id} ({key.label}) would have more than its tenant: {problems[0]}")

    def _insert(self, connection: Connection, name: str, limits: Limits) -> None:
        connection.execute(insert(tiers).values(name=name, limits=json.dumps(limits.as_json()), created_at=now_utc()))
