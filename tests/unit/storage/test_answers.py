"""A server that is frozen holds nobody up for ever; one that is busy is waited for."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from tenantry.storage import answers
from tenantry.storage.database import open_store
from tests import postgresql

pytestmark = pytest.mark.skipif(postgresql.binaries() is None, reason="PostgreSQL is not installed")


@pytest.fixture(scope="module")
def server() -> Iterator[postgresql.Server]:
    made = postgresql.start()
    yield made
    made.stop()


@pytest.fixture
def own(server: postgresql.Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setattr(answers, "SILENT_SECONDS_MAX", 0.2)
    monkeypatch.setattr(answers, "PROBE_SECONDS_MAX", 2)  # libpq's least
    made = open_store(server.url)
    yield made
    made.dispose()


def freeze(server: postgresql.Server, number: int) -> None:
    """All its processes: those that serve somebody are the children of the first."""
    first = server.process.pid
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    for pid in (first, *map(int, children)):
        os.kill(pid, number)


def test_a_frozen_server_is_given_up_and_asked_again_when_it_goes_on(server: postgresql.Server, own: Engine) -> None:
    with own.connect() as connection:
        connection.execute(text("SELECT 1"))
        freeze(server, signal.SIGSTOP)
        try:
            with pytest.raises(OperationalError, match="gives no answer"):
                connection.execute(text("SELECT 2"))
            assert connection.invalidated
        finally:
            freeze(server, signal.SIGCONT)
    with own.connect() as connection:
        assert connection.execute(text("SELECT 3")).scalar() == 3


def test_a_server_that_takes_its_time_is_waited_for(own: Engine) -> None:
    with own.connect() as connection:
        assert connection.execute(text("SELECT 4 FROM pg_sleep(1)")).scalar() == 4
