"""Upstreams and admins: what a site is set up with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, insert, select, update

from tenantry.domain.keys import digest_key
from tenantry.domain.limits import as_json
from tenantry.storage.columns import new_id, now_utc
from tenantry.storage.directory.changes import Changes, DirectoryError, NotInDirectory
from tenantry.storage.records import UpstreamRecord, read_upstream_record
from tenantry.storage.tables import admin_users, credentials, upstreams
from tenantry.storage.versions import NOTHING, upstream_touched

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 600.0


class SetUpChanges(Changes):
    """Changes to what a site is set up with."""

    def set_upstream(
        self,
        name: str,
        base_url: str,
        ca_file: str | None = None,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
        capacity: Mapping[str, Any] | None = None,
        shares_capacity: bool = False,
    ) -> str:
        """Make the upstream `name` be this; its id. Nothing is written when it is already.

        `capacity` has been read by `read_limits`; it holds for each credential, or for all of them together when
        `shares_capacity` (one organization).
        """
        values: dict[str, Any] = {
            "base_url": base_url.rstrip("/"),
            "ca_file": ca_file,
            "connect_seconds": connect_seconds,
            "answer_seconds": answer_seconds,
            "capacity": json.dumps({key: as_json(value) for key, value in (capacity or {}).items()}, sort_keys=True),
            "shares_capacity": shares_capacity,
        }
        with self._engine.begin() as connection:
            row = connection.execute(select(upstreams).where(upstreams.c.name == name)).first()
            if row is None:
                upstream_id = new_id("ups")
                connection.execute(
                    insert(upstreams).values(upstream_id=upstream_id, name=name, created_at=now_utc(), **values)
                )
            elif all(getattr(row, column) == value for column, value in values.items()):
                return row.upstream_id
            else:
                upstream_id = row.upstream_id
                connection.execute(update(upstreams).where(upstreams.c.name == name).values(values))
            before = None if row is None else {column: getattr(row, column) for column in values}
            detail = {"before": before, "after": values}
            self._record(connection, "upstream.set", name, detail, upstream_touched(upstream_id))
        return upstream_id

    def remove_upstream(self, name: str) -> None:
        """Forget an upstream.

        Raises:
            NotInDirectory: no such upstream.
            DirectoryError: a credential still belongs to it.
        """
        with self._engine.begin() as connection:
            upstream_id = connection.execute(select(upstreams.c.upstream_id).where(upstreams.c.name == name)).scalar()
            if upstream_id is None:
                raise NotInDirectory(f"there is no upstream {name!r}")
            held = select(credentials.c.name).where(credentials.c.upstream_id == upstream_id).limit(1)
            holder = connection.execute(held).scalar()
            if holder is not None:
                raise DirectoryError(f"credential {holder!r} belongs to upstream {name!r}; move or remove it first")
            connection.execute(delete(upstreams).where(upstreams.c.upstream_id == upstream_id))
            detail = {"before": {"name": name}, "after": None}
            self._record(connection, "upstream.remove", name, detail, upstream_touched(upstream_id))

    def list_upstreams(self) -> list[UpstreamRecord]:
        with self._engine.connect() as connection:
            rows = connection.execute(select(upstreams).order_by(upstreams.c.name))
            return [read_upstream_record(row) for row in rows]

    def add_admin(self, name: str, token: str) -> bool:
        """Store an admin token's digest; False when `name` has one already."""
        with self._engine.begin() as connection:
            if connection.execute(select(admin_users).where(admin_users.c.name == name)).first() is not None:
                return False
            digest = digest_key(self._vault.pepper, token)
            connection.execute(
                insert(admin_users).values(admin_id=new_id("adm"), name=name, token_digest=digest, created_at=now_utc())
            )
            self._record(connection, "admin.add", name, {"before": None, "after": {"name": name}}, NOTHING)
        return True

    def find_admin(self, token: str) -> str | None:
        """The name of the admin whose token this is."""
        digest = digest_key(self._vault.pepper, token)
        with self._engine.connect() as connection:
            return connection.execute(select(admin_users.c.name).where(admin_users.c.token_digest == digest)).scalar()
