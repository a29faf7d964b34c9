"""Ledgers for tests: attempts written by the real journal and booked by the real drain."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, Outcome
from tenantry.domain.prices import load_default_prices
from tenantry.domain.usage import Usage
from tenantry.ledger.booking import Drain
from tenantry.ledger.journal import JournalWriter
from tenantry.storage.tables import ledger
from tests.template import new_store as new_store

HOUR_US = 3_600_000_000
# 2026-11-02 00:00 UTC, a Monday.
START_US = 1_793_577_600_000_000
PRICES = load_default_prices()
MODEL = "claude-haiku-5-5"

Attempt = tuple[AttemptBegun, AttemptEnded]


def attempt(number: int, at_us: int = START_US, tenant: str = "tnt_a", **changes: Any) -> Attempt:
    """One attempt that ended at `at_us`; `changes` are fields of its end, and `key` of its beginning."""
    key = changes.pop("key", "key_1")
    begun = AttemptBegun(
        f"att_{number}", f"req_{number}", tenant, key, "crd_1", "ups_1", MODEL, True, at_us - 1_500_000
    )
    end = AttemptEnded(
        begun.attempt_id,
        at_us,
        at_us - 1_000_000,
        200,
        Outcome.SETTLED,
        MODEL,
        "end_turn",
        Usage(input_tokens=1000, output_tokens=10),
        '{"input_tokens": 1000, "output_tokens": 10}',
        1_000 + number,
        "v1",
        f"req_up_{number}",
        None,
    )
    return begun, replace(end, **changes)


def random_attempts(seed: int, count: int, days: int = 40) -> list[Attempt]:
    chance = random.Random(seed)
    made: list[Attempt] = []
    for number in range(count):
        outcome = chance.choice([*[Outcome.SETTLED] * 5, Outcome.VOIDED, Outcome.ESTIMATED, Outcome.UNPRICED])
        usage = Usage(*(chance.randrange(5000) for _ in range(8)))
        made.append(
            attempt(
                number,
                START_US + chance.randrange(days * 24 * HOUR_US),
                chance.choice(["tnt_a", "tnt_b"]),
                key=chance.choice(["key_1", "key_2"]),
                outcome=outcome,
                usage=usage,
                cost_nanos=None if outcome is Outcome.UNPRICED else chance.randrange(10**10),
                model_served=chance.choice([MODEL, "claude-sonnet-5-5", None, "x" * 300]),
                error=chance.choice([None, "client_gone"]),
            )
        )
    return made


def book(engine: Engine, folder: Path, attempts: Sequence[Attempt], name: str = "gateway") -> None:
    """Write the attempts as one gateway run and drain it to its end."""
    writer = JournalWriter(folder / "journal", name)
    for begun, end in attempts:
        writer.begin(begun)
        writer.end(end)
    writer.close()
    Drain(engine, folder / "journal", PRICES).step()


def rows(engine: Engine) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(ledger).order_by(ledger.c.entry_id)).mappings()]
