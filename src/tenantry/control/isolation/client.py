"""A client of plain sockets, that sends exactly the bytes it is given and reads whatever comes."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from dataclasses import dataclass

from tenantry.control.own_gateway import own_host, own_trust
from tenantry.settings import Settings

# Silence of this length counts as no answer: far above any answer on loopback, on a busy machine, too.
ANSWER_SECONDS_MAX = 30.0
# After a whole answer on a connection that is kept, another one may come that nobody asked for.
STRAY_SECONDS_MAX = 1.0
READ_BYTES = 65536

Fields = list[tuple[bytes, bytes]]

_REQUEST_ID = re.compile(rb"req_[0-9A-Za-z]{8,64}")
_UNEQUAL = (b"date", b"request-id")
# They tell how much of the tenant's own limits is left at that moment.
_MOVING = re.compile(rb"anthropic-ratelimit-.*-(?:remaining|reset)")


class NoAnswer(Exception):
    """The gateway gave no whole HTTP answer; the message says what happened instead."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the gateway listens. `tls` is None for plain HTTP."""

    host: str
    port: int
    tls: ssl.SSLContext | None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    def connect(self) -> socket.socket:
        """Raises: OSError."""
        plain = socket.create_connection((self.host, self.port), timeout=ANSWER_SECONDS_MAX)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return plain if self.tls is None else self.tls.wrap_socket(plain, server_hostname=self.host)


