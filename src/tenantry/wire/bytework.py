"""Byte work that Python is bad at: compiled from `_bytes.c` where that was built, else the same in Python.

What these functions do is told in `bytes_in_python`.
"""

from __future__ import annotations

from functools import lru_cache

from tenantry.wire import bytes_in_python
from tenantry.wire.bytes_in_python import CHUNKED

try:
    from tenantry.wire._bytes import (  # pyright: ignore[reportMissingModuleSource] -- its source is C
        chunk_counter as _chunk_counter,
    )
    from tenantry.wire._bytes import (  # pyright: ignore[reportMissingModuleSource] -- as above
        count_deltas,
        fill_line,
        head_reader,
        known_head,
        plain_chunk,
        without_texts,
    )
except ImportError:  # nobody has built it, or it was built before one of these came
    from tenantry.wire.bytes_in_python import chunk_counter as _chunk_counter
    from tenantry.wire.bytes_in_python import (
        count_deltas,
        fill_line,
        head_reader,
        known_head,
        plain_chunk,
        without_texts,
    )

IS_COMPILED = head_reader is not bytes_in_python.head_reader

# Most streams have the deltas of one or two blocks, and so do all of them together.
chunk_counter = lru_cache(maxsize=64)(_chunk_counter)

__all__ = [
    "CHUNKED",
    "IS_COMPILED",
    "chunk_counter",
    "count_deltas",
    "fill_line",
    "head_reader",
    "known_head",
    "plain_chunk",
    "without_texts",
]
