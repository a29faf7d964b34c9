"""Makes the deliveries that are due: each target has a worker of its own, so that none waits for another's."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from tenantry.control.alerting import Message, Send, send
from tenantry.ledger.outbox import BACKOFF_US_MIN, LEASE_US, Due, Outbox
from tenantry.storage.changes import StoreChanges
from tenantry.storage.directory import Directory
from tenantry.storage.leases import machine_us
from tenantry.storage.vault import SecretUnreadable

log = logging.getLogger("tenantry.alerts")

# Then what else waits for the target is looked up again.
_DELIVERIES_AT_ONCE_MAX = 20
# A worker that had nothing to do for as long ends; another is made when its target is due again.
_IDLE_SECONDS_MAX = 600.0

# What was raised is found at once, for the store has changed then; what is to be sent again, some seconds late at most.
LOOK_US = BACKOFF_US_MIN

# A process that was stopped after it took a lease sends nothing once another may have: by its own clock, suspends
# counted, and so early that a delivery that begins ends within the lease.
BEGIN_US_MAX = LEASE_US // 2
_TOO_LATE = "its lease may be another's by now"

Deliver = Callable[[Sequence[Due]], None]


class _Worker:
    """The deliveries to one target, one after the other, in a thread that lasts."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._work: SimpleQueue[Sequence[Due] | None] = SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self.idle_since = 0.0
        threading.Thread(target=self._run, name="alerts", daemon=True).start()

    @property
    def is_busy(self) -> bool:
        return not self._idle.is_set()

    def give(self, found: Sequence[Due]) -> None:
        """Only while it is not busy."""
        self._idle.clear()
        self._work.put(found)

    def end(self) -> None:
        self._work.put(None)

    def wait(self, seconds: float) -> bool:
        """Whether it has nothing to do, within that time."""
        return self._idle.wait(max(seconds, 0.0))

    def _run(self) -> None:
        while (found := self._work.get()) is not None:
            try:
                self._deliver(found)
            except Exception as error:  # noqa: BLE001 -- fails closed: nothing is marked as sent, and the lease ends by itself
                log.error("an alert could not be delivered, trying again: %s", type(error).__name__)
            finally:
                self.idle_since = time.monotonic()
                self._idle.set()


class Courier:
    """Hands out deliveries that are due. Several may run, in several processes: each delivery is one's at a time."""

    def __init__(
        self,
        outbox: Outbox,
        directory: Directory,
        clock: Callable[[], int],
        sender: Send = send,
        changes: StoreChanges | None = None,
    ) -> None:
        self._outbox = outbox
        self._directory = directory
        self._clock = clock
        self._send = sender
        self._changes = changes
        self._look_at_us = 0  # at the latest; 0: at once
        self._has_news = True
        self._stopping = False
        self._workers: dict[str, _Worker] = {}

    def stop(self) -> None:
        """Begin no delivery any more."""
        self._stopping = True

    def wait(self, seconds: float) -> bool:
        """Whether every delivery that was handed out has ended, within that time."""
        deadline = time.monotonic() + seconds
        return all(worker.wait(deadline - time.monotonic()) for worker in self._workers.values())

    def is_due(self) -> bool:
        """Whether the store may have changed, or the time for the next look has come."""
        self._has_news |= self._changes is None or self._changes.may_have()
        return self._has_news or not self._look_at_us - LOOK_US <= self._clock() < self._look_at_us

    def step(self) -> int:
        """Hand out what is due, and wait for none of it; the number of deliveries that were handed out."""
        if not self.is_due():
            return 0
        at_us = self._clock()
        self._end_idle()
        busy = [target_id for target_id, worker in self._workers.items() if worker.is_busy]
        found = self._outbox.list_due(at_us, busy)
        self._has_news = False
        # While somebody is busy, nobody tells when he is done.
        self._look_at_us = 0 if found or busy else at_us + LOOK_US
        by_target: dict[str, list[Due]] = {}
        for due in found:
            by_target.setdefault(due.target_id, []).append(due)
        for target_id, queue in by_target.items():
            worker = self._workers.get(target_id)
            if worker is None:
                worker = self._workers[target_id] = _Worker(self._deliver)
            worker.give(queue[:_DELIVERIES_AT_ONCE_MAX])
        return sum(min(len(queue), _DELIVERIES_AT_ONCE_MAX) for queue in by_target.values())

    def _end_idle(self) -> None:
        until = time.monotonic() - _IDLE_SECONDS_MAX
        for target_id, worker in list(self._workers.items()):
            if not worker.is_busy and worker.idle_since < until:
                worker.end()
                del self._workers[target_id]

    def _deliver(self, queue: Sequence[Due]) -> None:
        """To one target, in order, until one fails."""
        for due in queue:
            before_us = machine_us()
            lease = None if self._stopping else self._outbox.lease(due.delivery_id, self._clock())
            if lease is None:
                continue
            error = self._attempt(due, before_us + BEGIN_US_MAX)
            if error == _TOO_LATE:
                continue
            if error is not None:
                if not self._outbox.mark_failed(due, lease, error, self._clock()):
                    log.error("alert %d was not delivered for a week and is given up: %s", due.alert_id, error)
                break
            self._outbox.mark_sent(due.delivery_id, lease, self._clock())

    def _attempt(self, due: Due, until_us: int) -> str | None:
        try:
            target = self._directory.find_open_target(due.target_id)
        except SecretUnreadable:
            return "its URL was sealed under another master key: remove it, and add it again"
        if target is None:
            return "it was removed"
        if machine_us() > until_us:
            return _TOO_LATE
        error = self._send(target, _message_of(due), self._clock())
        if error is not None:
            log.warning("alert target %s: %s; trying again later", target.name, error)
        return error


def _message_of(due: Due) -> Message:
    return Message(
        due.delivery_id,
        due.alert_id,
        due.kind,
        due.slug,
        due.subject,
        due.message,
        due.detail,
        due.raised_at_us,
    )
