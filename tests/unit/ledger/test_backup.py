"""Backup and restore: whole, checked, for their owner only; a site is never lost by a restore."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from tenantry.control.backup import RestoreRefused, back_up, restore
from tenantry.control.presence import SiteReplaced, SiteRuns, alone, present
from tenantry.control.site import Site, open_site
from tenantry.ledger.booking import Drain
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.verification import verify
from tenantry.settings import Settings, load_settings
from tenantry.storage.database import open_store
from tenantry.storage.schema import Fit, look
from tests import releases
from tests.template import init_from_template
from tests.unit.ledger.books import PRICES, attempt, book, rows

pytestmark = pytest.mark.sqlite  # of its files; PostgreSQL's: test_backup_of_server.py


def settings_in(folder: Path) -> Settings:
    return load_settings(None, {"TENANTRY_DATA_DIR": str(folder)})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with two booked attempts, one in the journal and one that runs."""
    settings = settings_in(tmp_path / "data")
    init_from_template(settings)
    made = open_site(settings)
    book(made.engine, settings.data_dir, [attempt(1), attempt(2)])
    writer = JournalWriter(settings.journal_dir, "gateway")
    for begun, end in [attempt(3), attempt(4)]:
        writer.begin(begun)
        if begun.attempt_id == "att_3":
            writer.end(end)
    writer.flush()
    yield made
    writer.close()
    made.engine.dispose()


def drained(settings: Settings) -> list[tuple[str, str]]:
    engine = open_store(settings.store_url)
    Drain(engine, settings.journal_dir, PRICES).step()
    assert verify(engine).fault_count == 0
    found = [(row["attempt_id"], row["outcome"]) for row in rows(engine)]
    engine.dispose()
    return found


BOOKED = [("att_1", "settled"), ("att_2", "settled"), ("att_3", "settled"), ("att_4", "orphaned")]


def test_a_running_site_comes_back_with_what_was_booked_and_what_was_not_yet(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "site.backup"
    done = back_up(site, file, with_master_key=False)
    assert not done.has_master_key
    assert file.stat().st_mode & 0o777 == 0o600
    assert site.settings.master_key_file.read_bytes() not in file.read_bytes()
    other = settings_in(tmp_path / "other")
    restored = restore(other, file, replace=False)
    assert (restored.verified.rows, restored.aside, restored.needs_master_key) == (2, None, True)
    assert drained(other) == BOOKED
    assert (tmp_path / "other" / "tenantry.db").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".part")] == []
    assert [path.name for path in (tmp_path / "other").iterdir() if path.name.startswith(".")] == []


