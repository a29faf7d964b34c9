"""A process that has lost one of its tasks ends, loudly, and is started again."""

import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from tenantry.ledger.journal import JournalWriter
from tests.stack import Stack, wait_for


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
    log = tmp_path / "serve.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tenantry", "serve"],
            env=os.environ | stack.environ,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            cwd=tmp_path,
        )
    try:
        wait_for(lambda: log.read_text().count("control ended with 1; starting it again") >= 2, 40, "two restarts")
        told = log.read_text()
        assert "the booking of journals has died (TypeError" in told
        assert "this process ends, to be started again" in told
    finally:
        process.terminate()
        process.wait(30)
        writer.close()
        stack.stop()
