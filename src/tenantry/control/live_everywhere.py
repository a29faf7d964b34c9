"""What the gateways of all machines do now: those of this one by their records, others as their controls tell it.

Who books the journals of a machine reads the records there anyhow, and puts them into the store when they have changed:
no gateway does anything for it, and a control asks no other one (decision 0024).
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Engine

from tenantry.control.leading import runs_in
from tenantry.ledger.live import LiveGateway, decode_live, encode_live, read_health, read_live
from tenantry.storage.controls import ControlStore

# Some thousand tenants in use are told each second, ten thousand every ten: PostgreSQL keeps what was written for its
# replicas and backups.
TOLD_BYTES_A_SECOND: Final = 256 * 1024
TOLD_SECONDS: Final = 1.0
# Of the gateways of one machine; what a row says of its size is not believed.
_BYTES_MAX: Final = 256 * 1024 * 1024
# The fastest level: a tenth of what was, in 10 ms for a MB.
_ZLIB_LEVEL: Final = 1
_STALE_SECONDS: Final = float("inf")


class _Told(msgspec.Struct, array_like=True):
    """One gateway. `record` None: it tells nothing that can be read."""

    run_id: str
    is_fresh: bool
    record: bytes | None


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(list[_Told])


class Teller:
    """Tells other machines what the gateways of this one do. `now`: seconds that never go back."""

    def __init__(
        self, engine: Engine, control_id: str, journal_dir: Path, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = ControlStore(engine)
        self._control_id = control_id
        self._journal_dir = journal_dir
        self._now = now
        self._next_at = 0.0
        self._last: bytes = b""

    def is_due(self) -> bool:
        return self._now() >= self._next_at

    def step(self) -> None:
        """Raises: SQLAlchemyError."""
        told = _ENCODER.encode(
            [
                _Told(one.run_id, one.is_fresh, encode_live(one.told) if one.told is not None else None)
                for one in read_live(self._journal_dir)
            ]
        )
        if told != self._last:
            self._store.tell_live(self._control_id, zlib.compress(told, _ZLIB_LEVEL))
            self._last = told
        self._next_at = self._now() + len(told) / TOLD_BYTES_A_SECOND


def live_everywhere(engine: Engine, journal_dir: Path) -> list[LiveGateway]:
    """Every gateway that lives, with what it tells. Raises: SQLAlchemyError."""
    return read_live(journal_dir) + _elsewhere(engine, journal_dir)


def health_everywhere(engine: Engine, journal_dir: Path) -> list[LiveGateway]:
    """The same, where nobody asks for tenants: of this machine, those are left out. Raises: SQLAlchemyError."""
    return read_health(journal_dir) + _elsewhere(engine, journal_dir)


def _elsewhere(engine: Engine, journal_dir: Path) -> list[LiveGateway]:
    if engine.dialect.name == "sqlite":
        return []
    now, here, found = time.time(), {*runs_in(journal_dir)}, list[LiveGateway]()
    for told in ControlStore(engine).list_live():
        for one in _unpacked(told):
            if one.run_id not in here:
                live = decode_live(one.record) if one.record is not None else None
                found.append(LiveGateway(one.run_id, live, 0.0 if one.is_fresh else _STALE_SECONDS, now))
    return found


def _unpacked(told: bytes) -> list[_Told]:
    """What another version of Tenantry may have told otherwise is nothing."""
    try:
        return _DECODER.decode(zlib.decompressobj().decompress(told, _BYTES_MAX))
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError):
        return []
