"""Files that somebody names are regular ones: a pipe is not waited for, wherever a file may be named."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from tenantry.regular_files import read_regular
from tenantry.settings import SettingsError, load_settings
from tenantry.storage.key_files import load_master_key
from tenantry.storage.vault import MasterKeyUnusable
from tests.spawner import run
from tests.template import init_from_template


def test_a_regular_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert (len(read_regular(path)), len(read_regular(path, 10)), len(read_regular(path, 100))) == (100, 11, 100)


def test_what_is_none_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="it is not a regular file"):
            read_regular(path)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as one:
        one.bind(f"{short}/socket")
        with pytest.raises(OSError, match="No such device"):
            read_regular(Path(short, "socket"))


def test_no_command_waits_for_a_pipe(tmp_path: Path) -> None:
    init_from_template(load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path / "data")}))
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "env").write_text("TENANT_A_KEY=sk-ant-api03-a\n")
    environ = os.environ | {"TENANTRY_DATA_DIR": str(tmp_path / "data")}
    for words in (
        ("plan", "pipe.json"),
        ("apply", "pipe.json", "--yes"),
        ("restore", "pipe.json", "--yes"),
        ("import", "env-file", "pipe.json"),
        ("import", "env-file", "env", "--routes", "pipe.json"),
        ("import", "litellm", "pipe.json"),
        ("provision", "--from", "pipe.json"),
        ("audit", "--out", "pipe.csv"),
        ("ledger", "recompute", "--prices", "pipe.json", "--price-version", "x"),
    ):
        if "pipe.csv" in words:
            os.mkfifo(tmp_path / "pipe.csv")
        done = run(*words, env=environ, cwd=tmp_path)
        assert done.returncode in (1, 2), words
        assert "pipe." in done.stderr, words
        assert "Traceback" not in done.stderr, words


def test_settings_and_a_master_key_are_no_pipes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(SettingsError, match="it is not a regular file"):
        load_settings(tmp_path / "pipe", {})
    with pytest.raises(MasterKeyUnusable, match="it is not a regular file"):
        load_master_key(tmp_path / "pipe")
