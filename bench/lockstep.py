"""Clients and upstreams in one process, in step: the same bytes come to the gateway in the same turns of its loop.

The gateway is stopped while a round's bytes are sent, so that it finds them all at once, as under load.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.client import ANSWER_SECONDS_MAX, Client
from bench.processes import Proxy
from bench.upstream import CHUNKS, END, HEAD, START, WHOLE, delta

BACKLOG = 1024
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_READ_BYTES = 1 << 20
# Every event of the upstream is a chunk, and ends so.
_END_OF_EVENT = b"\n\n\r\n"


class Upstream:
    """A Messages API that answers when it is told to. Tells no rate limits: a gateway rightly learns them."""

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.port: int = self._listener.getsockname()[1]
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*certificate)
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._listener, selectors.EVENT_READ)

    def take(self, count: int) -> list[socket.socket]:
        """Wait until so many whole requests have come; their connections.

        Raises:
            SystemExit: they do not come.
        """
        found: list[socket.socket] = []
        while len(found) < count:
            ready = self._ready.select(ANSWER_SECONDS_MAX)
            if not ready:
                raise SystemExit(f"of {count} requests {len(found)} came to the upstream")
            for key, _ in ready:
                if key.fileobj is self._listener:
                    self._accept()
                elif _read_request(key.fileobj):  # type: ignore[arg-type] -- a socket was registered
                    found.append(key.fileobj)  # type: ignore[arg-type]
                else:
                    self._ready.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
        return found

    def close(self) -> None:
        for key in list(self._ready.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._ready.close()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(ANSWER_SECONDS_MAX)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True)
        self._ready.register(connection, selectors.EVENT_READ)


def _read_request(connection: socket.socket) -> bool:
    """Read one whole request; False: the gateway has closed the connection."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        part = connection.recv(_READ_BYTES)
        if not part:
            return False
        data += part
    length = _LENGTH.search(data, 0, end)
    missing = end + 4 + int(length.group(1)) - len(data) if length else 0
    while missing > 0:
        missing -= len(connection.recv(min(missing, _READ_BYTES)))
    return True


class Lockstep:
    """So many clients of a gateway, and the upstream that it asks."""

    def __init__(self, gateway: Proxy, upstream: Upstream, clients: int) -> None:
        self._pid = gateway.process.pid
        self._upstream = upstream
        self._clients = [Client(gateway.port) for _ in range(clients)]

    def ask(self, requests: Sequence[bytes]) -> None:
        """Rounds of requests, each client one in a round, until all have been answered."""
        for first in range(0, len(requests), len(self._clients)):
            asked = requests[first : first + len(self._clients)]
            for connection in self._send(asked):
                connection.sendall(WHOLE)
            self._continue()
            for client, _ in zip(self._clients, asked, strict=False):
                client.await_answer()

    def stream(self, requests: Sequence[bytes]) -> None:
        """One round of streams: no chunk is sent before each client has the one before."""
        connections = self._send(requests)
        clients = self._clients[: len(requests)]
        events = [HEAD + START, *[delta(0)] * CHUNKS, END]
        for number, event in enumerate(events):
            if number:
                self._stop()
            for connection in connections:
                connection.sendall(event)
            self._continue()
            for client in clients:
                client.await_end(b"0\r\n\r\n" if event is END else _END_OF_EVENT)

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def _send(self, requests: Sequence[bytes]) -> list[socket.socket]:
        """Send these at once; the connections on which the upstream has them, the gateway stopped."""
        with self._stopped():
            for client, request in zip(self._clients, requests, strict=False):
                client.ask(request)
        connections = self._upstream.take(len(requests))
        self._stop()
        return connections

    @contextlib.contextmanager
    def _stopped(self) -> Iterator[None]:
        self._stop()
        yield
        self._continue()

    def _stop(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def _continue(self) -> None:
        os.kill(self._pid, signal.SIGCONT)
