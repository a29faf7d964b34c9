"""The audit log: rows that are only ever added, each holding the hash of the one before.

The hash is plain SHA-256, so that whoever gets an export can check it. The newest hash is also kept sealed under the
master key, so that somebody who can write to the database, and nothing more, cannot compute a chain of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import Connection, Row, Select, insert, select, update

from tenantry.storage.columns import now_utc, utc
from tenantry.storage.in_force import key_in_force
from tenantry.storage.tables import audit_log, meta
from tenantry.storage.vault import SecretUnreadable, Vault

HEAD_NAME = "audit_head"
FIRST_HASH = "0" * 64
# What a row says; the rest of its columns follow from it.
HASHED = ("at", "actor", "origin", "action", "object", "tenant", "detail", "prev_hash")
# Rows read at a time: an audit log may be larger than memory.
READ_ROWS = 1000
# A thousand problems say no more than these.
PROBLEMS_MAX = 20


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit log. `tenant` is a slug or None; `detail` has `before` and `after` of a change."""

    audit_id: int
    at: datetime
    actor: str
    origin: str
    action: str
    subject: str
    tenant: str | None
    detail: Mapping[str, Any]
    prev_hash: str
    row_hash: str

    def as_json(self) -> dict[str, Any]:
        """As JSON values, `before` and `after` beside the rest of the detail."""
        rest = {name: value for name, value in self.detail.items() if name not in ("before", "after", "tenant")}
        return {
            "id": self.audit_id,
            "at": _stamp(self.at),
            "actor": self.actor,
            "origin": self.origin,
            "action": self.action,
            "object": self.subject,
            "tenant": self.tenant,
            "before": self.detail.get("before"),
            "after": self.detail.get("after"),
            "detail": rest,
            "prev_hash": self.prev_hash,
            "row_hash": self.row_hash,
        }


