"""Where the tests' temporary files are: in memory, where there is enough of it.

Stores, journals and exports are synced as they are for users, and a disk may take 5 ms for each: a minute and more of
waiting in a run, which nothing is learnt from. What is killed is a process, and no file in memory ends with one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")  # Linux has its folder in memory there
# A whole run has less than 1 GiB at once; and what `tenantry doctor` calls a full disk must be far.
FREE_BYTES_MIN = 6 << 30


def put_in_memory() -> None:
    """For this process and all that it starts; not where TMPDIR says otherwise, or memory is small."""
    if "TMPDIR" in os.environ or not _has_room():
        return
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


def _has_room() -> bool:
    try:
        return os.access(MEMORY, os.W_OK) and min(shutil.disk_usage(MEMORY).free, _available()) >= FREE_BYTES_MIN
    except OSError:
        return False


def _available() -> int:
    """Bytes of memory that nobody needs. Raises: OSError: the system does not tell."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
