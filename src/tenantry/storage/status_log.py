"""What the status page remembers: minutes of each day by what was found, and when something was wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tenantry.domain.values import value
from tenantry.storage.portal_tables import status_days, status_incidents

UP, IMPAIRED, DOWN = "up", "impaired", "down"
DAY_MINUTES: Final = 24 * 60
# What is shown, and a little more.
KEPT_DAYS: Final = 92
# After a longer time in which nobody looked, it was over when it was seen last, and what is wrong then is another.
SAME_MINUTES_MAX: Final = 15


@value
class DayRow:
    """Minutes that were looked at, by what was found."""

    up: int
    impaired: int
    down: int


@value
class Incident:
    """Minutes since 1970. `last_minute`: in which it was seen last. `ended_minute` None: it was not seen to be over."""

    part: str
    worst: str
    began_minute: int
    last_minute: int
    ended_minute: int | None


class StatusLog:
    """Reads and writes the two tables."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def note(self, minute: int, found: Mapping[str, str]) -> None:
        """What was found of each part in a minute since 1970; one that was noted already does not count again.

        A part that is missing is unknown.
        """
        try:
            with self._engine.begin() as connection:
                for part, state in found.items():
                    if _count(connection, minute, part, state):
                        _tell(connection, minute, part, state)
        except IntegrityError:
            return  # another process noted the same minute, and was first

    def read_days(self, since: date) -> dict[tuple[str, str], DayRow]:
        """By day (ISO, UTC) and part."""
        columns = status_days.c
        with self._engine.connect() as connection:
            rows = connection.execute(select(status_days).where(columns.day >= since.isoformat()))
            return {(row.day, row.part): DayRow(row.up, row.impaired, row.down) for row in rows}

    def read_incidents(self, since_minute: int, most: int) -> list[Incident]:
        """The newest first."""
        columns = status_incidents.c
        query = select(status_incidents).where(columns.began_minute >= since_minute)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(columns.began_minute.desc(), columns.incident_id).limit(most))
            return [Incident(row.part, row.worst, row.began_minute, row.last_minute, row.ended_minute) for row in rows]


def day_of(minute: int) -> date:
    return datetime.fromtimestamp(minute * 60, UTC).date()


def _count(connection: Connection, minute: int, part: str, state: str) -> bool:
    """Whether it was the first look in this minute."""
    columns, day = status_days.c, day_of(minute)
    here = (columns.day == day.isoformat()) & (columns.part == part)
    values: dict[str, Any] = {state: columns[state] + 1, "last_minute": minute}
    if connection.execute(update(status_days).where(here, columns.last_minute < minute).values(values)).rowcount:
        return True
    if connection.execute(select(columns.day).where(here)).first() is not None:
        return False
    fresh = dict.fromkeys((UP, IMPAIRED, DOWN), 0) | {state: 1}
    row = {"day": day.isoformat(), "part": part, "last_minute": minute, **fresh}
    connection.execute(insert(status_days).values(row))
    oldest = day - timedelta(days=KEPT_DAYS)
    connection.execute(delete(status_days).where(columns.day < oldest.isoformat()))
    over = status_incidents.c.last_minute < minute - KEPT_DAYS * DAY_MINUTES
    connection.execute(delete(status_incidents).where(over))
    return True


def _tell(connection: Connection, minute: int, part: str, state: str) -> None:
    """The incident that begins, goes on or ends with this look."""
    columns = status_incidents.c
    goes_on = (columns.part == part) & columns.ended_minute.is_(None)
    row = connection.execute(select(status_incidents).where(goes_on)).first()
    is_same = row is not None and minute - row.last_minute <= SAME_MINUTES_MAX
    if row is not None and (state == UP or not is_same):
        here = update(status_incidents).where(columns.incident_id == row.incident_id)
        connection.execute(here.values(ended_minute=minute if is_same else row.last_minute + 1))
    if state == UP:
        return
    if row is not None and is_same:
        worst = DOWN if DOWN in (state, row.worst) else IMPAIRED
        here = update(status_incidents).where(columns.incident_id == row.incident_id)
        connection.execute(here.values(last_minute=minute, worst=worst))
        return
    connection.execute(insert(status_incidents).values(part=part, worst=state, began_minute=minute, last_minute=minute))
