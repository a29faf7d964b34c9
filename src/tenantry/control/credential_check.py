"""Does a stored credential work? Asked of its upstream itself, with the one call that costs nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tenantry.certificate_files import BadCertificate, require_authorities
from tenantry.domain.directory import Credential

# The list of models comes at once or not at all.
ANSWER_SECONDS_MAX = 30.0
# A list of models has some kilobytes.
BODY_BYTES_MAX = 4 * 1024 * 1024
_MESSAGE_CHARACTERS_MAX = 300


class Verdict(StrEnum):
    WORKS = "works"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class CredentialCheck:
    """What the upstream said. `found` never holds the secret."""

    verdict: Verdict
    found: str
    milliseconds: int


def check_credential(credential: Credential) -> CredentialCheck:
    """GET /v1/models with the credential, TLS verified. Nothing is forwarded and nothing is booked."""
    started = time.monotonic()
    try:
        status, body = _ask(credential)
        verdict, found = _judge(status, body)
    except BadCertificate as error:
        verdict, found = Verdict.UNREACHABLE, f"whom to trust there (ca_file): {error}"
    except (OSError, http.client.HTTPException) as error:
        verdict, found = Verdict.UNREACHABLE, str(error) or type(error).__name__
    return CredentialCheck(verdict, _printable(found, credential.secret), int((time.monotonic() - started) * 1000))


def _ask(credential: Credential) -> tuple[int, bytes]:
    base = urlsplit(credential.upstream.base_url)
    connection = _connection(credential)
    headers = {"x-api-key": credential.secret, "anthropic-version": "2023-06-01", "accept-encoding": "identity"}
    if credential.workspace_id is not None:
        headers["anthropic-workspace-id"] = credential.workspace_id
    connection.connect()
    # A time-out of a socket counts from byte to byte; this one ends an answer that only drips.
    overall = threading.Timer(ANSWER_SECONDS_MAX, _cut, [connection.sock])
    overall.daemon = True
    overall.start()
    try:
        connection.request("GET", f"{base.path.rstrip('/')}/v1/models?limit=1000", headers=headers)
        connection.sock.settimeout(ANSWER_SECONDS_MAX)
        response = connection.getresponse()
        return response.status, response.read(BODY_BYTES_MAX)
    finally:
        overall.cancel()
        connection.close()


def _connection(credential: Credential) -> http.client.HTTPConnection:
    upstream = credential.upstream
    base = urlsplit(upstream.base_url)
    if base.scheme == "http":
        return http.client.HTTPConnection(base.hostname or "", base.port, timeout=upstream.connect_seconds)
    if upstream.ca_file is not None:
        require_authorities(Path(upstream.ca_file))
    tls = ssl.create_default_context(cafile=upstream.ca_file)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    return http.client.HTTPSConnection(base.hostname or "", base.port, timeout=upstream.connect_seconds, context=tls)


def _cut(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _judge(status: int, body: bytes) -> tuple[Verdict, str]:
    try:
        document: Any = json.loads(body)
    except ValueError:
        document = None
    if status == http.client.OK:
        try:
            return Verdict.WORKS, f"{len([model['id'] for model in document['data']])} models"
        except (KeyError, TypeError):
            return Verdict.UNREACHABLE, "the answer is not a list of models: is this a Messages API?"
    try:
        message = str(document["error"]["message"])
    except (KeyError, TypeError):
        message = "without a message"
    is_its_own_trouble = status >= http.client.INTERNAL_SERVER_ERROR
    return Verdict.UNREACHABLE if is_its_own_trouble else Verdict.REFUSED, f"answered {status}: {message}"


def _printable(text: str, secret: str) -> str:
    """One line for a terminal, whatever the upstream wrote, the secret it may have repeated not among it."""
    line = "".join(letter if letter.isprintable() else " " for letter in text.replace(secret, "[the credential]"))
    return line[:_MESSAGE_CHARACTERS_MAX]
