"""Whether processes of this site run: what replaces its files must know, and keep them from starting."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tenantry.ledger.journal import is_alive
from tenantry.settings import Settings

LOCK_FILE = "control.lock"


class SiteRuns(Exception):
    """A process of this site runs: stop gateway and control first."""


class SiteReplaced(Exception):
    """The site's files are being replaced by `tenantry restore`; start again when it is done."""


@contextmanager
def present(settings: Settings) -> Generator[None]:
    """Held by every control process for as long as it runs. Raises: SiteReplaced."""
    with locked(settings.data_dir / LOCK_FILE, fcntl.LOCK_SH) as got:
        if not got:
            raise SiteReplaced((SiteReplaced.__doc__ or "").strip())
        yield


@contextmanager
def alone(settings: Settings) -> Generator[None]:
    """Nothing of the site runs, and no control process starts meanwhile. Raises: SiteRuns."""
    with locked(settings.data_dir / LOCK_FILE, fcntl.LOCK_EX) as got:
        if not got or _gateway_runs(settings.journal_dir):
            raise SiteRuns((SiteRuns.__doc__ or "").strip())
        yield


def _gateway_runs(journal_dir: Path) -> bool:
    return journal_dir.is_dir() and any(is_alive(run) for run in journal_dir.iterdir() if run.is_dir())


@contextmanager
def locked(path: Path, how: int) -> Generator[bool]:
    """Held where it could be had at once; `how`: LOCK_SH or LOCK_EX of flock(2)."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