def test_what_is_booked_between_the_two_copies_is_booked_once(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenantry.control import backup

    real = backup.copy_sqlite

    def drain_first(*args: object) -> None:
        Drain(site.engine, site.settings.journal_dir, PRICES).step()
        real(*args)  # pyright: ignore[reportArgumentType] -- passed on

    monkeypatch.setattr(backup, "copy_sqlite", drain_first)
    back_up(site, tmp_path / "b", with_master_key=True)
    other = settings_in(tmp_path / "other")
    restored = restore(other, tmp_path / "b", replace=False)
    assert (restored.verified.rows, restored.needs_master_key) == (3, False)
    assert other.master_key_file.read_bytes() == site.settings.master_key_file.read_bytes()
    assert other.master_key_file.stat().st_mode & 0o777 == 0o600
    assert drained(other) == BOOKED


def test_a_site_that_is_there_is_replaced_only_on_request_and_kept_aside(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "b"
    back_up(site, file, with_master_key=False)
    other = settings_in(tmp_path / "other")
    other.data_dir.mkdir()
    shutil.copy(site.settings.master_key_file, other.master_key_file)
    init_from_template(other)
    key = other.master_key_file.read_bytes()
    with pytest.raises(RestoreRefused, match="--yes"):
        restore(other, file, replace=False)
    assert drained(other) == []
    restored = restore(other, file, replace=True)
    assert restored.aside is not None
    assert sorted(path.name for path in restored.aside.iterdir() if "-" not in path.name) == ["journal", "tenantry.db"]
    assert other.master_key_file.read_bytes() == key
    assert drained(other) == BOOKED


@pytest.mark.parametrize("with_master_key", [False, True])
def test_a_backup_is_not_restored_beside_the_master_key_of_another_site(
    site: Site, tmp_path: Path, with_master_key: bool
) -> None:
    other = settings_in(tmp_path / "other")
    init_from_template(other)
    key, database = other.master_key_file.read_bytes(), other.data_dir / "tenantry.db"
    if with_master_key:  # of the other site: the database has been swapped, or the archive put together by hand
        shutil.copy(other.master_key_file, site.settings.master_key_file)
    back_up(site, tmp_path / "b", with_master_key)
    before = database.read_bytes()
    with pytest.raises(RestoreRefused, match=f"belongs to the master key with the fingerprint {site.vault.key_id}"):
        restore(other, tmp_path / "b", replace=True)
    assert (other.master_key_file.read_bytes(), database.read_bytes()) == (key, before)
    other.master_key_file.rename(tmp_path / "away")  # as the message says
    if not with_master_key:
        assert restore(other, tmp_path / "b", replace=True).master_key_id == site.vault.key_id


def test_a_running_site_is_not_replaced(site: Site, tmp_path: Path) -> None:
    back_up(site, tmp_path / "b", with_master_key=False)
    with pytest.raises(SiteRuns):  # the gateway holds its journal
        restore(site.settings, tmp_path / "b", replace=True)
    other = settings_in(tmp_path / "other")
    init_from_template(other)
    with present(other), present(other), pytest.raises(SiteRuns):  # several control processes may run
        restore(other, tmp_path / "b", replace=True)
    with alone(other), pytest.raises(SiteReplaced), present(other):
        pass


def test_a_ledger_that_does_not_verify_is_not_restored(site: Site, tmp_path: Path) -> None:
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE ledger SET cost_nanos = 0 WHERE attempt_id = 'att_1'"))
    back_up(site, tmp_path / "b", with_master_key=False)
    with pytest.raises(RestoreRefused, match="faults"):
        restore(settings_in(tmp_path / "other"), tmp_path / "b", replace=False)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["control.lock"]


def rewritten(file: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> None:
    """Each member of the archive through `change`."""
    with tarfile.open(file) as archive:
        members = [(entry.name, (archive.extractfile(entry) or io.BytesIO()).read()) for entry in archive]
    with tarfile.open(file, "w") as archive:
        for name, data in members:
            kept = change(name, data)
            if kept is not None:
                entry = tarfile.TarInfo(kept[0])
                entry.size = len(kept[1])
                archive.addfile(entry, io.BytesIO(kept[1]))


def with_manifest(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def apply(name: str, data: bytes) -> tuple[str, bytes]:
        if name != "manifest.json":
            return name, data
        manifest = json.loads(data)
        change(manifest)
        return name, json.dumps(manifest).encode()

    return lambda file: rewritten(file, apply)


def flipped(name: str, data: bytes) -> tuple[str, bytes]:
    at = len(data) // 2
    return name, data if not name.endswith((".db", ".log")) else data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "no archive": lambda file: file.write_bytes(b"x" * 100_000),
    "cut short": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "one bit flipped": lambda file: rewritten(file, flipped),
    "a file less": lambda file: rewritten(file, lambda name, data: None if name.endswith(".db") else (name, data)),
    "a file more": lambda file: rewritten(file, lambda name, data: (name.replace(".db", ".db2"), data)),
    "no manifest": lambda file: rewritten(file, lambda name, data: None if "manifest" in name else (name, data)),
    "manifest is no JSON": lambda file: rewritten(
        file, lambda name, data: (name, b"{" if "manifest" in name else data)
    ),
    "manifest is a list": lambda file: rewritten(
        file, lambda name, data: (name, b"[]" if "manifest" in name else data)
    ),
    "another format": with_manifest(lambda manifest: manifest.update(format=2)),
    "a path out of the folder": with_manifest(
        lambda manifest: manifest["files"].update({"../x": {"bytes": 1, "sha256": "0" * 64}})  # type: ignore[attr-defined]
    ),
    "a checksum that is no text": with_manifest(
        lambda manifest: manifest["files"]["tenantry.db"].update(sha256=5)  # type: ignore[index]
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_backup_is_refused_and_the_site_is_as_it_was(site: Site, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "b"
    back_up(site, file, with_master_key=False)
    other = settings_in(tmp_path / "other")
    init_from_template(other)
    before = ["control.lock", *(path.name for path in other.data_dir.iterdir())]
    DAMAGE[damage](file)
    with pytest.raises(RestoreRefused):
        restore(other, file, replace=True)
    assert sorted(path.name for path in other.data_dir.iterdir()) == sorted(before)


@pytest.mark.parametrize("step", range(1, 5))
def test_killed_between_any_two_moves_nothing_is_lost_and_a_second_restore_finishes(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    file = tmp_path / "b"
    back_up(site, file, with_master_key=False)
    other = settings_in(tmp_path / "other")
    other.data_dir.mkdir()
    shutil.copy(site.settings.master_key_file, other.master_key_file)
    init_from_template(other)
    book_engine = open_store(other.store_url)
    book(book_engine, other.data_dir, [attempt(9)])
    book_engine.dispose()
    real, moves = shutil.move, [0]

    class Killed(BaseException):
        pass

    def dies(*args: object) -> object:
        moves[0] += 1
        if moves[0] == step:
            raise Killed
        return real(*args)  # pyright: ignore[reportArgumentType, reportCallIssue] -- passed on

    monkeypatch.setattr("tenantry.control.backup.shutil.move", dies)
    try:
        restore(other, file, replace=True)
    except Killed:
        monkeypatch.setattr("tenantry.control.backup.shutil.move", real)
        restore(other, file, replace=True)
    monkeypatch.setattr("tenantry.control.backup.shutil.move", real)
    assert drained(other) == BOOKED
    asides = [path / "tenantry.db" for path in other.data_dir.glob("replaced-*") if (path / "tenantry.db").exists()]
    kept = [drained(replace(other, store_url=f"sqlite:///{path}", data_dir=tmp_path / "no")) for path in asides]
    assert [("att_9", "settled")] in kept


def test_a_backup_replaces_an_older_one_whole_or_not_at_all(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "deep" / "b"
    back_up(site, file, with_master_key=False)
    before = file.read_bytes()

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tenantry.control.backup._write_archive", full)
    with pytest.raises(OSError, match="No space"):
        back_up(site, file, with_master_key=False)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["b"]


def test_a_backup_of_an_earlier_version_is_brought_up_to_date_and_one_of_a_later_is_refused_whole(
    site: Site, tmp_path: Path
) -> None:
    earlier, later = tmp_path / "earlier.backup", tmp_path / "later.backup"
    back_up(site, earlier, with_master_key=False)
    with releases.becoming(tmp_path) as become:
        become(releases.EXPAND, releases.CONTRACT)
        newer = settings_in(tmp_path / "newer")
        assert restore(newer, earlier, replace=False).verified.rows == 2
        engine = open_store(newer.store_url)
        assert look(engine) is Fit.CURRENT
        engine.dispose()
        newer.master_key_file.write_bytes(site.settings.master_key_file.read_bytes())
        newer.master_key_file.chmod(0o600)
        restored = open_site(newer)
        back_up(restored, later, with_master_key=False)
        restored.engine.dispose()
    other = settings_in(tmp_path / "other")
    with pytest.raises(RestoreRefused, match="that of a later version of Tenantry"):
        restore(other, later, replace=False)
    assert not (tmp_path / "other" / "tenantry.db").exists()
