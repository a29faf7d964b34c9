"""Byte work that Python is bad at: compiled from `_bytes.c` where that was built, else the same in Python.

What these functions do is told in `bytes_in_python`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from tenantry.wire import bytes_in_python
from tenantry.wire.bytes_in_python import CHUNKED

try:
    from tenantry.wire._bytes import (  # pyright: ignore[reportMissingModuleSource] -- its source is C
        count_deltas,
        head_reader,
        known_head,
        plain_chunk,
    )
except ImportError:  # nobody has built it, or it was built before one of these came
    from tenantry.wire.bytes_in_python import count_deltas, head_reader, known_head, plain_chunk


@lru_cache(maxsize=64)
def _chunk_counter(delta: bytes) -> Callable[[bytes], int]:
    def count(data: bytes) -> int:
        start = plain_chunk(data)
        return count_deltas(data, start, len(data) - len(b"\r\n"), delta) if start else -1

    return count


IS_COMPILED = head_reader is not bytes_in_python.head_reader

chunk_counter = _chunk_counter if IS_COMPILED else bytes_in_python.chunk_counter

__all__ = ["CHUNKED", "IS_COMPILED", "chunk_counter", "count_deltas", "head_reader", "known_head", "plain_chunk"]
