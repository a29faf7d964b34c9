"""Sends an alert: through Apprise to a hundred services, and as signed JSON to a webhook.

A URL of a target and what a library says about it never reach a log, an error or the store: a failure is told in words
of this module.
"""

from __future__ import annotations

import hmac
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from tenantry.control.apprise_send import send_apprise
from tenantry.domain.alerts import AlertKind
from tenantry.ledger.outbox import SECOND_US
from tenantry.storage.directory.alert_targets import WEBHOOK, OpenTarget

# For a whole delivery. The lease of one is several times as long.
SEND_SECONDS_MAX = 10.0
# For all addresses of a name together.
_CONNECT_SECONDS_MAX = 5.0

SIGNATURE_HEADER = "x-tenantry-signature"
# What a summary's detail has for people beside its figures.
_RENDERED = ("html", "text")
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
            "detail": {name: value for name, value in json.loads(self.detail).items() if name not in _RENDERED},
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
    if message.kind == AlertKind.SUMMARY:
        page = json.loads(message.detail)
        return send_apprise(target.url, message.message, page["text"], SEND_SECONDS_MAX, page["html"])
    words = f"{message.message}\n(alert {message.alert_id})"
    return send_apprise(target.url, message.title, words, SEND_SECONDS_MAX)


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
    is_tls = parts.scheme == "https"
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or (443 if is_tls else 80))
    try:
        connection.sock = _dial(connection.host, connection.port)
        # Timeouts of a socket are for each read; this one is for all of them.
        watchdog = threading.Timer(SEND_SECONDS_MAX - _CONNECT_SECONDS_MAX, _cut, [connection])
        watchdog.daemon = True
        watchdog.start()
        try:
            if is_tls:
                _begin_tls(connection)
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


def _dial(host: str, port: int) -> socket.socket:
    """A connection to the first address that takes one. Raises: OSError."""
    deadline = time.monotonic() + _CONNECT_SECONDS_MAX
    refused: OSError = TimeoutError()
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        tried = socket.socket(family, kind, protocol)
        try:
            tried.settimeout(left)
            tried.connect(address)
        except OSError as error:
            tried.close()
            refused = error
            continue
        tried.settimeout(_CONNECT_SECONDS_MAX)
        return tried
    raise refused


def _begin_tls(connection: http.client.HTTPConnection) -> None:
    """Raises: OSError, of which ssl.SSLError is one."""
    context = ssl.create_default_context()
    # Known to who cuts the connection before it says a word.
    secured = context.wrap_socket(connection.sock, server_hostname=connection.host, do_handshake_on_connect=False)
    connection.sock = secured
    secured.do_handshake()


def _cut(connection: http.client.HTTPConnection) -> None:
    try:
        connected: socket.socket | None = connection.sock
        if connected is not None:
            connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended meanwhile
