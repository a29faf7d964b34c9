"""Upstreams: where requests go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from tenantry.domain.limits import as_json
from tenantry.storage.addresses import bind_to_address, is_own_address
from tenantry.storage.columns import new_id, now_utc
from tenantry.storage.directory.changes import Changes, DirectoryError, NotInDirectory
from tenantry.storage.in_force import key_in_force
from tenantry.storage.records import UpstreamRecord, read_upstream_record
from tenantry.storage.tables import credentials, upstreams
from tenantry.storage.versions import upstream_touched

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 600.0


class UpstreamChanges(Changes):
    """Changes to upstreams."""

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

        Its credentials are sealed for its address, and sealed anew when that changes.

        `capacity` has been read by `read_limits`; it holds for each credential, or for all of them together when
        `shares_capacity` (one organization).

        Raises:
            SecretUnreadable: a credential opens for neither the address before nor the new one.
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
            named = select(upstreams).where(upstreams.c.name == name)
            row = connection.execute(named).first()
            if row is not None and self._stands(connection, row, values):
                return row.upstream_id
            key = self._sealing_key(connection)
            row = connection.execute(named).first()  # as it is now that nobody else changes it
            upstream_id = row.upstream_id if row is not None else new_id("ups")
            sealed = values | {"address_seal": key.address_seal_of(upstream_id, values["base_url"])}
            before, after = None, dict(values)
            if row is None:
                added = {"upstream_id": upstream_id, "name": name, "created_at": now_utc(), **sealed}
                connection.execute(insert(upstreams).values(added))
            else:
                before = {column: getattr(row, column) for column in values}
                old, new = row.base_url, values["base_url"]
                after["credentials_sealed_anew"] = bind_to_address(connection, self._vault, key, upstream_id, old, new)
                connection.execute(update(upstreams).where(upstreams.c.name == name).values(sealed))
            self._record(
                connection, "upstream.set", name, {"before": before, "after": after}, upstream_touched(upstream_id)
            )
        return upstream_id

    def _stands(self, connection: Connection, row: Row[*tuple[Any, ...]], values: Mapping[str, Any]) -> bool:
        """Whether an upstream is so already, and its address was written by us."""
        is_ours = is_own_address(row, key_in_force(connection, self._vault))
        return is_ours and all(getattr(row, column) == value for column, value in values.items())

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
