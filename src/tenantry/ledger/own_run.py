"""Rows that no gateway wrote (corrections, lines out of quarantine): a run of their own, with its own chain."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, insert, update

from tenantry.ledger.rollup import COLUMNS, add_to_rollup
from tenantry.ledger.rows import FIRST_HASH, row_hash
from tenantry.storage.columns import now_utc
from tenantry.storage.server import Lock, take_turn
from tenantry.storage.tables import journals, ledger


class OwnRun:
    """The chain of one such booking. `seq` is the number of rows that were booked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._run_id = f"control-{time.time_ns():020d}-{os.getpid()}"
        self._head_hash = FIRST_HASH
        self.seq = 0

    def book(self, rows: list[dict[str, Any]], also: Callable[[Connection], object] | None = None) -> None:
        """Book rows, and do what goes with them in the same transaction.

        Raises:
            IntegrityError: an attempt of them is booked already; nothing of the call was.
        """
        seq, head_hash = self.seq, self._head_hash
        for row in rows:
            seq += 1
            row.update({"journal_run": self._run_id, "journal_seq": seq, "prev_hash": head_hash})
            head_hash = row["row_hash"] = row_hash(row)
        anchor = {"seq": seq, "head_hash": head_hash}
        with self._engine.begin() as connection:
            in_order(connection)
            connection.execute(insert(ledger), rows)
            add_to_rollup(connection, [[row.get(name) for name in COLUMNS] for row in rows])
            if self.seq == 0:
                start = {"file_number": 0, "offset": 0, "damaged_lines": 0, "closed_at": now_utc()}
                connection.execute(insert(journals).values(run_id=self._run_id, **start, **anchor))
            else:
                connection.execute(update(journals).where(journals.c.run_id == self._run_id).values(anchor))
            if also is not None:
                also(connection)
        self.seq, self._head_hash = seq, head_hash


def in_order(connection: Connection) -> None:
    """Let rows get their numbers in the order in which they are committed, so that "newer than" is a question of these.

    A lock of its own: on the table's, its vacuum would wait for who books every second.
    """
    take_turn(connection, Lock.BOOKING)
