"""What a gateway and the one that takes its place say to each other, and the socket they say it on (decision 0011)."""

from __future__ import annotations

import os
import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tenantry.domain.breaker import BreakerState
from tenantry.ledger.journal import is_alive
from tenantry.storage.short_names import short_name

# A gateway answers within a turn of its event loop; one that does not is stopped or hangs.
ANSWER_SECONDS_MAX: Final = 10.0
_LENGTH: Final = struct.Struct("!I")
_READ_BYTES: Final = 1024 * 1024
_DESCRIPTORS_MAX: Final = 16
_ENDING: Final = ".sock"
_LOST: Final = -1


# What this version can be told; both sides say it first, 0 where they do not. Members that are not known are passed
# over, and missing ones have defaults; a message of another kind goes only to who says so (decision 0023).
SPEAKS: Final = 1

# From the one that comes


class AskListener(msgspec.Struct, tag=True):
    """Where do you listen? Also asked by `serve`, which wants the socket."""


class Succeed(msgspec.Struct, tag=True):
    """I take your place."""

    speaks: int = 0


class Grown(msgspec.Struct, tag=True):
    """Whether what was asked for by `Grow` fits, and is held."""

    fits: bool


# From the one that goes


class Listener(msgspec.Struct, tag=True):
    """The listening socket: one descriptor."""


class RunningAttempt(msgspec.Struct):
    """An attempt that may cost something. `is_held`: there is a budget, else nothing is reserved for it.

    `held_tokens`: what is held of those that a plan includes; 0 where none counts them, or the version does not say.
    """

    attempt_id: str
    held_nanos: int
    is_held: bool
    held_tokens: int = 0


class RunningRequest(msgspec.Struct):
    """A request in the middle of its answer. `key` is the key's digest; `begun_at` is the machine's clock, seconds."""

    name: bytes
    tenant_id: str
    key: bytes
    credential_id: str | None
    model: str
    input_tokens: int
    output_tokens: int
    begun_at: float
    has_session: bool
    attempt: RunningAttempt | None


class BucketState(msgspec.Struct):
    """`at`: the machine's clock, seconds, when it was at `level`."""

    name: str
    per_minute: float
    size: float
    level: float
    at: float


class LaneState(msgspec.Struct):
    """The lane of a `tenant`, `free`, `key`, `capacity`, or `model` of a capacity. `name`: whose it is."""

    kind: str
    name: str
    model: str
    closed_until: float
    mean_session: float
    buckets: list[BucketState]


class StandingState(msgspec.Struct):
    """What is known of a credential. `dead_until`: unix seconds."""

    credential_id: str
    breaker: BreakerState | None = None
    retry_fifths: int = 0
    dead_until: float | None = None
    is_spent: bool = False


class Estate(msgspec.Struct, tag=True):
    """All that the next one has to know."""

    run_id: str
    requests: list[RunningRequest]
    lanes: list[LaneState]
    standings: list[StandingState]
    speaks: int = 0


class Grow(msgspec.Struct, tag=True):
    """May so much be held for an attempt? `Grown` answers."""

    attempt_id: str
    to_nanos: int
    at_us: int


class Shrunk(msgspec.Struct, tag=True):
    """Less is held for an attempt."""

    attempt_id: str
    to_nanos: int
    at_us: int


class Settled(msgspec.Struct, tag=True):
    """What an attempt has cost, and its tokens of all classes; None: nothing, all was given back."""

    attempt_id: str
    cost_nanos: int | None
    at_us: int
    tokens: int = 0


class Used(msgspec.Struct, tag=True):
    """Tokens of a request that count for limits, so far; `has_session` is False once it has given its session back."""

    name: bytes
    input_tokens: int
    output_tokens: int
    has_session: bool


class Passed(msgspec.Struct, tag=True):
    """A client's connection: one descriptor. `unread` is what has come of its next request.

    `is_piped`: it is the end of a pipe, which is to be closed with the next answer.
    """

    peer: str
    unread: bytes
    is_piped: bool


class Moved(msgspec.Struct, tag=True):
    """Another one has taken over from here; what was told is told to that one from now on."""


class Retired(msgspec.Struct, tag=True):
    """All has ended, and all was told."""


Message = AskListener | Succeed | Grown | Listener | Estate | Grow | Shrunk | Settled | Used | Passed | Moved | Retired


class WireBroken(Exception):
    """The other gateway has gone, or does not answer."""


class DescriptorLost(WireBroken):
    """This process may open no more files: the kernel has closed a descriptor that came. The wire itself is whole."""