class Chain:
    """The end of the log, locked until the transaction of `connection` ends. What is added stands after `flush`."""

    def __init__(self, connection: Connection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault
        self._head = lock_head(connection).partition(":")[0] or FIRST_HASH
        self._rows: list[dict[str, Any]] = []

    def add(
        self, *, actor: str, origin: str, action: str, subject: str, tenant: str | None, detail: Mapping[str, object]
    ) -> None:
        values: dict[str, Any] = {
            "at": now_utc(),
            "actor": actor,
            "origin": origin,
            "action": action,
            "object": subject,
            "tenant": tenant,
            "detail": json.dumps(detail, ensure_ascii=False, default=str),
            "prev_hash": self._head,
        }
        self._head = values["row_hash"] = hash_of(values)
        self._rows.append(values)

    def flush(self) -> None:
        if self._rows:
            self._connection.execute(insert(audit_log), self._rows)
            _set_head(self._connection, self._vault, self._head)
            self._rows = []


def lock_head(connection: Connection) -> str:
    """The head as it is kept. Until the transaction ends nobody else can append: a chain has no branches."""
    head = meta.c.name == HEAD_NAME
    # A write first: it takes SQLite's write lock, or PostgreSQL's lock on the row, before anything is read.
    touched = connection.execute(update(meta).where(head).values(value=meta.c.value)).rowcount
    if not touched:
        connection.execute(insert(meta).values(name=HEAD_NAME, value=""))
    return connection.execute(select(meta.c.value).where(head)).scalar_one()


def seal_head(connection: Connection, vault: Vault) -> None:
    """Seal the chain that a migration made, which has no master key at hand. A seal that is there stays as it is."""
    row_hash, _, seal = lock_head(connection).partition(":")
    if not seal:
        _set_head(connection, vault, row_hash or FIRST_HASH)


def _set_head(connection: Connection, vault: Vault, row_hash: str) -> None:
    value = f"{row_hash}:{key_in_force(connection, vault).seal_of(row_hash)}"
    connection.execute(update(meta).where(meta.c.name == HEAD_NAME).values(value=value))


def hash_of(values: Mapping[str, Any]) -> str:
    """SHA-256 over what a row says, the hash of the row before it included."""
    said = [_stamp(values[name]) if name == "at" else values[name] for name in HASHED]
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()


def _stamp(at: datetime) -> str:
    return cast("datetime", utc(at)).astimezone(UTC).isoformat(timespec="microseconds")


def read_entry(row: Row[*tuple[Any, ...]]) -> AuditEntry:
    detail: object
    try:
        detail = json.loads(row.detail)
    except ValueError:
        detail = None
    return AuditEntry(
        row.audit_id,
        cast("datetime", utc(row.at)),
        row.actor,
        row.origin,
        row.action,
        row.object,
        row.tenant,
        cast("dict[str, Any]", detail) if isinstance(detail, dict) else {"unreadable": row.detail},
        row.prev_hash,
        row.row_hash,
    )


def list_entries(connection: Connection, tenant: str | None, since: datetime | None) -> Iterator[AuditEntry]:
    """Entries from old to new, those about one tenant, or from a time on."""
    query = select(audit_log).order_by(audit_log.c.audit_id)
    if tenant is not None:
        query = query.where((audit_log.c.tenant == tenant) | (audit_log.c.object == tenant))
    if since is not None:
        query = query.where(audit_log.c.at >= since)
    for row in _stream(connection, query):
        yield read_entry(row)


def newest_entries(
    connection: Connection,
    most: int,
    tenant: str | None,
    actor: str | None,
    action: str | None,
    before: int | None,
    since: datetime | None,
) -> list[AuditEntry]:
    """Entries from new to old: about one tenant, of one actor, of actions that begin so, older than entry `before`, not
    older than `since`.
    """
    query = select(audit_log).order_by(audit_log.c.audit_id.desc()).limit(most)
    if tenant is not None:
        query = query.where((audit_log.c.tenant == tenant) | (audit_log.c.object == tenant))
    if actor is not None:
        query = query.where(audit_log.c.actor == actor)
    if action is not None:
        query = query.where(audit_log.c.action.startswith(action, autoescape=True))
    if before is not None:
        query = query.where(audit_log.c.audit_id < before)
    if since is not None:
        query = query.where(audit_log.c.at >= since)
    return [read_entry(row) for row in connection.execute(query)]


def verify_chain(connection: Connection, vault: Vault) -> tuple[int, list[str]]:
    """How many rows there are, and what is wrong with them."""
    problems: list[str] = []
    expected, count = FIRST_HASH, 0
    for row in _stream(connection, select(audit_log).order_by(audit_log.c.audit_id)):
        count += 1
        if row.prev_hash != expected:
            problems.append(f"row {row.audit_id} does not follow the row before it: one was removed, added or moved")
        if hash_of({name: getattr(row, name) for name in HASHED}) != row.row_hash:
            problems.append(f"row {row.audit_id} was changed after it was written")
        expected = row.row_hash
        if len(problems) >= PROBLEMS_MAX:
            return count, [*problems, "and so on; the rest was not read"]
    kept = connection.execute(select(meta.c.value).where(meta.c.name == HEAD_NAME)).scalar() or ""
    row_hash, _, seal = kept.partition(":")
    if row_hash != expected and (count or row_hash):
        problems.append("the newest rows are missing, or rows were added past the log: the kept head is another")
    if not _is_sealed(connection, vault, row_hash, seal):
        problems.append("the kept head was not sealed under this master key: the chain may have been made anew")
    return count, problems


def _is_sealed(connection: Connection, vault: Vault, row_hash: str, seal: str) -> bool:
    try:
        return key_in_force(connection, vault).is_seal_of(row_hash, seal)
    except SecretUnreadable:  # the database belongs to a key that is not at hand
        return False


def _stream(connection: Connection, query: Select[*tuple[Any, ...]]) -> Iterator[Row[*tuple[Any, ...]]]:
    """Whoever leaves early leaves no cursor open."""
    with connection.execute(query, execution_options={"yield_per": READ_ROWS}) as result:
        yield from result
