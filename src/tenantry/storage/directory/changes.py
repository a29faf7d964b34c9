"""What every change to the directory does: one transaction, a new version, a line in the audit log without secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Row, insert, select, update

from tenantry.storage.columns import now_utc
from tenantry.storage.snapshot import VERSION_NAME, directory_version
from tenantry.storage.tables import audit_log, meta, tenants
from tenantry.storage.vault import Vault


class DirectoryError(Exception):
    """The directory refuses the change; the message says why and what to do."""


class NotInDirectory(DirectoryError):
    """There is no such object."""


class AlreadyThere(DirectoryError):
    """There is one already."""


class CredentialRefused(DirectoryError):
    """The credential may not be used."""


class Changes:
    """Changes on behalf of `actor`, who is named in the audit log."""

    def __init__(self, engine: Engine, vault: Vault, actor: str) -> None:
        self._engine = engine
        self._vault = vault
        self._actor = actor

    def audit(self, action: str, subject: str, detail: Mapping[str, object]) -> None:
        """A line about something that changed nothing, such as an attempt that failed."""
        with self._engine.begin() as connection:
            self._audit(connection, action, subject, detail)

    def list_audit(self, most: int = 100) -> Sequence[Row[*tuple[Any, ...]]]:
        with self._engine.connect() as connection:
            return list(connection.execute(select(audit_log).order_by(audit_log.c.audit_id.desc()).limit(most)))

    def _tenant(self, connection: Connection, slug: str) -> Row[*tuple[Any, ...]]:
        row = connection.execute(select(tenants).where(tenants.c.slug == slug)).first()
        if row is None:
            raise NotInDirectory(f"there is no tenant {slug!r}; `tenantry tenants list` names them")
        return row

    def _record(self, connection: Connection, action: str, subject: str, detail: Mapping[str, object]) -> None:
        version = directory_version(connection) + 1
        if version == 1:
            connection.execute(insert(meta).values(name=VERSION_NAME, value="1"))
        else:
            connection.execute(update(meta).where(meta.c.name == VERSION_NAME).values(value=str(version)))
        self._audit(connection, action, subject, detail)

    def _audit(self, connection: Connection, action: str, subject: str, detail: Mapping[str, object]) -> None:
        connection.execute(
            insert(audit_log).values(
                at=now_utc(),
                actor=self._actor,
                action=action,
                object=subject,
                detail=json.dumps(detail, ensure_ascii=False),
            )
        )
