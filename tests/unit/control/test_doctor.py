"""What is wrong at night, made so for real; doctor names it, and the cure that it names works."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tenantry.control.backup import back_up, restore
from tenantry.control.doctor import examine
from tenantry.control.findings import Finding
from tenantry.control.init import init_site
from tenantry.control.presence import present
from tenantry.control.process_check import check_gateways, check_journal
from tenantry.control.site import open_site
from tenantry.control.site_check import check_backup
from tenantry.domain.prices import load_default_prices
from tenantry.ledger.booking import Drain
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.live import LIVE_FILE, LiveFile, LiveHead, LiveHealth
from tenantry.setting_tables import CertificateFiles
from tenantry.settings import Settings, load_settings
from tenantry.storage.database import open_store
from tenantry.storage.directory.tenants import TenantChange
from tenantry.storage.migrating import migrate
from tenantry.storage.tables import ledger
from tests import releases
from tests.authority import Authority
from tests.stack import PATIENCE_SECONDS, free_ports, wait_for
from tests.template import init_from_template
from tests.unit.ledger.books import attempt


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    gateway, control = free_ports(2)
    found = load_settings(
        None,
        {
            "TENANTRY_DATA_DIR": str(tmp_path / "data"),
            "TENANTRY_GATEWAY_PORT": str(gateway),
            "TENANTRY_CONTROL_PORT": str(control),
            "TENANTRY_UPSTREAM_BASE_URL": "http://127.0.0.1:9",  # nobody is asked in a test
        },
    )
    init_from_template(found)
    return found


def path_of(settings: Settings) -> Path:
    return Path(settings.store_url.removeprefix("sqlite:///"))


def faults(settings: Settings) -> dict[str, Finding]:
    return {one.check: one for one in all_faults(settings) if one.check != "running"}  # nothing runs in these tests


def all_faults(settings: Settings) -> list[Finding]:
    """But for what is meant so: the tests' PostgreSQL syncs nothing."""
    return [one for one in examine(settings) if not one.ok and one.check != "database commits"]


def command_in(mend: str, start: str) -> list[str]:
    """The command that a cure names."""
    return next(one for one in re.findall("`([^`]+)`", mend) if one.startswith(start)).split()


def test_a_site_that_is_well_has_no_finding(settings: Settings) -> None:
    assert faults(settings) == {}


# The database


