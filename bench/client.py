"""A client that keeps its connection and reads whole answers; what a request of the bench looks like."""

from __future__ import annotations

import json
import re
import socket

_CODE = 'def f(x):\n\treturn "value %s" % x  # a comment of usual length\n'
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_END_OF_CHUNKS = b"0\r\n\r\n"
# A gateway under valgrind with 10,000 tenants may take seconds for one answer.
ANSWER_SECONDS_MAX = 60.0


def prompt(size: int) -> str:
    """Text of this many bytes, with the strings that code has in it."""
    return (_CODE * (size // len(_CODE) + 1))[:size]


def body_bytes(prompt_bytes: int, *, stream: bool = False) -> bytes:
    """A Messages request with a prompt of this size."""
    content = [{"role": "user", "content": prompt(prompt_bytes)}]
    body: dict[str, object] = {"model": "claude-sonnet-5-5", "max_tokens": 1024, "messages": content}
    # The bench's upstream looks for it at the end.
    return json.dumps(body | {"stream": True} if stream else body, separators=(",", ":")).encode()


def request_bytes(key: str, prompt_bytes: int, *, stream: bool = False) -> bytes:
    """Such a request with its head."""
    body = body_bytes(prompt_bytes, stream=stream)
    head = (
        f"POST /v1/messages HTTP/1.1\r\nhost: bench\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n"
        f"anthropic-version: 2023-06-01\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client:
    """One connection. One request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS_MAX)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> None:
        self._socket.sendall(request)

    def await_answer(self) -> None:
        """Read one whole answer.

        Raises:
            SystemExit: it is not a 200, or is cut.
        """
        data, end = self._head()
        if data[9:12] != b"200":
            raise SystemExit(f"the gateway answered {data[:2000]!r}")
        found = _LENGTH.search(data, 0, end)
        if found is None:
            while not data.endswith(_END_OF_CHUNKS):
                data = data[-len(_END_OF_CHUNKS) :] + self._more(data)
            return
        missing = end + 4 + int(found.group(1)) - len(data)
        while missing > 0:
            missing -= len(self._more(data))

    def await_status(self) -> bytes:
        """Read the head of one answer, and no more; its status."""
        return self._head()[0][9:12]

    def await_end(self, end: bytes) -> None:
        """Read until what has come ends with this."""
        data = self._more(b"")
        while not data.endswith(end):
            data = data[-len(end) :] + self._more(data)

    def close(self) -> None:
        self._socket.close()

    def _head(self) -> tuple[bytes, int]:
        """What has come of an answer, at least its head, and where that ends."""
        data = self._socket.recv(65536)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more(data)
        return data, end

    def _more(self, seen: bytes) -> bytes:
        part = self._socket.recv(65536)
        if not part:
            raise SystemExit(f"an answer was cut after {seen[-200:]!r}")
        return part
