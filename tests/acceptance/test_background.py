"""A process that has lost one of its tasks ends, loudly, and is started again."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import text

from tenantry.ledger.journal import JournalWriter
from tenantry.storage.database import copy_sqlite, open_store
from tenantry.storage.directory import Directory
from tests.stack import PATIENCE_SECONDS, Stack, listens, wait_for
from tests.unit.ledger.books import attempt, rows


def damaged(stack: Stack) -> JournalWriter:
    """A run whose cursor in the store is no number: whoever books it fails in a way that nobody foresaw."""
    writer = JournalWriter(stack.settings.journal_dir, "gateway")
    with stack.site.engine.begin() as connection:
        connection.execute(
            text(
                'INSERT INTO journals (run_id, file_number, "offset", seq, head_hash, damaged_lines) '
                "VALUES (:run, 1, 'damaged', 0, 'x', 0)"
            ),
            {"run": writer.run_id},
        )
    return writer


def test_a_dead_task_takes_the_control_process_down_and_serve_starts_it_again(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    writer = damaged(stack)
    with serving(stack) as log:
        wait_for(
            lambda: log.read_text().count("control ended with exit code 1; starting it again") >= 2, what="two restarts"
        )
        told = log.read_text()
        assert "the booking of journals has died (TypeError" in told
        assert "this process ends, to be started again" in told
    writer.close()


@contextlib.contextmanager
def serving(stack: Stack) -> Iterator[Path]:
    """`tenantry serve` on a site; the file of its log."""
    log = stack.folder / "serve.log"
    process = stack.serve(log)
    try:
        yield log
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
        stack.stop()


def status_of(stack: Stack, key: str) -> int:
    """0 where nobody answers."""
    try:
        return stack.message(key)[0]
    except OSError:
        return 0


def test_a_revocation_in_a_database_that_replaced_another_reaches_the_gateway(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    key = stack.tenant("acme")
    store, copy = stack.settings.data_dir / "tenantry.db", stack.settings.data_dir / "copy.db"
    with serving(stack) as log:
        wait_for(lambda: status_of(stack, key) == 200, what="an answer")
        copy_sqlite(stack.site.engine, copy)
        other = open_store(f"sqlite:///{copy}")
        Directory(other, stack.site.vault, "test").revoke_key(stack.site.directory.list_keys("acme")[0].key_id)
        with other.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        other.dispose()
        copy.replace(store)
        for end in ("-wal", "-shm"):
            store.with_name(store.name + end).unlink(missing_ok=True)
        wait_for(lambda: status_of(stack, key) == 403, what="the revocation")
        assert "The gateway ends: no change would reach it any more" in log.read_text()


def test_without_a_database_nobody_is_served_until_it_is_back(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    key = stack.tenant("acme")
    away = tmp_path / "away"
    with serving(stack) as log:
        wait_for(lambda: status_of(stack, key) == 200, what="an answer")
        away.mkdir()
        for path in stack.settings.data_dir.glob("tenantry.db*"):
            shutil.move(path, away)
        wait_for(lambda: "There is no database" in log.read_text(), what="what is missing")
        assert status_of(stack, key) == 0
        for path in away.iterdir():
            shutil.move(path, stack.settings.data_dir)
        wait_for(lambda: status_of(stack, key) == 200, what="an answer")


# A control of which a chore and a page never end.
NEVER_ENDING = """
import os, sys, threading
from tenantry import control_process
from tenantry.control.figures.days import DaySums
from tenantry.running import run
from tenantry.settings import load_settings
from tenantry.web import app

def hang(*_):
    print("hangs", flush=True)
    threading.Event().wait()

DaySums.warm = app.is_own_host = hang
control_process.STOP_SECONDS_MAX = 1.0
settings = load_settings(None, dict(os.environ))
sys.exit(run(settings, control_process.serve_control(settings)))
"""


def test_control_stops_though_a_page_and_a_chore_do_not_and_books_what_has_come(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    log = tmp_path / "control.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", NEVER_ENDING], env=os.environ | stack.environ, stdout=file, stderr=file
        )
    try:
        wait_for(lambda: listens(stack.settings.control_port), what="control")
        with socket.create_connection(("127.0.0.1", stack.settings.control_port)) as page:
            page.sendall(b"GET /tls/ask?domain=x HTTP/1.1\r\nhost: localhost\r\n\r\n")
            wait_for(lambda: log.read_text().count("hangs") == 2, what="both to hang")
            writer = JournalWriter(stack.settings.journal_dir, "gateway")
            begun, end = attempt(1)
            writer.begin(begun)
            writer.end(end)
            writer.close()
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
    assert "stopped while these went on: a chore, the web server" in log.read_text()
    assert [one["attempt_id"] for one in rows(stack.site.engine)] == ["att_1"]