def gateway_address(settings: Settings) -> Address:
    """The gateway of this site, as seen from this machine."""
    return Address(own_host(settings), settings.gateway_port, own_trust(settings))


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, its body decoded. Names are lower case."""

    status: int
    headers: Fields
    body: bytes

    def field(self, name: bytes) -> bytes:
        """The first value of a header field, b"" when it is not there."""
        return next((value for known, value in self.headers if known == name), b"")

    def comparable(self, moving: bool = True) -> bytes:
        """Everything but request id and date as bytes; without `moving`, also without the counters of a rate limit."""
        lines = [b"%d" % self.status]
        for name, value in self.headers:
            if name not in _UNEQUAL and (moving or not _MOVING.fullmatch(name)):
                lines.append(name + b": " + value)
        return _REQUEST_ID.sub(b"req_", b"\n".join(lines) + b"\n\n" + self.body)


def request(method: bytes, target: bytes, lines: list[bytes], body: bytes = b"", host: bytes = b"gateway") -> bytes:
    """A request; `lines` are header lines without their end, sent as they are."""
    head = [method + b" " + target + b" HTTP/1.1", b"host: " + host, *lines]
    if body:
        head += [b"content-type: application/json", b"content-length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def ask(address: Address, data: bytes, method: bytes) -> list[Answer]:
    """Send `data`; every answer that comes until the gateway closes, or is silent on a connection that it keeps.

    Raises:
        NoAnswer: no connection, silence, or something that is not HTTP.
    """
    came = b""
    try:
        with address.connect() as client:
            client.sendall(data)
            with contextlib.suppress(ConnectionResetError):
                while part := client.recv(READ_BYTES):
                    came += part
                    if _is_kept(came, method == b"HEAD"):
                        client.settimeout(STRAY_SECONDS_MAX)
    except TimeoutError:
        if not _is_kept(came, method == b"HEAD"):
            raise NoAnswer(f"silence for {ANSWER_SECONDS_MAX:g} s after {came[:60]!r}") from None
    except OSError as error:
        raise NoAnswer(str(error)) from None
    return _split(came, method == b"HEAD")


def _is_kept(data: bytes, head_only: bool) -> bool:
    """Whether these are whole answers, of which the last says that the connection stays."""
    if b"\r\nconnection: keep-alive\r\n" not in data:
        return False
    last: Answer | None = None
    while data:
        found = take_answer(data, head_only, closed=False)
        if found is None:
            return False
        last, data = found
    return last is not None and last.field(b"connection") == b"keep-alive"


def _split(data: bytes, head_only: bool) -> list[Answer]:
    answers: list[Answer] = []
    while data:
        # Who cannot read a request does not know that it was a HEAD, and closes behind the body of its refusal.
        head_only = head_only and data.partition(b"\r\n\r\n")[2][:5] in (b"", b"HTTP/")
        found = take_answer(data, head_only, closed=True)
        if found is None:
            raise NoAnswer(f"an answer that breaks off: {data[:60]!r}")
        answer, data = found
        answers.append(answer)
    if not answers:
        raise NoAnswer("the gateway closed without an answer")
    return answers


def take_answer(data: bytes, head_only: bool, closed: bool) -> tuple[Answer, bytes] | None:
    """The first answer in `data` and what is behind it; None while it is not whole.

    Raises:
        NoAnswer: it is not HTTP.
    """
    head, mark, rest = data.partition(b"\r\n\r\n")
    if not mark:
        return None
    first, *lines = head.split(b"\r\n")
    status = first.split(b" ")[1:2]
    if not first.startswith(b"HTTP/1.1 ") or not status or not status[0].isdigit():
        raise NoAnswer(f"not HTTP: {first[:60]!r}")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    fields = dict(reversed(headers))
    if head_only or status[0] in (b"204", b"304"):
        return Answer(int(status[0]), headers, b""), rest
    if fields.get(b"transfer-encoding") == b"chunked":
        taken = _take_chunks(rest)
    elif b"content-length" in fields:
        length = int(fields[b"content-length"])
        taken = (rest[:length], rest[length:]) if len(rest) >= length else None
    else:
        taken = (rest, b"") if closed else None
    return None if taken is None else (Answer(int(status[0]), headers, taken[0]), taken[1])


def _take_chunks(data: bytes) -> tuple[bytes, bytes] | None:
    parts: list[bytes] = []
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        try:
            size = int(data[at:end], 16)
        except ValueError:
            raise NoAnswer(f"not a chunk: {data[at : at + 40]!r}") from None
        at = end + 2 + size + 2
        if len(data) < at:
            return None
        if size == 0:
            return b"".join(parts), data[at:]
        parts.append(data[end + 2 : at - 2])
    return None


class KeptConnection:
    """A client that keeps its connection and opens a new one only when the gateway has closed it."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._held = b""

    def ask(self, data: bytes) -> tuple[Answer, float]:
        """The answer, and the milliseconds until it was whole.

        Raises:
            NoAnswer: none came.
        """
        started = time.perf_counter()
        was_open = self._socket is not None
        try:
            answer = self._exchange(data)
        except NoAnswer:
            if not was_open:
                raise
            # An idle connection may be closed at any time (RFC 9112 9.3.1); a fresh one says whether it was that.
            answer = self._exchange(data)
        return answer, (time.perf_counter() - started) * 1000

    def ask_together(self, data: bytes, count: int) -> list[Answer]:
        """The answers to `count` requests that are sent in one go, on a connection that is closed behind them.

        Raises:
            NoAnswer: one of them got none.
        """
        try:
            self.send(data)
            return [self.read() for _ in range(count)]
        finally:
            self.close()

    def _exchange(self, data: bytes) -> Answer:
        self.send(data)
        answer = self.read()
        if b"close" in answer.field(b"connection"):
            self.close()
        return answer

    def send(self, data: bytes) -> None:
        """Raises: NoAnswer."""
        try:
            if self._socket is None:
                self._socket, self._held = self._address.connect(), b""
            self._socket.sendall(data)
        except OSError as error:
            self.close()
            raise NoAnswer(str(error)) from None

    def read(self) -> Answer:
        """The next answer to what was sent. Raises: NoAnswer."""
        if self._socket is None:
            raise NoAnswer("the gateway closed without a whole answer")
        try:
            return self._read(self._socket)
        except (OSError, NoAnswer) as error:
            self.close()
            raise NoAnswer(str(error)) from None

    def _read(self, client: socket.socket) -> Answer:
        while True:
            found = take_answer(self._held, False, closed=False)
            if found is not None:
                answer, self._held = found
                return answer
            part = client.recv(READ_BYTES)
            if not part:
                raise NoAnswer("the gateway closed without a whole answer")
            self._held += part

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
