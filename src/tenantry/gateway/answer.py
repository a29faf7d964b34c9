"""The client's answer on its way: which fields it has, how its body is framed, and how it ends (RFC 9112 section 6)."""

from __future__ import annotations

import asyncio
from typing import Final

from tenantry.domain.errors import ApiError
from tenantry.gateway.cells import At
from tenantry.gateway.population import Connected
from tenantry.gateway.upstream import ResponseHead
from tenantry.wire.http1 import LAST_CHUNK, STATUS_LINES

# An error answer is some hundred bytes; one that is larger is passed on as it comes.
HELD_BYTES_MAX: Final = 64 * 1024


class Client(Connected):
    """What an exchange may ask of its client's connection. `is_paused`: the client takes no bytes at the moment.

    `may_pass`: its requests may go on to another gateway; not where one has passed them on. `held_bytes`: of a body
    that is counted as one that comes or waits, until `let_go`.
    """

    __slots__ = ("held_bytes", "is_paused", "keeps_alive", "may_pass", "peer", "transport")

    def __init__(self) -> None:
        super().__init__()
        self.transport: asyncio.Transport | None = None
        self.peer = ""
        self.keeps_alive = True
        self.is_paused = False
        self.may_pass = True
        self.held_bytes = 0

    def let_go(self) -> None:
        """The turn of the request has come: its session bounds what is held of it from here on."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def refuse(self, error: ApiError, request_id: str, lines: bytes = b"") -> None:
        """Answer with an error; `lines` are whole header lines."""
        raise NotImplementedError

    def answered(self) -> None:
        """The answer is complete; the next request may come."""
        raise NotImplementedError

    def pass_on(self, body: bytes | None = None) -> None:
        """Another gateway goes on with the connection; `body` is that of its request, if one is not answered."""
        raise NotImplementedError

    def pass_to(self, owner: At, body: bytes) -> None:
        """Another gateway grants for its request (`Hop`)."""
        raise NotImplementedError

    def take_back(self, body: bytes) -> None:
        """It is granted for here, after all."""
        raise NotImplementedError

    def want_body(self) -> None:
        """Nothing is known that would refuse its request whatever the body says."""
        raise NotImplementedError

    def turn_away(self, answer: bytes) -> None:
        """Give it this whole answer instead of reading its body."""
        raise NotImplementedError

    def cut(self) -> None:
        """Close without the end that HTTP asks for: that is how a client learns that a body is not whole."""
        raise NotImplementedError

    def drop(self) -> None:
        """Close at once, and tell the exchange nothing of it."""
        raise NotImplementedError


class HeldAnswer:
    """A failed answer that the client has not been told of."""

    __slots__ = ("_bytes", "_parts", "head")

    def __init__(self, head: ResponseHead) -> None:
        self.head = head
        self._parts: list[bytes] = []
        self._bytes = 0

    def add(self, data: bytes) -> bool:
        """False: it is too large to be held."""
        self._parts.append(data)
        self._bytes += len(data)
        return self._bytes <= HELD_BYTES_MAX

    def body(self) -> bytes:
        return b"".join(self._parts)


def whole_answer(head: ResponseHead, name: bytes, lines: bytes, keeps_alive: bool, body: bytes) -> bytes:
    """An answer that has come whole. `name` is that of its request, `lines` are whole header lines of the gateway's."""
    return b"%b%brequest-id: req_%b\r\ncontent-length: %d\r\nconnection: %b\r\n%b\r\n%b" % (
        STATUS_LINES[head.status],
        head.lines_for_client(),
        name,
        len(body),
        b"keep-alive" if keeps_alive else b"close",
        lines,
        body,
    )


class ClientAnswer:
    """One answer of an upstream on its way to the client.

    What one read of the upstream gave is written in one go, by `flush`; until then it stands in `out`. `is_chunked`: a
    whole chunk may go out as it is.
    """

    __slots__ = ("_client", "_framing", "_is_cut", "is_chunked", "out")

    def __init__(self, client: Client) -> None:
        self._client: Client | None = client
        self._framing = _NONE
        self._is_cut = False
        self.out: list[bytes] = []
        self.is_chunked = False

    def begin(
        self,
        head: ResponseHead,
        name: bytes,
        lines: bytes,
        http_1_0: bool,
        *,
        may_grow: bool = False,
        is_final: bool = False,
    ) -> None:
        """The head, as the upstream's; `name` is that of the request, `lines` are whole header lines of the gateway's.

        `may_grow`: the gateway may have to add an `error` event, so no length is promised. `is_final`: the client's SDK
        is told not to try again.
        """
        client = self._client
        if client is None:
            return
        status = head.status
        if status in (204, 304):  # RFC 9112 6.3: whatever the fields say
            self._framing, framing = _NONE, b""
        elif head.length is not None and not may_grow:
            self._framing = _LENGTH
            framing = b"content-length: %d\r\n" % head.length
        elif http_1_0:
            self._framing, framing = _CLOSE, b""
            client.keeps_alive = False
        else:
            self._framing, framing = _CHUNKED, b"transfer-encoding: chunked\r\n"
            self.is_chunked = True
        self.out.append(
            b"%b%brequest-id: req_%b\r\n%bconnection: %b\r\n%b\r\n"
            % (
                STATUS_LINES[status],
                head.lines_for_client(is_final=is_final),
                name,
                framing,
                b"keep-alive" if client.keeps_alive else b"close",
                lines,
            )
        )

    def body(self, ready: bytes) -> None:
        if ready and self._client is not None and self._framing != _NONE:
            self.out.append(b"%x\r\n%b\r\n" % (len(ready), ready) if self._framing == _CHUNKED else ready)

    def chunk(self, data: bytes) -> None:
        """A whole chunk, as it came, which cannot go out as it is."""
        self.body(data.partition(b"\r\n")[2][:-2])
        self.flush()

    def flush(self) -> None:
        out = self.out
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
            self.out.append(LAST_CHUNK)
        self.flush()
        self._client = None
        if self._is_cut:
            client.cut()
        else:
            client.answered()

    def lose_client(self) -> None:
        self._client = None
        self.out.clear()


_NONE: Final = 0
_LENGTH: Final = 1
_CHUNKED: Final = 2
_CLOSE: Final = 3
