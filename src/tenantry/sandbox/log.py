"""The sandbox's own account of what it would have billed: the judge in tests of the ledger."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class SandboxLog:
    """Append-only JSON lines. A request's line is on the disk before the first byte of its answer leaves."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, entry: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(entry).encode() + b"\n")

    def sync(self) -> None:
        os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Every whole line, in order."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1] if line]