def test_a_driver_that_is_missing_is_told_beside_all_else(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    found = faults(replace(settings, store_url="postgresql://tenantry@127.0.0.1:9/tenantry"))
    assert "pip install 'tenantry[postgres]'" in found["database"].found


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def no_database(path: Path) -> None:
    path.write_bytes(b"hello, this is a text and no database\n" * 100)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def corrupt_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[3 * 4096 : 4 * 4096] = b"\xff" * 4096
    path.write_bytes(data)


def foreign(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as store:
        store.execute("CREATE TABLE notes (text)")


def later(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        store.execute("UPDATE alembic_version SET version_num = '9999'")
        store.execute("UPDATE meta SET value = '9999' WHERE name = 'schema_compatible_from'")


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "deleted": (delete, "was deleted"),
    "emptied": (empty, "is empty"),
    "not a database": (no_database, "is not a database"),
    "truncated": (truncate, "is damaged"),
    "a corrupt page": (corrupt_page, "is damaged"),
    "of another program": (foreign, "of another program"),
    "of a later version": (later, "of a later version"),
}


@pytest.mark.sqlite
@pytest.mark.parametrize("name", DAMAGES)
def test_a_database_that_is_lost_comes_back_with_the_command_that_doctor_names(
    settings: Settings, tmp_path: Path, name: str
) -> None:
    damage, word = DAMAGES[name]
    site = open_site(settings)
    backup = tmp_path / "backup.tar"
    back_up(site, backup, with_master_key=False)
    site.engine.dispose()
    path = path_of(settings)
    with contextlib.closing(sqlite3.connect(path)) as store:
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(path)
    found = faults(settings)
    assert list(found) == ["database"]
    assert word in found["database"].found
    assert command_in(found["database"].mend, "tenantry restore") == ["tenantry", "restore", "BACKUP.tar", "--yes"]
    restore(settings, backup, replace=True)
    assert faults(settings) == {}


@pytest.mark.sqlite
def test_attempts_since_a_backup_come_back_with_the_journals_that_were_kept_aside(
    settings: Settings, tmp_path: Path
) -> None:
    """As docs/operations.md says."""
    site = open_site(settings)
    writer = JournalWriter(settings.journal_dir, "gateway")
    drain = Drain(site.engine, settings.journal_dir, load_default_prices())
    for number in (1, 2):
        writer.begin(attempt(number)[0])
        writer.end(attempt(number)[1])
        writer.flush()
        assert drain.step() == 1
        if number == 1:
            back_up(site, tmp_path / "backup.tar", with_master_key=False)
    writer.close()
    site.engine.dispose()
    path_of(settings).unlink()
    aside = restore(settings, tmp_path / "backup.tar", replace=True).aside
    assert aside is not None
    shutil.copytree(aside / "journal", settings.journal_dir, dirs_exist_ok=True)
    engine = open_store(settings.store_url)
    assert Drain(engine, settings.journal_dir, load_default_prices()).step() == 1
    engine.dispose()
    assert faults(settings) == {}


@pytest.mark.sqlite
def test_a_site_that_was_never_made_is_made_by_init(settings: Settings) -> None:
    shutil.rmtree(settings.data_dir)
    found = {one.check: one for one in examine(settings) if not one.ok}
    assert found["database"].mend == found["data directory"].mend == "run `tenantry init`"
    init_from_template(settings)
    assert faults(settings) == {}


@pytest.mark.sqlite
def test_a_database_of_an_earlier_version_is_brought_up_by_init(settings: Settings) -> None:
    path = path_of(settings)
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    engine = open_store(settings.store_url)
    migrate(engine, "0006")
    engine.dispose()
    found = faults(settings)["database"]
    assert "(0006) is that of an earlier version" in found.found
    assert command_in(found.mend, "tenantry") == ["tenantry", "init"]
    init_site(settings)
    assert faults(settings) == {}


LOCKS = {
    "a writer": ["BEGIN IMMEDIATE"],
    "a lock on everything": ["PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"],
}


@pytest.mark.sqlite
@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("name", LOCKS)
def test_who_locks_the_database_is_named_and_ended_by_the_command(
    settings: Settings, name: str, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenantry.control.store_check.LOCK_SECONDS_MAX", 0.2)
    code = (
        "import signal, sqlite3, sys, time\n"
        "if sys.argv[2] == 'BEGIN IMMEDIATE': signal.signal(signal.SIGCONT, lambda *_: sys.exit())\n"
        "store = sqlite3.connect(sys.argv[1])\n"
        "for one in sys.argv[2:]: store.execute(one)\n"
        "print('locked', flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path_of(settings)), *LOCKS[name]], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            if stopped:
                process.send_signal(signal.SIGSTOP)
            found = faults(settings)["database"]
            assert f"by process {process.pid}" in found.found
            cure = command_in(found.mend, "kill")
            assert cure == (["kill", "-CONT", str(process.pid)] if stopped else ["kill", str(process.pid)])
            subprocess.run(cure, check=True)
            if name == "a writer" or not stopped:
                process.wait(PATIENCE_SECONDS)
                assert faults(settings) == {}
        finally:
            process.kill()


# Processes


@pytest.fixture
def gateway(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds a gateway's lock and tells of itself as a gateway does."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tenantry.ledger.journal import JournalWriter\n"
        "from tenantry.ledger.live import LIVE_FILE, LiveFile, LiveHead, LiveHealth\n"
        "writer = JournalWriter(Path(sys.argv[1]), 'gateway')\n"
        "file = LiveFile(writer.folder / LIVE_FILE)\n"
        "while True:\n"
        "    file.write(LiveHead(time.time(), LiveHealth()), {})\n"
        "    print('told', flush=True)\n"
        "    time.sleep(0.1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(settings.journal_dir)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_gateway_that_is_stopped_is_let_go_on_by_the_command(
    settings: Settings, gateway: subprocess.Popen[bytes]
) -> None:
    [well] = check_gateways(settings, None)
    assert (well.ok, well.check) == (True, f"gateway {gateway.pid}")
    gateway.send_signal(signal.SIGSTOP)
    found = wait_for(lambda: faults(settings).get(f"gateway {gateway.pid}"))
    assert "(SIGSTOP)" in found.found
    cure = command_in(found.mend, "kill")
    assert cure == ["kill", "-CONT", str(gateway.pid)]
    subprocess.run(cure, check=True)
    wait_for(lambda: not faults(settings))


def test_a_gateway_that_hangs_is_ended_by_the_command(settings: Settings, gateway: subprocess.Popen[bytes]) -> None:
    [found] = check_gateways(settings, None, time.time() + 60)
    assert not found.ok
    assert "has told nothing for 60 s" in found.found or "has told nothing for 59 s" in found.found
    cure = command_in(found.mend, "kill")
    subprocess.run(cure, check=True)
    assert gateway.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    assert list(check_gateways(settings, None)) == []


def test_a_port_that_does_not_answer_is_told_from_one_that_another_program_has(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenantry.control.doctor.ANSWER_SECONDS_MAX", 0.1)
    with socket.create_server(("127.0.0.1", settings.gateway_port)):
        found = faults(settings)[f"port {settings.gateway_port} (gateway)"]
    assert "does not answer" in found.found
    assert "frozen" in found.mend


def tell(writer: JournalWriter, health: LiveHealth) -> None:
    """As a gateway does once."""
    file = LiveFile(writer.folder / LIVE_FILE)
    file.write(LiveHead(time.time(), health), {})
    file.close()


def test_what_a_gateway_says_of_itself_is_told(settings: Settings) -> None:
    writer = JournalWriter(settings.journal_dir, "gateway")
    for health, word in (
        (LiveHealth(journal_works=False), "cannot write its journal"),
        (LiveHealth(directory_fault="OperationalError: database is locked"), "does not follow the directory"),
        (LiveHealth(credentials_closed=["credential 'acme': changed"]), "credential 'acme': changed"),
    ):
        tell(writer, health)
        assert word in faults(settings)[f"gateway {os.getpid()}"].found
    writer.close()


@pytest.mark.sqlite
def test_a_gateway_whose_database_was_replaced_is_told(settings: Settings) -> None:
    writer = JournalWriter(settings.journal_dir, "gateway")
    tell(writer, LiveHealth())
    path = path_of(settings)
    with contextlib.closing(sqlite3.connect(path)) as store:
        store.execute("SELECT 1 FROM meta").fetchone()
        assert faults(settings) == {}
        shutil.copyfile(path, path.with_name("copy.db"))
        path.with_name("copy.db").replace(path)
        found = faults(settings)[f"gateway {os.getpid()}"]
        assert "deleted or replaced while it ran" in found.found
    writer.close()
    assert faults(settings) == {}


@pytest.mark.sqlite
def test_a_control_process_that_books_nothing_is_told(settings: Settings) -> None:
    writer = JournalWriter(settings.journal_dir, "gateway")
    begun, end = attempt(1)
    writer.begin(begun)
    writer.end(replace(end, ended_at_us=time.time_ns() // 1000))
    writer.begin(attempt(2)[0])  # runs
    writer.flush()
    assert faults(settings) == {}  # within its time
    writer.end(replace(attempt(2)[1], ended_at_us=(time.time_ns() // 1000) - 60_000_000))
    writer.flush()
    found = faults(settings)["booking"]
    assert re.search(r"2 attempts \(\d+ bytes of journal\) not booked, the oldest for (60|61) s", found.found)
    assert command_in(found.mend, "tenantry") == ["tenantry", "serve"]
    with present(settings):
        assert "the log of control says why" in faults(settings)["booking"].mend
    engine = open_store(settings.store_url)
    Drain(engine, settings.journal_dir, load_default_prices()).step()
    engine.dispose()
    assert faults(settings) == {}
    writer.close()


def test_a_control_process_that_is_stopped_is_let_go_on_by_the_command(settings: Settings) -> None:
    code = (
        "import sys, time\nfrom tenantry.control.presence import present\nfrom tenantry.settings import load_settings\n"
        "with present(load_settings(None, {'TENANTRY_DATA_DIR': sys.argv[1]})):\n"
        "    print('here', flush=True)\n    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(settings.data_dir), "control"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: f"control {process.pid}" in faults(settings))
        cure = command_in(faults(settings)[f"control {process.pid}"].mend, "kill")
        subprocess.run(cure, check=True)
        wait_for(lambda: not faults(settings))
        process.kill()


# The disk


@pytest.fixture
def small_disk(settings: Settings) -> Iterator[Path]:
    """The journal's folder on a disk of 64 KiB."""
    folder = settings.journal_dir
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=False, capture_output=True
    ).returncode:
        pytest.skip("a disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_well_when_there_is_room(settings: Settings, small_disk: Path) -> None:
    (small_disk / "large").write_bytes(b"x" * 65536)
    found = faults(settings)
    assert "No space left" in found["journal"].found
    assert found["journal"].mend.startswith("free space: `du")
    assert subprocess.run(command_in(found["journal"].mend, "du")[:3], check=True, capture_output=True).stdout
    assert f"0.0 GiB free for {small_disk}" in found["disk"].found
    (small_disk / "large").unlink()
    assert check_journal(small_disk).ok


def test_a_journal_on_a_disk_that_is_read_only_is_mended_by_the_command(settings: Settings, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    found = check_journal(settings.journal_dir)
    assert "Read-only" in found.found
    subprocess.run([*command_in(found.mend, "mount"), str(small_disk)], check=True)
    assert check_journal(settings.journal_dir).ok


@pytest.mark.parametrize("what", ["missing", "a file"])
def test_a_journal_folder_that_is_none_is_made_by_the_command(settings: Settings, what: str) -> None:
    settings.journal_dir.rmdir()
    if what == "a file":
        settings.journal_dir.write_bytes(b"")
    found = check_journal(settings.journal_dir)
    assert not found.ok
    if what == "a file":
        subprocess.run(command_in(found.mend, "mv"), check=True)
    assert command_in(found.mend, "tenantry init") == ["tenantry", "init"]
    init_site(settings)
    assert check_journal(settings.journal_dir).ok
    assert faults(settings) == {}


# What the store tells


@pytest.mark.sqlite
def test_a_database_that_others_can_read_is_closed_by_the_command(settings: Settings) -> None:
    path = path_of(settings)
    path.chmod(0o644)
    assert "database's mode" not in faults(settings)  # nobody gets through its folder
    settings.data_dir.chmod(0o755)
    found = faults(settings)["database's mode"]
    assert str(path) in found.found
    subprocess.run(command_in(found.mend, "chmod"), check=True)
    assert "database's mode" not in faults(settings)


def book(settings: Settings, *ends: tuple[str, int]) -> None:
    """Attempts under a credential that is stored as `acme`, by the error and status with which they ended."""
    writer = JournalWriter(settings.journal_dir, "gateway")
    for number, (error, status) in enumerate(ends, 1):
        begun, end = attempt(number)
        writer.begin(begun)
        writer.end(replace(end, error=error or None, status=status, ended_at_us=time.time_ns() // 1000))
    writer.close()
    site = open_site(settings)
    Drain(site.engine, settings.journal_dir, load_default_prices()).step()
    credential_id = site.directory.add_credential("acme", "sandbox-canary-acme", "anthropic")
    with site.engine.begin() as connection:
        connection.execute(ledger.update().values(credential_id=credential_id))
    site.engine.dispose()


def test_a_credential_that_was_refused_last_is_told_until_a_check_finds_it_to_work(settings: Settings) -> None:
    book(settings, ("", 200), ("authentication_error", 401))
    found = faults(settings)["credential acme"]
    assert "401 authentication_error" in found.found
    assert command_in(found.mend, "tenantry credentials check") == ["tenantry", "credentials", "check", "acme"]
    site = open_site(settings)
    site.directory.credential_works("acme")
    site.engine.dispose()
    assert faults(settings) == {}


def test_a_credential_that_was_served_since_is_well(settings: Settings) -> None:
    book(settings, ("authentication_error", 401), ("", 200))
    assert faults(settings) == {}


def test_a_credential_out_of_money_is_told_with_its_cure(settings: Settings) -> None:
    writer = JournalWriter(settings.journal_dir, "gateway")
    until = "2099-01-01T00:00:00+00:00"
    tell(writer, LiveHealth(credentials_dead={"acme": until}, credentials_spent=["acme"]))
    found = faults(settings)["credential acme"]
    assert found.found == f"out of money upstream until {until}"
    assert command_in(found.mend, "tenantry credentials check") == ["tenantry", "credentials", "check", "acme"]
    tell(writer, LiveHealth())
    assert faults(settings) == {}
    writer.close()


def test_a_site_that_has_served_and_does_not_is_told(settings: Settings) -> None:
    assert "running" not in [one.check for one in all_faults(settings)]  # it waits for its first start
    writer = JournalWriter(settings.journal_dir, "gateway")
    tell(writer, LiveHealth())
    assert "running" not in [one.check for one in all_faults(settings)]
    writer.close()
    [found] = [one for one in all_faults(settings) if one.check == "running"]
    assert command_in(found.mend, "tenantry") == ["tenantry", "serve"]


def test_a_backup_that_is_too_old_or_was_never_made_is_told(settings: Settings) -> None:
    site = open_site(settings)
    assert check_backup(site.engine).ok
    late = datetime.now(UTC) + timedelta(days=8, minutes=1)
    assert "none was ever made" in check_backup(site.engine, late).found
    site.directory.audit("site.backup", "backup.tar", {})
    assert check_backup(site.engine).ok
    found = check_backup(site.engine, late)
    assert (found.ok, found.found) == (False, "the newest is 8 days old")
    assert command_in(found.mend, "tenantry backup")
    site.engine.dispose()


# Upstreams, the clock, certificates


def bind(settings: Settings, upstream: str, base_url: str) -> None:
    """A tenant whose requests go there."""
    site = open_site(settings)
    site.directory.set_upstream(upstream, base_url)
    site.directory.add_credential("acme", "sandbox-canary-acme", upstream)
    site.directory.create_tenant("acme", "Acme", "standard")
    site.directory.bind_credential("acme", "acme")
    site.engine.dispose()


def test_an_upstream_whose_name_does_not_resolve_is_told_where_a_tenant_uses_it(settings: Settings) -> None:
    site = open_site(settings)
    site.directory.set_upstream("far", "https://no-such-host.invalid")
    site.engine.dispose()
    assert all_faults(settings) == []  # a site that uses the sandbox needs no network
    bind(settings, "far", "https://no-such-host.invalid")
    [found] = all_faults(settings)
    assert found.check == "upstream far"
    assert "the name no-such-host.invalid does not resolve" in found.found
    assert command_in(found.mend, "getent") == ["getent", "hosts", "no-such-host.invalid"]


@pytest.mark.sqlite
@pytest.mark.parametrize("off_seconds", [0, 3600, -3600])
def test_a_clock_that_is_off_from_an_upstream_s_is_told(settings: Settings, off_seconds: int) -> None:
    def answer(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            client.recv(4096)
            told = format_datetime(datetime.now(UTC) + timedelta(seconds=off_seconds), usegmt=True)
            client.sendall(f"HTTP/1.1 404 Not Found\r\ndate: {told}\r\ncontent-length: 0\r\n\r\n".encode())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        bind(settings, "near", f"http://127.0.0.1:{listener.getsockname()[1]}")
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        found = faults(settings)
    assert list(found) == (["clock against near"] if off_seconds else [])
    if off_seconds:
        assert re.search(r"it is (3599|3600|3601) s off", found["clock against near"].found)
        assert command_in(found["clock against near"].mend, "timedatectl")


@pytest.mark.parametrize(("days", "word"), [(60, ""), (5.01, "ends in 5 days"), (-1, "has ended")])
def test_a_certificate_that_is_about_to_end_is_told(settings: Settings, tmp_path: Path, days: float, word: str) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("main", "localhost")
    client = CertificateFiles("client", *authority.issue("client", "ai.client.example", days=days))
    with_tls = replace(settings, tls_cert_file=cert, tls_key_file=key, more_certificates=(client,))
    found = {one.check: one for one in all_faults(with_tls)}
    assert list(found) == (["certificate client"] if word else [])
    if word:
        assert word in found["certificate client"].found
        assert str(client.cert_file) in found["certificate client"].mend


def test_host_names_without_a_certificate_are_told(settings: Settings, tmp_path: Path) -> None:
    cert, key = Authority(tmp_path).issue("main", "claude.agency.example", "*.claude.agency.example")
    with_tls = replace(settings, tls_cert_file=cert, tls_key_file=key, public_domain="claude.agency.example")
    site = open_site(settings)
    site.directory.create_tenant("acme", "Acme", "standard")
    assert "host names" not in {one.check for one in examine(with_tls)}
    site.directory.set_tenant("acme", TenantChange(hosts=["ai.acme.example"]))
    site.engine.dispose()
    (told,) = [one for one in examine(with_tls) if one.check == "host names"]
    assert told.found.startswith("no certificate here is for ai.acme.example: ")
    assert "host names" not in {one.check for one in examine(settings)}


def test_a_certificate_that_cannot_be_used_is_told(settings: Settings, tmp_path: Path) -> None:
    cert, key = Authority(tmp_path).issue("main", "localhost")
    key.chmod(0o644)
    found = {one.check: one for one in all_faults(replace(settings, tls_cert_file=cert, tls_key_file=key))}
    assert list(found) == ["certificate"]
    assert f"chmod o-rwx {key}; a gateway that runs goes on" in found["certificate"].found


@pytest.mark.sqlite  # it changes tables, which other tests use again
def test_doctor_says_how_far_an_upgrade_is(settings: Settings, tmp_path: Path) -> None:
    with releases.becoming(tmp_path) as become:
        become(releases.EXPAND)
        engine = open_store(settings.store_url)
        migrate(engine)
        become(releases.EXPAND, releases.CONTRACT)
        assert "a last step of the schema waits" in of_database(settings)
        become()
        assert "schema of a later version, with which this one works" in of_database(settings)
        become(releases.EXPAND, releases.CONTRACT)
        migrate(engine)
        assert of_database(settings).endswith("schema current")
        engine.dispose()


def of_database(settings: Settings) -> str:
    """What it says of a database that can be used."""
    (found,) = [one for one in examine(settings) if one.check == "database"]
    assert found.ok
    return found.found
