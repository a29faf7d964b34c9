"""Tasks that control processes run, as each of them can show them. Who runs one renews its lease while it lives."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Engine, Row, delete, select, update

from tenantry.domain.values import value
from tenantry.storage.control_tables import tasks
from tenantry.storage.many import insert_of
from tenantry.storage.server import store_us

# Renewed each second.
LEASE_US: Final = 10_000_000


@value
class TaskRecord:
    """`is_lapsed`: it has not ended, and who ran it says nothing any more."""

    task_id: str
    told: bytes
    is_lapsed: bool


class TaskStore:
    """The rows of tasks. What is told of one is bytes here. All raise SQLAlchemyError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, task_id: str, kind: str, told: bytes, most: int) -> str | None:
        """One begins; or the id of the one of its kind that runs. `most`: so many are kept, the newest."""
        with self._engine.begin() as connection:
            now_us = store_us(connection)
            lapsed = (tasks.c.running_kind == kind) & (tasks.c.lease_until_us < now_us)
            connection.execute(update(tasks).where(lapsed).values(running_kind=None))
            new = insert_of(connection.dialect, tasks).values(
                task_id=task_id, begun_us=now_us, lease_until_us=now_us + LEASE_US, running_kind=kind, told=told
            )
            free = new.on_conflict_do_nothing(index_elements=[tasks.c.running_kind])
            if connection.execute(free.returning(tasks.c.task_id)).first() is None:
                running = select(tasks.c.task_id).where(tasks.c.running_kind == kind)
                return connection.execute(running).scalar() or "?"  # it has ended just now
            newest = select(tasks.c.begun_us).order_by(tasks.c.begun_us.desc()).offset(most - 1).limit(1)
            oldest_us = connection.execute(newest).scalar()
            if oldest_us is not None:
                connection.execute(delete(tasks).where(tasks.c.begun_us < oldest_us))
        return None

    def tell(self, task_id: str, told: bytes, *, has_ended: bool) -> None:
        """How far it is, and that who runs it lives."""
        with self._engine.begin() as connection:
            values: dict[str, Any] = {"told": told, "lease_until_us": store_us(connection) + LEASE_US}
            if has_ended:
                values["running_kind"] = None
            connection.execute(update(tasks).where(tasks.c.task_id == task_id).values(values))

    def find(self, task_id: str) -> TaskRecord | None:
        with self._engine.connect() as connection:
            now_us = store_us(connection)
            row = connection.execute(select(tasks).where(tasks.c.task_id == task_id)).first()
            return _record(row, now_us) if row is not None else None

    def list(self, most: int) -> list[TaskRecord]:
        """The newest first."""
        with self._engine.connect() as connection:
            now_us = store_us(connection)
            rows = connection.execute(select(tasks).order_by(tasks.c.begun_us.desc(), tasks.c.task_id).limit(most))
            return [_record(row, now_us) for row in rows]


def _record(row: Row[Any], now_us: int) -> TaskRecord:
    return TaskRecord(row.task_id, bytes(row.told), int(row.lease_until_us) < now_us)
