"""The tests' own server of PostgreSQL leaves nothing behind."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import postgresql
from tests.spawner import ROOT
from tests.stack import wait_for

pytestmark = pytest.mark.skipif(postgresql.binaries() is None, reason="PostgreSQL is not installed")
STARTER = """
import sys
from tests import postgresql
server = postgresql.start()
print(server.process.pid, server.folder, flush=True)
sys.stdin.read()
"""


@contextmanager
def started() -> Generator[tuple["subprocess.Popen[str]", int, Path]]:
    """A process that has started a server; the server's number and folder."""
    command = [sys.executable, "-c", STARTER]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid, folder = starter.stdout.readline().split()
        assert is_there(int(pid), Path(folder))
        yield starter, int(pid), Path(folder)


def is_there(pid: int, folder: Path) -> bool:
    """The folder, or the server: a zombie, whom nobody may collect here, has no words any more."""
    words = Path(f"/proc/{pid}/cmdline")
    return folder.exists() or (words.exists() and bool(words.read_bytes()))


def test_a_server_is_gone_with_a_starter_that_is_killed() -> None:
    with started() as (starter, pid, folder):
        starter.kill()
    wait_for(lambda: not is_there(pid, folder), what="the end of the server and its folder")


def test_a_server_is_gone_before_its_starter_has_ended() -> None:
    with started() as (starter, pid, folder):
        starter.communicate("")
    assert starter.returncode == 0
    assert not is_there(pid, folder)
