"""Alerts that were raised, and the outbox of their deliveries: one row for each alert and target.

An alert and its deliveries are written in one transaction, and the alert's occasion is unique: raising it again, from
any process, changes nothing. A delivery is sent by whoever holds its lease. A sender that dies between sending and
marking leaves a lease that ends by itself; the delivery then goes out again under the same id, by which its receiver
can tell (nothing that crosses a network can be promised exactly once).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, and_, case, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from tenantry.domain.alerts import Alert, AlertKind
from tenantry.storage.columns import new_id
from tenantry.storage.tables import alert_deliveries, alert_targets, alerts

SECOND_US = 1_000_000
# A condition that was away for this long and comes back is told again.
AWAY_US = 300 * SECOND_US
_SEEN_EVERY_US = 30 * SECOND_US
# Several times what a sender may take for one delivery.
LEASE_US = 60 * SECOND_US
BACKOFF_US_MIN = 5 * SECOND_US
# A target that comes back hears within five minutes.
BACKOFF_US_MAX = 300 * SECOND_US
KEPT_US = 7 * 86_400 * SECOND_US

WAITING = "waiting"
SENT = "sent"
GIVEN_UP = "given_up"

_SUBJECT_CHARS_MAX = 160
_OCCASION_CHARS_MAX = 250
_ERROR_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class RaisedAlert:
    """An alert that was raised. `slug` is None for one of the whole site; `sent`, `waiting` and `given_up` count
    deliveries.
    """

    alert_id: int
    raised_at_us: int
    kind: str
    slug: str | None
    subject: str
    message: str
    detail: dict[str, Any]
    sent: int
    waiting: int
    given_up: int


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that somebody has to make."""

    delivery_id: str
    target_id: str
    attempts: int
    alert_id: int
    kind: str
    subject: str
    slug: str | None
    message: str
    detail: str
    raised_at_us: int


class Outbox:
    """The only writer of alerts and deliveries. Times are passed in, as unix microseconds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def raise_alert(self, alert: Alert, at_us: int) -> bool:
        """Write an alert and a delivery for each target that wants it; False when it has been raised before."""
        try:
            with self._engine.begin() as connection:
                occasion = alert.occasion or _occasion_of_condition(connection, alert, at_us)
                if occasion is None or _is_known(connection, occasion[:_OCCASION_CHARS_MAX]):
                    return False
                self._insert(connection, alert, occasion[:_OCCASION_CHARS_MAX], at_us)
        except IntegrityError:  # another process was faster
            return False
        return True

    def _insert(self, connection: Connection, alert: Alert, occasion: str, at_us: int) -> None:
        result = connection.execute(
            insert(alerts).values(
                occasion=occasion,
                kind=alert.kind.value,
                subject=alert.subject[:_SUBJECT_CHARS_MAX],
                tenant_id=alert.tenant_id,
                slug=alert.slug,
                message=alert.message,
                detail=json.dumps(dict(alert.detail), ensure_ascii=False),
                raised_at_us=at_us,
                last_seen_us=at_us,
            )
        )
        key = result.inserted_primary_key
        assert key is not None  # noqa: S101 -- an insert of one row always has one
        for target_id in _targets_of(connection, alert):
            connection.execute(
                insert(alert_deliveries).values(
                    delivery_id=new_id("dlv"),
                    alert_id=key[0],
                    target_id=target_id,
                    status=WAITING,
                    attempts=0,
                    due_at_us=at_us,
                    lease="",
                    leased_until_us=0,
                )
            )

    def list_due(self, at_us: int, but_to: Collection[str] = (), most: int = 200) -> list[Due]:
        """Deliveries whose time has come and that nobody is making, oldest alert first; none to targets `but_to`."""
        query = (
            select(
                alert_deliveries.c.delivery_id,
                alert_deliveries.c.target_id,
                alert_deliveries.c.attempts,
                alerts.c.alert_id,
                alerts.c.kind,
                alerts.c.subject,
                alerts.c.slug,
                alerts.c.message,
                alerts.c.detail,
                alerts.c.raised_at_us,
            )
            .join(alerts, alerts.c.alert_id == alert_deliveries.c.alert_id)
            .where(_is_free(at_us), alert_deliveries.c.target_id.not_in(but_to))
            .order_by(alerts.c.alert_id)
            .limit(most)
        )
        with self._engine.connect() as connection:
            return [Due(*row) for row in connection.execute(query)]

    def lease(self, delivery_id: str, at_us: int) -> str | None:
        """Take a delivery for `LEASE_US`; None when somebody else has, or it has ended."""
        lease = secrets.token_hex(8)
        with self._engine.begin() as connection:
            taken = connection.execute(
                update(alert_deliveries)
                .where(alert_deliveries.c.delivery_id == delivery_id, _is_free(at_us))
                .values(lease=lease, leased_until_us=at_us + LEASE_US, attempts=alert_deliveries.c.attempts + 1)
            )
        return lease if taken.rowcount == 1 else None

    def mark_sent(self, delivery_id: str, lease: str, at_us: int) -> bool:
        """False when the lease was lost meanwhile."""
        return self._end(delivery_id, lease, {"status": SENT, "ended_at_us": at_us, "last_error": None})

    def mark_failed(self, due: Due, lease: str, error: str, at_us: int) -> bool:
        """Try again later, and after a week never again; False when it has been given up.

        What else waits for this target waits as long: it is down, and not this delivery.
        """
        error = error[:_ERROR_CHARS_MAX]
        if at_us - due.raised_at_us > KEPT_US:
            self._end(due.delivery_id, lease, {"status": GIVEN_UP, "ended_at_us": at_us, "last_error": error})
            return False
        again_us = at_us + backoff_us(due.attempts + 1)
        self._end(due.delivery_id, lease, {"due_at_us": again_us, "last_error": error})
        with self._engine.begin() as connection:
            connection.execute(
                update(alert_deliveries)
                .where(
                    alert_deliveries.c.target_id == due.target_id,
                    alert_deliveries.c.status == WAITING,
                    alert_deliveries.c.due_at_us < again_us,
                )
                .values(due_at_us=again_us)
            )
        return True

    def _end(self, delivery_id: str, lease: str, values: dict[str, Any]) -> bool:
        """Let go of a lease that is still held."""
        here = (
            (alert_deliveries.c.delivery_id == delivery_id)
            & (alert_deliveries.c.lease == lease)
            & (alert_deliveries.c.status == WAITING)
        )
        with self._engine.begin() as connection:
            ended = connection.execute(
                update(alert_deliveries).where(here).values(lease="", leased_until_us=0, **values)
            )
        return ended.rowcount == 1

    def list_alerts(self, tenant_id: str | None = None, most: int = 100) -> list[RaisedAlert]:
        """The newest alerts, a tenant's or all, and how far their deliveries are."""
        columns: list[Any] = list(alerts.c)
        columns += [
            func.coalesce(func.sum(case((alert_deliveries.c.status == status, 1), else_=0)), 0).label(status)
            for status in (SENT, WAITING, GIVEN_UP)
        ]
        query = (
            select(*columns)
            .outerjoin(alert_deliveries, alert_deliveries.c.alert_id == alerts.c.alert_id)
            .group_by(*alerts.c)
            .order_by(alerts.c.alert_id.desc())
            .limit(most)
        )
        if tenant_id is not None:
            query = query.where(alerts.c.tenant_id == tenant_id)
        with self._engine.connect() as connection:
            return [_read_alert(row) for row in connection.execute(query)]


