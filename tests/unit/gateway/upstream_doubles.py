"""What stands around one connection upstream when bytes are handed to it: its pool, and its socket."""

from __future__ import annotations

from tenantry.gateway.upstream import UpstreamConnection
from tenantry.gateway.upstream.connection import ConnectionOwner


class Owner(ConnectionOwner):
    """Counts how often the connection was given back."""

    def __init__(self) -> None:
        self.idle = 0

    def on_idle(self, connection: UpstreamConnection) -> None:
        self.idle += 1

    def on_lost(self, connection: UpstreamConnection) -> None:
        return


class Socket:
    """A transport that takes everything. `is_closed`: the connection has ended it."""

    def __init__(self) -> None:
        self.is_closed = False

    def write(self, data: bytes) -> None:
        return

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.is_closed = True
