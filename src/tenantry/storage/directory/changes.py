"""What every change to the directory does: one transaction, a new version, a line in the audit log without secrets."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, Final, Self
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, Engine, Row, select
from sqlalchemy.engine import Dialect

from tenantry.domain.near import did_you_mean
from tenantry.storage import audit
from tenantry.storage.database import Store
from tenantry.storage.in_force import key_in_force
from tenantry.storage.tables import audit_log, tenants
from tenantry.storage.vault import MasterKey, Vault
from tenantry.storage.versions import NOTHING, Touched, directory_version, move_version

UTC: Final = ZoneInfo("UTC")


class DirectoryError(Exception):
    """The directory refuses the change; the message says why and what to do."""


class NotInDirectory(DirectoryError):
    """There is no such object."""


class AlreadyThere(DirectoryError):
    """There is one already."""


class CredentialRefused(DirectoryError):
    """The credential may not be used."""


class AddressNotOurs(DirectoryError):
    """The address of an upstream in the database is not what Tenantry has written there."""


class _Joined:
    """A transaction that is under way, as a store: what begins here joins it, and ends when it ends.

    `chain` and `moves` gather the lines of the audit log, the moves of the version and what they touched until the end.
    """

    def __init__(self, connection: Connection, chain: audit.Chain) -> None:
        self._connection = connection
        self.chain = chain
        self.moves = 0
        self.touched: set[Touched] = set()

    @property
    def dialect(self) -> Dialect:
        return self._connection.dialect

    @contextmanager
    def begin(self) -> Generator[Connection]:
        yield self._connection

    connect = begin


class Changes:
    """Changes on behalf of `actor`, at `origin`, who are named in the audit log."""

    def __init__(
        self, engine: Engine | Store, vault: Vault, actor: str, origin: str = "", zone: ZoneInfo = UTC
    ) -> None:
        self._engine: Store = engine
        self._vault = vault
        self._actor = actor
        self._origin = origin
        self._zone = zone

    def today(self) -> date:
        """The day in the agency's time zone, from which changes of plans count."""
        return datetime.now(self._zone).date()

    def acting_as(self, actor: str, origin: str) -> Self:
        """The same directory, on behalf of somebody else."""
        return type(self)(self._engine, self._vault, actor, origin, self._zone)

    @contextmanager
    def transaction(self) -> Generator[Self]:
        """A directory whose changes take effect together, or not at all when the block raises.

        Nobody else can change the directory while the block runs; two of them come one after the other.
        """
        if isinstance(self._engine, _Joined):
            yield self
            return
        with self._engine.begin() as connection:
            joined = _Joined(connection, audit.Chain(connection, self._vault))
            yield type(self)(joined, self._vault, self._actor, self._origin, self._zone)
            joined.chain.flush()
            if joined.moves:
                move_version(connection, joined.moves, joined.touched)

    def version(self) -> int:
        """Goes up by one with every change."""
        with self._engine.connect() as connection:
            return directory_version(connection)

    def audit(self, action: str, subject: str, detail: Mapping[str, object]) -> None:
        """A line about something that changed nothing, such as an attempt that failed, or a reading."""
        with self._engine.begin() as connection:
            self._audit(connection, action, subject, detail)

    def announce(self, action: str, subject: str, detail: Mapping[str, object]) -> None:
        """A line about something that is kept elsewhere and that gateways are to hear of: it moves the version."""
        with self._engine.begin() as connection:
            self._record(connection, action, subject, detail, NOTHING)

    def seal_audit(self) -> None:
        """Seal the audit log after a migration."""
        with self._engine.begin() as connection:
            audit.seal_head(connection, self._vault)

    def list_audit(self, most: int = 100) -> list[audit.AuditEntry]:
        """The newest lines of the audit log, the newest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(audit_log).order_by(audit_log.c.audit_id.desc()).limit(most))
            return [audit.read_entry(row) for row in rows]

    def newest_audit(
        self,
        most: int,
        tenant: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        before: int | None = None,
        since: datetime | None = None,
    ) -> list[audit.AuditEntry]:
        """As `audit.newest_entries`."""
        with self._engine.connect() as connection:
            return audit.newest_entries(connection, most, tenant, actor, action, before, since)

    def audit_entries(self, tenant: str | None = None, since: datetime | None = None) -> Generator[audit.AuditEntry]:
        """The audit log from old to new."""
        with self._engine.connect() as connection:
            yield from audit.list_entries(connection, tenant, since)

    def verify_audit(self) -> tuple[int, list[str]]:
        """How many lines the audit log has, and what is wrong with it."""
        with self._engine.connect() as connection:
            return audit.verify_chain(connection, self._vault)

    def _sealing_key(self, connection: Connection) -> MasterKey:
        """The master key in force, which is not rotated until this transaction ends."""
        audit.lock_head(connection)
        return key_in_force(connection, self._vault)

    def _tenant(self, connection: Connection, slug: str) -> Row[*tuple[Any, ...]]:
        row = connection.execute(select(tenants).where(tenants.c.slug == slug)).first()
        if row is None:
            slugs = connection.execute(select(tenants.c.slug)).scalars()
            meant = did_you_mean(slug, slugs, "`tenantry tenants list` names them")
            raise NotInDirectory(f"there is no tenant {slug!r}; {meant}")
        return row

    def _record(
        self,
        connection: Connection,
        action: str,
        subject: str,
        detail: Mapping[str, object],
        touched: Collection[Touched],
    ) -> None:
        """Move the version, and log. A change says `before` and `after` in `detail`, and `tenant` where it has one.

        `touched` is what a gateway has to read again.
        """
        self._audit(connection, action, subject, detail)
        if isinstance(self._engine, _Joined):
            self._engine.moves += 1
            self._engine.touched.update(touched)
        else:
            move_version(connection, 1, touched)

    def _audit(self, connection: Connection, action: str, subject: str, detail: Mapping[str, object]) -> None:
        about = subject if action.startswith(_ABOUT_TENANTS) else None
        tenant = detail.get("tenant", about)
        joined = self._engine if isinstance(self._engine, _Joined) else None
        chain = joined.chain if joined is not None else audit.Chain(connection, self._vault)
        chain.add(
            actor=self._actor,
            origin=self._origin,
            action=action,
            subject=subject,
            tenant=str(tenant) if tenant is not None else None,
            detail=detail,
        )
        if joined is None:
            chain.flush()


def refuse_used(connection: Connection, where: ColumnElement[bool], what: str) -> None:
    """Raises: DirectoryError: a tenant has what is to go."""
    users = connection.execute(select(tenants.c.slug).where(where).order_by(tenants.c.slug)).scalars().all()
    if users:
        raise DirectoryError(f"{what} is in use by {', '.join(users)}")


# Actions whose object is a tenant's slug.
_ABOUT_TENANTS = (
    "tenant.",
    "provision.",
    "read.",
    "budget.",
    "alerts.thresholds",
    "credential.bind",
    "credential.release",
)
