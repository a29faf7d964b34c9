"""Where a process may have written, beside the data directory."""

import os
import socket
import time
from pathlib import Path

import pytest

from tenantry.control.isolation.written import files_elsewhere


@pytest.fixture
def port() -> int:
    """One on which this process listens for the time of a test."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    HELD.append(listening)
    return port


HELD: list[socket.socket] = []


def test_a_file_that_the_process_holds_open_is_found(tmp_path: Path, port: int) -> None:
    path = tmp_path / "kept.log"
    with path.open("w"):
        assert path in files_elsewhere([port], [], time.time())


def test_a_file_that_lies_where_it_runs_is_found(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.json"
    path.write_text("{}")
    assert path in files_elsewhere([port], [], time.time())


def test_what_was_written_before_or_is_searched_anyway_is_not_named_again(tmp_path: Path, port: int) -> None:
    old, below = tmp_path / "old.log", tmp_path / "data" / "new.log"
    below.parent.mkdir()
    with old.open("w"), below.open("w"):
        os.utime(old, (0, 0))
        found = files_elsewhere([port], [tmp_path / "data"], time.time())
    assert old not in found
    assert below not in found


def test_ports_on_which_nobody_listens_name_no_process(tmp_path: Path) -> None:
    path = tmp_path / "kept.log"
    with path.open("w"):
        assert path not in files_elsewhere([1], [], time.time())
