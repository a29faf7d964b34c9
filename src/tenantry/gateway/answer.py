"""The client's answer on its way: which fields it has, how its body is framed, and how it ends (RFC 9112 section 6)."""

from __future__ import annotations

from tenantry.domain.errors import ApiError
from tenantry.domain.prompt_budget import WARNING_FIELD
from tenantry.gateway.headers import client_response
from tenantry.gateway.population import Connected
from tenantry.gateway.relay import is_event_stream
from tenantry.wire.http1 import LAST_CHUNK, chunk, response_head

# An error answer is some hundred bytes; one that is larger is passed on as it comes.
HELD_BYTES_MAX = 64 * 1024

Headers = list[tuple[bytes, bytes]]
Fields = dict[bytes, bytes]  # the last value of each name


class Client(Connected):
    """What an exchange may ask of its client's connection. `is_paused`: the client takes no bytes at the moment."""

    __slots__ = ("is_paused", "keeps_alive", "peer")

    def __init__(self) -> None:
        super().__init__()
        self.peer = ""
        self.keeps_alive = True
        self.is_paused = False

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def refuse(self, error: ApiError, request_id: str, lines: bytes = b"") -> None:
        """Answer with an error; `lines` are whole header lines."""
        raise NotImplementedError

    def answered(self) -> None:
        """The answer is complete; the next request may come."""
        raise NotImplementedError

    def cut(self) -> None:
        """Close without the end that HTTP asks for: that is how a client learns that a body is not whole."""
        raise NotImplementedError

    def drop(self) -> None:
        """Close at once, and tell the exchange nothing of it."""
        raise NotImplementedError


class HeldAnswer:
    """A failed answer that the client has not been told of."""

    __slots__ = ("_bytes", "_parts", "fields", "headers", "status")

    def __init__(self, status: int, headers: Headers, fields: Fields) -> None:
        self.status = status
        self.headers = headers
        self.fields = fields
        self._parts: list[bytes] = []
        self._bytes = 0

    def add(self, data: bytes) -> bool:
        """False: it is too large to be held."""
        self._parts.append(data)
        self._bytes += len(data)
        return self._bytes <= HELD_BYTES_MAX

    def body(self) -> bytes:
        return b"".join(self._parts)

    def final_headers(self) -> Headers:
        """The fields, and the word that the client is not to try again."""
        return [field for field in self.headers if field[0] != b"x-should-retry"] + [(b"x-should-retry", b"false")]


class ClientAnswer:
    """One answer. `status` is 0 until it is taken from the upstream; `started`: its head is on its way to the client.

    What one read of the upstream gave is written in one go, by `flush`.
    """

    __slots__ = ("_client", "_fields", "_framing", "_headers", "_is_cut", "_out", "started", "status")

    def __init__(self, client: Client) -> None:
        self._client: Client | None = client
        self._headers: Headers = []
        self._fields: Fields = {}
        self._framing = _NONE
        self._is_cut = False
        self._out: list[bytes] = []
        self.status = 0
        self.started = False

    def take(self, status: int, headers: Headers, fields: Fields) -> None:
        """What the upstream answers. The client is told by `begin`."""
        self.status, self._headers, self._fields = status, headers, fields

    def begin(self, request_id: str, lines: bytes, warning: str, http_1_0: bool) -> None:
        """The head; `lines` are whole header lines of the gateway's own."""
        client = self._client
        if client is None:
            return
        self.started = True
        fields, status = self._fields, self.status
        sent = client_response(self._headers)
        sent.append((b"request-id", request_id.encode()))
        length = fields.get(b"content-length")
        # The gateway may have to add an `error` event to a stream, so its length is never promised.
        if length is not None and not is_event_stream(fields):
            self._framing = _LENGTH
            sent.append((b"content-length", length))
        elif status in (204, 304):
            self._framing = _NONE
        elif http_1_0:
            self._framing = _CLOSE
            client.keeps_alive = False
        else:
            self._framing = _CHUNKED
            sent.append((b"transfer-encoding", b"chunked"))
        sent.append((b"connection", b"keep-alive" if client.keeps_alive else b"close"))
        if warning:
            sent.append((WARNING_FIELD, warning.encode()))
        self._out.append(response_head(status, sent, lines))

    def body(self, ready: bytes) -> None:
        if ready and self._client is not None:
            self._out.append(chunk(ready) if self._framing == _CHUNKED else ready)

    def flush(self) -> None:
        out = self._out
        if out and self._client is not None:
            self._client.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()

    def cut(self) -> None:
        """It cannot be ended well."""
        self._is_cut = True

    def finish(self) -> None:
        """The last of it: the client is told that this is the end, or that it came too early."""
        client = self._client
        if client is None:
            return
        if not self._is_cut and self._framing == _CHUNKED:
            self._out.append(LAST_CHUNK)
        self.flush()
        self._client = None
        if self._is_cut:
            client.cut()
        else:
            client.answered()

    def lose_client(self) -> None:
        self._client = None
        self._out.clear()


_NONE, _LENGTH, _CHUNKED, _CLOSE = range(4)
