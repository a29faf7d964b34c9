"""What two gateways say to each other of cells that move: messages, each behind its length (decision 0021).

One that is given a cell hears who is still served for it elsewhere, and hears of each until it has ended. A field that
a release does not know is passed over; a message that it does not know ends the talk, which costs what the end of any
connection does: nothing is lost, and what is not told any more is found in the store.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from tenantry.gateway.handover import LaneState, RunningRequest, StandingState, Used

_LENGTH: Final = struct.Struct("!I")
# An estate of ten thousand tenants that are all in use is some megabytes.
MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024


class CellEstate(msgspec.Struct, tag=True):
    """What the owner of cells leaves to the next one. `cells`: by name, the epoch in which they will be the next one's.

    `now` is the giver's clock, by which all times in it are told; `machine` names where that clock is. `tenants`: those
    that were in use.
    """

    gateway_id: str
    cells: dict[str, int]
    now: float
    machine: str
    tenants: list[str]
    requests: list[RunningRequest]
    lanes: list[LaneState]
    standings: list[StandingState]


class Kept(msgspec.Struct, tag=True):
    """The estate is here: the cells may be given."""


class Given(msgspec.Struct, tag=True):
    """The cells are yours, as the store says."""


class Withdrawn(msgspec.Struct, tag=True):
    """They are not, and will not be in that epoch."""


class More(msgspec.Struct, tag=True):
    """May an answer that has stayed take so much of an account in all? `Lent` says how much it may.

    `gateway_id`: where it has stayed; "": with who says this. Who has given the cell on since passes both on; `passed`:
    how often that was done.
    """

    tenant_id: str
    key_id: str
    unit: str
    taken: int
    gateway_id: str = ""
    passed: int = 0


class Lent(msgspec.Struct, tag=True):
    tenant_id: str
    key_id: str
    unit: str
    taken: int
    gateway_id: str = ""


Said = CellEstate | Kept | Given | Withdrawn | Used | More | Lent


def _nothing(_message: Said) -> None:
    """Nobody listens yet."""


def _nobody() -> None:
    """Nobody has to know of its end yet."""


class Talk:
    """One connection, after the proofs: an `asyncio.Protocol` by its methods.

    `on_message` is called for each message, `on_end` once, when nothing will come any more.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.on_message: Callable[[Said], None] = _nothing
        self.on_end: Callable[[], None] = _nobody
        self.is_open = True
        self._transport = transport
        self._unread = bytearray()
        self._encode = msgspec.msgpack.Encoder().encode
        self._decoder = msgspec.msgpack.Decoder(Said)

    def begin(self, unread: bytes) -> None:
        """Go on with a connection whose proofs have been given."""
        self._transport.set_protocol(cast(Any, self))
        if unread:
            self.data_received(unread)

    def say(self, message: Said) -> None:
        if self.is_open:
            payload = self._encode(message)
            self._transport.write(_LENGTH.pack(len(payload)) + payload)

    def close(self) -> None:
        """End it when all that was said has left."""
        if self.is_open:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was made before."""

    def data_received(self, data: bytes) -> None:
        unread = self._unread
        unread += data
        while len(unread) >= _LENGTH.size:
            size = _LENGTH.unpack_from(unread)[0]
            if size > MESSAGE_BYTES_MAX:
                self._transport.abort()
                return
            if len(unread) < _LENGTH.size + size:
                return
            payload = bytes(unread[_LENGTH.size : _LENGTH.size + size])
            del unread[: _LENGTH.size + size]
            try:
                message = self._decoder.decode(payload)
            except msgspec.MsgspecError:
                self._transport.abort()
                return
            self.on_message(message)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.is_open:
            self.is_open = False
            self.on_end()

    def pause_writing(self) -> None:
        """What is said of one request is some bytes, and each is told at most some times a second."""

    def resume_writing(self) -> None:
        pass