def _read_alert(row: Row[*tuple[Any, ...]]) -> RaisedAlert:
    return RaisedAlert(
        row.alert_id,
        row.raised_at_us,
        row.kind,
        row.slug,
        row.subject,
        row.message,
        json.loads(row.detail),
        int(row.sent),
        int(row.waiting),
        int(row.given_up),
    )


def backoff_us(attempts: int) -> int:
    """How long to wait after that many attempts."""
    return min(BACKOFF_US_MAX, BACKOFF_US_MIN << min(attempts - 1, 16))


def _is_free(at_us: int) -> Any:
    """Waiting, due, and leased by nobody. A time further off than any that is ever written is from before a clock
    was set back, and counts as passed.
    """
    due, leased = alert_deliveries.c.due_at_us, alert_deliveries.c.leased_until_us
    return and_(
        alert_deliveries.c.status == WAITING,
        or_(due <= at_us, due > at_us + BACKOFF_US_MAX),
        or_(leased <= at_us, leased > at_us + LEASE_US),
    )


def _is_known(connection: Connection, occasion: str) -> bool:
    return connection.execute(select(alerts.c.alert_id).where(alerts.c.occasion == occasion)).first() is not None


def _occasion_of_condition(connection: Connection, alert: Alert, at_us: int) -> str | None:
    """A new occasion when the condition was away; None, and a note that it was seen, when it was not."""
    subject = alert.subject[:_SUBJECT_CHARS_MAX]
    query = (
        select(alerts.c.alert_id, alerts.c.last_seen_us)
        .where(alerts.c.kind == alert.kind.value, alerts.c.subject == subject)
        .order_by(alerts.c.alert_id.desc())
        .limit(1)
    )
    last = connection.execute(query).first()
    if last is None or at_us - last.last_seen_us > AWAY_US:
        return f"{alert.kind.value}:{subject}:{last.alert_id if last is not None else 0}"
    if abs(at_us - last.last_seen_us) > _SEEN_EVERY_US:
        connection.execute(update(alerts).where(alerts.c.alert_id == last.alert_id).values(last_seen_us=at_us))
    return None


def _targets_of(connection: Connection, alert: Alert) -> list[str]:
    """Targets that want this alert: the agency's, and its own tenant's; of a summary, its reader's alone."""
    rows = connection.execute(select(alert_targets.c.target_id, alert_targets.c.tenant_id, alert_targets.c.kinds))
    return [
        row.target_id
        for row in rows
        if row.tenant_id in ((alert.tenant_id,) if alert.kind is AlertKind.SUMMARY else (None, alert.tenant_id))
        and alert.kind.value in (json.loads(row.kinds) or [alert.kind.value])
    ]
