"""Two files, whole or not at all."""

import os
from pathlib import Path

import pytest

from tenantry.control.importing.writing import WouldOverwrite, write_files

TEXTS = {"tenants.toml": "a = 1\n", "tenantry.toml": "b = 2\n"}


def there(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_both_are_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert write_files(folder, TEXTS, force=False) == [folder / name for name in TEXTS]
    assert there(folder) == TEXTS


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(WouldOverwrite, match=f"{name} is there already"):
        write_files(tmp_path, TEXTS, force=False)
    assert there(tmp_path) == {name: "mine"}


def test_force_overwrites_both(tmp_path: Path) -> None:
    (tmp_path / "tenants.toml").write_text("old")
    write_files(tmp_path, TEXTS, force=True)
    assert there(tmp_path) == TEXTS


@pytest.mark.parametrize("force", [False, True])
def test_when_the_second_fails_the_first_is_as_before(
    tmp_path: Path, force: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if force:
        (tmp_path / "tenants.toml").write_text("old")
        (tmp_path / "tenantry.toml").write_text("old")
    before = there(tmp_path)
    link = os.link

    def full(source: Path, target: Path) -> None:
        if target.name == "tenantry.toml":
            raise OSError(28, "No space left on device")
        link(source, target)

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space"):
        write_files(tmp_path, TEXTS, force=force)
    assert there(tmp_path) == before
