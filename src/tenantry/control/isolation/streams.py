"""A stream that is kept open while something is changed: whether it goes on, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tenantry.control.isolation.client import READ_BYTES, Address
from tenantry.control.isolation.pace import Pace
from tenantry.wire.http1 import LAST_CHUNK

# DESIGN 6: a running stream of a revoked key ends within this.
STREAM_SECONDS_MAX: Final = 5.0
_READ_SECONDS: Final = 0.5
_WORD: Final = b"content_block_delta"
_WHOLE: Final = b"message_stop"
_CUT: Final = b"event: error"


@dataclass(frozen=True, slots=True)
class Cut:
    """How a stream ended, in words; `at` what time of the pace."""

    words: str
    at: float
    is_cut: bool = False
    is_whole: bool = False


class OpenStream:
    """A stream whose first words have come, unless its end says otherwise. `release` lets the upstream end it."""

    def __init__(self, address: Address, data: bytes, pace: Pace, release: Callable[[], None]) -> None:
        self._pace, self._release = pace, release
        self._data = b""
        self._socket = None
        try:
            self._socket = address.connect()
            self._socket.settimeout(_READ_SECONDS)
            self._socket.sendall(data)
        except OSError as error:
            self._data = str(error).encode()
        self._read_until(lambda: _WORD in self._data)

    def wait_for_cut(self) -> Cut:
        """Until it is cut; or longer than it may take, and then it was not."""
        self._read_until(lambda: _CUT in self._data or _WHOLE in self._data)
        return self._told()

    def let_end(self) -> Cut:
        """Let it come to its own end."""
        self._release()
        self._read_until(lambda: _CUT in self._data or self._data.endswith(LAST_CHUNK))
        return self._told()

    def close(self) -> None:
        self._release()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _told(self) -> Cut:
        at, data = self._pace.clock(), self._data
        if not data.startswith(b"HTTP/1.1 200") or _WORD not in data:
            return Cut(f"no stream: {data[:40].decode('latin-1')!r}", at)
        if _CUT in data:
            return Cut("an error event", at, is_cut=True)
        if _WHOLE in data:
            return Cut("its whole end", at, is_whole=True)
        return Cut("closed without a word" if self._socket is None else "it goes on", at)

    def _read_until(self, is_there: Callable[[], bool]) -> None:
        deadline = self._pace.clock() + STREAM_SECONDS_MAX + 1.0
        while self._socket is not None and not is_there() and self._pace.clock() < deadline:
            try:
                part = self._socket.recv(READ_BYTES)
            except TimeoutError:
                continue
            except OSError:
                part = b""
            self._data += part
            if not part:
                self._socket.close()
                self._socket = None
