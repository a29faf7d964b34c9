"""The admin API, asked: one connection for a command. A write that lost its answer is asked for again, done once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from tenantry.cli.remote.server import TOKEN_FILE_VARIABLE, TOKEN_VARIABLE, Server

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse
    from pathlib import Path

ROOT: Final = "/api/v1"
# As web/api has it.
PAGE_MAX: Final = 1000
CONNECT_SECONDS_MAX: Final = 10.0
# Provisioning, exports, the invoices of a month: what takes longer is a task.
ANSWER_SECONDS_MAX: Final = 300.0
# A restart of control takes some seconds; what is down for longer is told.
TRIES_MAX: Final = 4
_WAIT_SECONDS: Final = 1.0
_WAIT_SECONDS_MAX: Final = 5.0
_CHUNK_BYTES: Final = 1 << 16
_JSON: Final = "application/json"
_REDIRECTS: Final = range(300, 400)


class ServerFailed(Exception):
    """Control could not be asked, or refused. `status` of what it answered; `problems` where members are to blame."""

    def __init__(self, message: str, status: int | None = None, problems: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problems = problems or []


class NotWritten(Exception):
    """What came cannot be written here; the message says why."""


def read_all(response: HTTPResponse) -> bytes:
    """The body of an answer, in memory."""
    return response.read()


class Api:
    """Control at an address, asked in the name of a token. `sleep` is given seconds."""

    def __init__(self, server: Server, sleep: Callable[[float], None] = time.sleep) -> None:
        self._server, self._sleep = server, sleep
        self._connection: HTTPConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, *path: str, **query: Any) -> Any:
        """What is there, as JSON values. Raises: ServerFailed."""
        return self._decoded(*self._ask("GET", path, query))

    def bytes_of(self, *path: str, **query: Any) -> bytes:
        """A file. Raises: ServerFailed."""
        return self._ask("GET", path, query)[1]

    def save(self, file: IO[bytes], *path: str, **query: Any) -> None:
        """A file of any size, into this one from its beginning. Raises: ServerFailed, NotWritten."""
        self._ask("GET", path, query, take=lambda response: _copied(response, file))

    def items(self, *path: str, most: int | None = None, **query: Any) -> list[dict[str, Any]]:
        """All of a list, page by page, or the first `most`. Raises: ServerFailed."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            limit = PAGE_MAX if most is None else min(PAGE_MAX, most - len(found))
            page = self.get(*path, **query, limit=limit, cursor=cursor)
            found += page["data"]
            cursor = page["next"]
            if cursor is None or len(found) == most:
                return found

    def find(self, *path: str, **query: Any) -> Any:
        """What is there, as JSON values; None where there is nothing. Raises: ServerFailed."""
        try:
            return self.get(*path, **query)
        except ServerFailed as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return None

    def wait(self, seconds: float) -> None:
        """Before something is asked again."""
        self._sleep(seconds)

    def write(self, method: str, *path: str, body: object = None, **query: Any) -> Any:
        """Change something, once. Raises: ServerFailed."""
        raw = json.dumps({} if body is None else body).encode() if method != "DELETE" else b""
        return self._decoded(*self._ask(method, path, query, raw))

    def send(self, *path: str, data: bytes, media: str, match: str | None = None, **query: Any) -> Any:
        """Post what is no JSON. `match`: the ETag of what was seen. Raises: ServerFailed."""
        fields = {"if-match": f'"{match}"'} if match is not None else {}
        return self._decoded(*self._ask("POST", path, query, data, fields | {"content-type": media}))

    def _ask(
        self,
        method: str,
        path: tuple[str, ...],
        query: dict[str, Any],
        raw: bytes = b"",
        fields: dict[str, str] | None = None,
        take: Callable[[HTTPResponse], bytes] = read_all,
    ) -> tuple[str, bytes]:
        """The media type and the body of what was answered; of an answer that is no refusal, as `take` reads it."""
        import secrets

        target = _target(self._server.root, path, query)
        told = {"authorization": f"Bearer {self._server.token}", "accept": "*/*"}
        if method != "GET":
            told |= {"idempotency-key": secrets.token_urlsafe(24), "content-type": _JSON}
        return self._tried(method, target, raw, told | (fields or {}), take)

    def _tried(
        self, method: str, target: str, raw: bytes, fields: dict[str, str], take: Callable[[HTTPResponse], bytes]
    ) -> tuple[str, bytes]:
        """Again where no answer came, or it is for later; under the same key, so that nothing is done twice."""
        was_sent = False
        for is_last in [*[False] * (TRIES_MAX - 1), True]:
            try:
                response = self._sent(method, target, raw, fields)
                was_sent = True
                content = take(response) if response.status < HTTPStatus.MULTIPLE_CHOICES else response.read()
            except _Unreachable as error:
                if is_last or not was_sent:
                    raise ServerFailed(_unknown(str(error), method) if was_sent else str(error)) from None
                self._sleep(_WAIT_SECONDS)
                continue
            except _lost() as error:
                was_sent = True
                self.close()
                if is_last:
                    words = f"{self._server.url}: no answer came ({_reason(error)})"
                    raise ServerFailed(_unknown(words, method)) from None
                self._sleep(_WAIT_SECONDS)
                continue
            later = response.headers.get("retry-after", "")
            if response.status in (HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE) and later and not is_last:
                self._sleep(min(float(later) if later.isdigit() else _WAIT_SECONDS, _WAIT_SECONDS_MAX))
                continue
            return self._taken(response, content)
        raise AssertionError("the last try answers or raises")

    def _sent(self, method: str, target: str, raw: bytes, fields: dict[str, str]) -> HTTPResponse:
        connection = self._connection or self._connected()
        self._connection = connection
        connection.request(method, target, raw or None, fields)
        return connection.getresponse()

    def _connected(self) -> HTTPConnection:
        """Raises: _Unreachable, ServerFailed."""
        import http.client
        import socket

        server = self._server
        connection: HTTPConnection
        if server.is_tls:
            connection = http.client.HTTPSConnection(
                server.host, server.port, timeout=CONNECT_SECONDS_MAX, context=_trusting(server.ca_file)
            )
        else:
            connection = http.client.HTTPConnection(server.host, server.port, timeout=CONNECT_SECONDS_MAX)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            if type(error).__name__ == "SSLCertVerificationError":
                why = getattr(error, "verify_message", "") or error
                hint = "--ca-file names the CA of your own, if it is one"
                raise ServerFailed(f"{server.url}: its certificate is not to be trusted: {why}; {hint}") from None
            if isinstance(error, socket.gaierror):
                raise _Unreachable(f"there is no machine {server.host!r}: {error.strerror}") from None
            hint = "is control running, and is this its address?"
            raise _Unreachable(f"{server.url} cannot be reached: {_reason(error)}; {hint}") from None
        connection.sock.settimeout(ANSWER_SECONDS_MAX)
        return connection

    def _taken(self, response: HTTPResponse, content: bytes) -> tuple[str, bytes]:
        """Raises: ServerFailed: what control refused, in plain words."""
        if response.will_close:
            self.close()
        media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        status = response.status
        if status < HTTPStatus.MULTIPLE_CHOICES:
            return media, content
        where = self._server.url
        if status in _REDIRECTS:
            raise ServerFailed(f"{where} points elsewhere ({status}): name the address of control itself", status)
        if media != "application/problem+json":
            raise ServerFailed(f"{where} answered {status}, and not as control does: is this its address?", status)
        problem = json.loads(content)
        detail, problems = str(problem.get("detail", "")), problem.get("errors")
        if status == HTTPStatus.UNAUTHORIZED:
            named = f"{TOKEN_VARIABLE}, {TOKEN_FILE_VARIABLE} or the keyring has to name one that works there"
            raise ServerFailed(f"{where} does not know this admin token: {named}", status)
        if status == HTTPStatus.NOT_FOUND and detail == "Not Found":
            raise ServerFailed(f"control at {where} does not have this: it may be older than this command", status)
        raise ServerFailed(detail or f"{where} answered {status}", status, problems)

    def _decoded(self, media: str, content: bytes) -> Any:
        if not content:
            return None
        if media != _JSON:
            raise ServerFailed(f"{self._server.url} did not answer as control does: is this its address?")
        try:
            return json.loads(content)
        except ValueError:
            raise ServerFailed(f"{self._server.url} answered what is no JSON") from None