class Wire:
    """A stream socket between two gateways: messages in order, with the descriptors that belong to them."""

    def __init__(self, raw: socket.socket) -> None:
        raw.settimeout(ANSWER_SECONDS_MAX)
        self._raw = raw
        self._encode = msgspec.msgpack.Encoder().encode
        self._decoder = msgspec.msgpack.Decoder(Message)
        self._unread = bytearray()
        self._descriptors: deque[int] = deque()
        self._waiting: deque[Message] = deque()

    def fileno(self) -> int:
        return self._raw.fileno()

    def send(self, message: Message, *descriptors: int) -> None:
        """Raises: WireBroken."""
        payload = self._encode(message)
        data = _LENGTH.pack(len(payload)) + payload
        try:
            if descriptors:
                data = data[socket.send_fds(self._raw, [data], descriptors) :]
            self._raw.sendall(data)
        except OSError as error:
            raise WireBroken(str(error)) from None

    def receive(self) -> list[Message]:
        """What has come; to be called when something can be read. Raises: WireBroken, at the end too."""
        found = list(self._waiting)
        self._waiting.clear()
        return found + self._read()

    def wait(self) -> Message:
        """The next message. Raises: WireBroken."""
        while not self._waiting:
            self._waiting.extend(self._read())
        return self._waiting.popleft()

    def _read(self) -> list[Message]:
        try:
            data, descriptors, flags, _ = socket.recv_fds(self._raw, _READ_BYTES, _DESCRIPTORS_MAX)
        except OSError as error:
            raise WireBroken(str(error)) from None
        for one in descriptors:
            os.set_inheritable(one, False)
        self._descriptors.extend(descriptors)
        if flags & socket.MSG_CTRUNC:  # its place is kept: the next one belongs to another message
            self._descriptors.append(_LOST)
        if not data:
            raise WireBroken("it has closed the connection")
        self._unread += data
        return list(self._split())

    def _split(self) -> Iterator[Message]:
        unread, at = self._unread, 0
        while len(unread) - at >= _LENGTH.size:
            end = at + _LENGTH.size + _LENGTH.unpack_from(unread, at)[0]
            if len(unread) < end:
                break
            try:
                yield self._decoder.decode(bytes(memoryview(unread)[at + _LENGTH.size : end]))
            except msgspec.DecodeError as error:
                raise WireBroken(f"it says what this version does not know: {error}") from None
            at = end
        del unread[:at]

    def take_descriptor(self) -> socket.socket:
        """The socket that came with the message at hand. Raises: DescriptorLost, WireBroken."""
        if not self._descriptors:
            raise WireBroken("a descriptor is missing")
        found = self._descriptors.popleft()
        if found == _LOST:
            raise DescriptorLost("this process may open no more files")
        return socket.socket(fileno=found)

    def close(self) -> None:
        self._raw.close()
        for one in self._descriptors:
            if one != _LOST:
                os.close(one)
        self._descriptors.clear()


def await_successor(run: Path, port: int, seat: int = 0) -> socket.socket:
    """The socket on which the gateway of `run`, which serves `port`, is asked. Raises: OSError."""
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        raw.setblocking(False)
        with short_name(run / socket_name(port, seat)) as name:
            raw.bind(name)
        raw.listen(_DESCRIPTORS_MAX)
    except OSError:
        raw.close()
        raise
    return raw


def socket_name(port: int, seat: int = 0) -> str:
    """Of the file in a run's folder on which its gateway is asked."""
    return f"{port}{_ENDING}" if seat == 0 else f"{port}.{seat}{_ENDING}"


def _seat_of(name: str, port: int) -> int | None:
    """Whose socket it is; None: that of another port."""
    its_port, _, its_seat = name.removesuffix(_ENDING).partition(".")
    return int(its_seat or 0) if its_port == str(port) else None


def find_gateways(journal_dir: Path, port: int, seat: int = 0, seats: int = 0) -> list[Wire]:
    """The living gateways of a site that serve `port` or did, the one that began last first.

    `seat`: of several that serve one port, each has its own, and is followed by the next one of it. `seats`: how many
    there are from now on; who has a seat beyond is followed by the others in turn. 0: that is not known.

    Raises:
        WireBroken: one lives, and does not answer.
    """
    found: list[Wire] = []
    # A run's name tells when it began.
    for path in sorted(journal_dir.glob(f"*/{port}*{_ENDING}"), reverse=True):
        its = _seat_of(path.name, port)
        if its is None or (its % seats if 0 < seats <= its else its) != seat or not is_alive(path.parent):
            continue
        raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        raw.settimeout(ANSWER_SECONDS_MAX)
        try:
            with short_name(path) as name:
                raw.connect(name)
        except (ConnectionError, FileNotFoundError):  # it has just ended
            raw.close()
        except OSError as error:
            raw.close()
            raise WireBroken(f"the gateway of {path.parent.name} does not answer: {error}") from None
        else:
            found.append(Wire(raw))
    return found


def ask_listener(wires: Sequence[Wire]) -> socket.socket | None:
    """The listening socket of the first that has one. Raises: WireBroken."""
    for wire in wires:
        wire.send(AskListener())
        if isinstance(wire.wait(), Listener):
            return wire.take_descriptor()
    return None
