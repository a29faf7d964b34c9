"""Delivers alerts: through Apprise to a hundred services, and as signed JSON to a webhook.

A URL of a target and what a library says about it never reach a log, an error or the store: a failure is told in words
of this module.
"""

from __future__ import annotations

import hmac
import http.client
import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import apprise

from tenantry.domain.alerts import AlertKind
from tenantry.ledger.outbox import BACKOFF_US_MIN, SECOND_US, Due, Outbox
from tenantry.storage.changes import StoreChanges
from tenantry.storage.directory import Directory
from tenantry.storage.directory.alert_targets import WEBHOOK, OpenTarget
from tenantry.storage.vault import SecretUnreadable

log = logging.getLogger("tenantry.alerts")

# For a whole delivery. The lease of one is several times as long.
SEND_SECONDS_MAX = 10.0
_CONNECT_SECONDS_MAX = 5.0
# One slow target holds up neither the others nor the stop of the process.
_TARGETS_AT_ONCE = 4
_DELIVERIES_PER_ROUND_MAX = 20

# What was raised is found at once, for the store has changed then; what is to be sent again, some seconds late at most.
LOOK_US = BACKOFF_US_MIN

SIGNATURE_HEADER = "x-tenantry-signature"
DELIVERY_HEADER = "x-tenantry-delivery"


