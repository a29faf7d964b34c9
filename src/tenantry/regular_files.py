"""Files that somebody names: only regular ones are read. A pipe would be waited for, a device read, without an end.

And the folder that a file was put into: what stands in it is on the disk when it has been synced.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open for reading, without waiting for a writer.

    Raises:
        OSError: it cannot be read, or is a folder, a pipe, a socket or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return open(descriptor, "rb")


def read_regular(path: Path, bytes_max: int = -1) -> bytes:
    """What is in a file; of one that is longer than `bytes_max`, one byte more than that. Raises: OSError."""
    with open_regular(path) as file:
        return file.read(bytes_max + 1 if bytes_max >= 0 else -1)


def sync_folder(folder: Path) -> None:
    """What was made, named or removed in it is on the disk when this returns. Raises: OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
