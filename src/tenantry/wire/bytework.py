"""Byte work that Python is bad at: compiled from `_bytes.c` where that was built, else the same in Python."""

from __future__ import annotations

from tenantry.wire.bytes_in_python import CHUNKED, head_reader

__all__ = ["CHUNKED", "head_reader"]
