"""Names of unix sockets: the kernel takes 107 bytes of them (unix(7)), and a data directory's path may be longer."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def short_name(path: Path) -> Generator[str]:
    """A short name for `path`, whose folder is there, where the system has one. Raises: OSError."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        own = Path(f"/proc/self/fd/{folder}")
        yield str(own / path.name) if own.exists() else str(path)
    finally:
        os.close(folder)