@dataclass(frozen=True, slots=True)
class Message:
    """What is delivered. `delivery_id` is the same however often it is sent."""

    delivery_id: str
    alert_id: int
    kind: str
    tenant: str | None
    subject: str
    message: str
    detail: str
    raised_at_us: int

    @property
    def title(self) -> str:
        return f"Tenantry: {self.kind.replace('_', ' ')}" + (f" ({self.tenant})" if self.tenant else "")

    def body(self) -> bytes:
        """The JSON of a webhook; the same bytes each time."""
        document = {
            "delivery_id": self.delivery_id,
            "alert_id": self.alert_id,
            "kind": self.kind,
            "tenant": self.tenant,
            "subject": self.subject,
            "message": self.message,
            "raised_at": datetime.fromtimestamp(self.raised_at_us // SECOND_US, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "detail": json.loads(self.detail),
        }
        return json.dumps(document, ensure_ascii=False).encode()


# Returns why it failed, in words without a secret; None when the target has taken it.
Send = Callable[[OpenTarget, Message, int], str | None]


def trial_message(at_us: int) -> Message:
    """What `alerts test` sends."""
    words = "this is a test: alerts of this gateway arrive here"
    return Message(f"dlv_test{at_us}", 0, AlertKind.TEST.value, None, "test", words, "{}", at_us)


def send(target: OpenTarget, message: Message, at_us: int) -> str | None:
    """Deliver once, within `SEND_SECONDS_MAX`. `at_us` is the time that is signed."""
    if target.kind == WEBHOOK:
        return _send_webhook(target, message, at_us // SECOND_US)
    return _send_apprise(target, message)


def signature(secret: str, at_seconds: int, body: bytes) -> str:
    """The value of `x-tenantry-signature`: the time, and HMAC-SHA256 over the time, a dot and the body."""
    digest = hmac.digest(secret.encode(), b"%d.%b" % (at_seconds, body), "sha256").hex()
    return f"t={at_seconds},v1={digest}"


def _send_webhook(target: OpenTarget, message: Message, at_seconds: int) -> str | None:
    body = message.body()
    headers = {
        "content-type": "application/json",
        "user-agent": "tenantry",
        DELIVERY_HEADER: message.delivery_id,
        SIGNATURE_HEADER: signature(target.secret, at_seconds, body),
    }
    parts = urlsplit(target.url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = _connection(parts.scheme, parts.hostname or "", parts.port)
    try:
        connection.connect()
        # Timeouts of a socket are for each read; this one is for all of them.
        watchdog = threading.Timer(SEND_SECONDS_MAX - _CONNECT_SECONDS_MAX, _cut, [connection.sock])
        watchdog.daemon = True
        watchdog.start()
        try:
            connection.request("POST", path, body, headers)
            status = connection.getresponse().status
        finally:
            watchdog.cancel()
    except ssl.SSLError:
        return "its certificate or TLS was refused"
    except TimeoutError:
        return "no answer in time"
    except OSError:
        return "it cannot be reached, or broke off"
    except (http.client.HTTPException, ValueError):
        return "its answer was not HTTP, or came too slowly"
    finally:
        connection.close()
    return None if 200 <= status < 300 else f"it answered {status}"


def _connection(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=_CONNECT_SECONDS_MAX, context=context)
    return http.client.HTTPConnection(host, port, timeout=_CONNECT_SECONDS_MAX)


def _cut(connected: socket.socket | None) -> None:
    try:
        if connected is not None:
            connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended meanwhile


def _send_apprise(target: OpenTarget, message: Message) -> str | None:
    opened = _open_apprise(target.url)
    if opened is None:
        return "its URL is not one that Apprise knows"
    try:
        words = f"{message.message}\n(alert {message.alert_id})"
        taken = opened.notify(title=message.title, body=words, timeout=SEND_SECONDS_MAX)
    except Exception:  # noqa: BLE001 -- a plug-in may raise anything, and its text may hold the URL
        return "the service's plug-in failed"
    return None if taken else "the service did not take it"


def _open_apprise(url: str) -> Any:
    """The one service that a URL names, or None."""
    _hush_libraries()
    asset = apprise.AppriseAsset(
        secure_logging=True, storage_mode=apprise.PersistentStoreMode.MEMORY, service_timeout=SEND_SECONDS_MAX
    )
    asset.app_id = "Tenantry"
    # Its types are partly unknown.
    library: Any = apprise.Apprise
    service = library.instantiate(url, asset=asset)
    if service is None:
        return None
    opened = library(asset=asset)
    opened.add(service)
    return opened


def is_apprise_url(url: str) -> bool:
    """Whether Apprise knows a service of that kind, and its URL is whole."""
    return _open_apprise(url) is not None


def _hush_libraries() -> None:
    """At any level, Apprise and what it is built on log URLs with the secrets in them."""
    for name in ("apprise", "urllib3", "requests"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


class Courier:
    """Makes the deliveries that are due. Several may run, in several processes: each delivery is one's at a time."""

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
        self._stopping = False

    def stop(self) -> None:
        """End after the delivery that is being made."""
        self._stopping = True

    def step(self) -> int:
        """One round; the number of deliveries that were taken."""
        at_us = self._clock()
        has_news = self._changes is None or self._changes.may_have()
        if not has_news and self._look_at_us - LOOK_US <= at_us < self._look_at_us:
            return 0
        self._look_at_us = 0
        found = self._outbox.list_due(at_us)
        if not found:
            self._look_at_us = at_us + LOOK_US
        by_target: dict[str, list[Due]] = {}
        for due in found:
            by_target.setdefault(due.target_id, []).append(due)
        if not by_target:
            return 0
        with ThreadPoolExecutor(min(_TARGETS_AT_ONCE, len(by_target)), "alerts") as pool:
            return sum(pool.map(self._deliver, by_target.values()))

    def _deliver(self, queue: Sequence[Due]) -> int:
        """To one target, in order, until one fails."""
        sent = 0
        for due in queue[:_DELIVERIES_PER_ROUND_MAX]:
            lease = None if self._stopping else self._outbox.lease(due.delivery_id, self._clock())
            if lease is None:
                continue
            error = self._attempt(due)
            if error is not None:
                if not self._outbox.mark_failed(due, lease, error, self._clock()):
                    log.error("alert %d was not delivered for a week and is given up: %s", due.alert_id, error)
                break
            self._outbox.mark_sent(due.delivery_id, lease, self._clock())
            sent += 1
        return sent

    def _attempt(self, due: Due) -> str | None:
        try:
            target = self._directory.find_open_target(due.target_id)
        except SecretUnreadable:
            return "its URL was sealed under another master key: remove it, and add it again"
        if target is None:
            return "it was removed"
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