def _copied(response: HTTPResponse, file: IO[bytes]) -> bytes:
    """Nothing is left over. Raises: NotWritten; as a connection that breaks."""
    file.seek(0)
    file.truncate()
    while chunk := response.read(_CHUNK_BYTES):
        try:
            file.write(chunk)
        except OSError as error:
            raise NotWritten(error.strerror or str(error)) from None
    if response.length:
        raise ConnectionResetError("it broke off")
    return b""


class _Unreachable(Exception):
    """Nobody took the connection: nothing was sent."""


def _lost() -> tuple[type[Exception], ...]:
    """What a connection that breaks raises."""
    from http.client import HTTPException

    return (OSError, HTTPException)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _unknown(words: str, method: str) -> str:
    return words if method == "GET" else f"{words}; whether it was done is not known: look before you repeat it"


def _trusting(ca_file: Path | None) -> Any:
    """Raises: ServerFailed."""
    import ssl

    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ServerFailed(f"{ca_file}: {_reason(error)}; --ca-file is a file of certificates in PEM") from None


def _target(root: str, path: tuple[str, ...], query: dict[str, Any]) -> str:
    if any(one in ("", ".", "..") for one in path):
        raise ServerFailed("an empty name, or one of dots, names nothing")
    given = {name: one for name, one in query.items() if one is not None}
    words = {name: str(one).lower() if isinstance(one, bool) else str(one) for name, one in given.items()}
    asked = f"?{urlencode(words)}" if words else ""
    return f"{root}{ROOT}/{'/'.join(quote(one, safe='') for one in path)}{asked}"
