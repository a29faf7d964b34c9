"""Totals of gateways are written once, the latest of each, however often and in whatever order they come."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, insert, select

from tenantry.domain.attempts import KeyUse, RefusalCount, Tally
from tenantry.ledger.tallies import book_tallies
from tenantry.storage.columns import now_utc
from tenantry.storage.tables import gateway_keys, refusals, tenants, tiers
from tests.template import new_store

KEYS = 300
AT_US = 1_793_577_600_000_000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = new_store(tmp_path / "x.db")
    at = now_utc()
    with made.begin() as connection:
        connection.execute(insert(tiers).values(name="t", limits="{}", created_at=at))
        tenant = {"tenant_id": "tnt", "slug": "a", "name": "a", "status": "active", "tier": "t", "limits": "{}"}
        connection.execute(insert(tenants).values(**tenant, created_at=at))
        same = {"tenant_id": "tnt", "label": "", "hint": "", "status": "active", "limits": "{}", "created_at": at}
        rows = [same | {"key_id": f"key_{one}", "digest": str(one).encode()} for one in range(KEYS)]
        connection.execute(insert(gateway_keys), rows)
    yield made
    made.dispose()


def booked(engine: Engine, tallies: list[Tally], run: str = "run") -> None:
    with engine.begin() as connection:
        book_tallies(connection, run, tallies)


def uses(engine: Engine) -> dict[str, tuple[datetime | None, str | None, str | None]]:
    columns = gateway_keys.c
    query = select(columns.key_id, columns.last_used_at, columns.last_used_address, columns.last_used_agent)
    with engine.connect() as connection:
        return {key_id: (at and at.replace(tzinfo=UTC), *rest) for key_id, at, *rest in connection.execute(query)}


def counts(engine: Engine) -> set[tuple[object, ...]]:
    with engine.connect() as connection:
        return {tuple(row) for row in connection.execute(select(refusals))}


@pytest.mark.parametrize("seed", range(5))
def test_the_latest_of_each_stays_in_whatever_order_and_batches_they_come(engine: Engine, seed: int) -> None:
    chance = random.Random(seed)
    told = [
        Tally(
            [RefusalCount(f"tnt_{number % 3}", "rate", number + 1, AT_US + number)],
            [KeyUse(f"key_{chance.randrange(4)}", AT_US + 1_000_000 * number, f"192.0.2.{number}", f"agent {number}")],
        )
        for number in range(30)
    ]
    latest = {tally.keys[0].key_id: tally.keys[0] for tally in told}
    chance.shuffle(told)
    while told:
        size = chance.randrange(1, 9)
        some, told = told[:size], told[size:]
        booked(engine, some)
        booked(engine, some)
    assert {key_id: found for key_id, found in uses(engine).items() if found[0] is not None} == {
        key_id: (datetime.fromtimestamp(use.at_us // 1_000_000, UTC), use.address, use.agent)
        for key_id, use in latest.items()
    }
    assert counts(engine) == {("run", f"tnt_{one}", "rate", 28 + one, AT_US + 27 + one) for one in range(3)}


def test_each_run_has_totals_of_its_own(engine: Engine) -> None:
    for run, count in (("run_1", 5), ("run_2", 3)):
        booked(engine, [Tally([RefusalCount("tnt", "rate", count, AT_US)], [])], run)
    assert counts(engine) == {("run_1", "tnt", "rate", 5, AT_US), ("run_2", "tnt", "rate", 3, AT_US)}


def test_many_keys_take_no_more_statements_than_one(engine: Engine) -> None:
    """One by one, the uses of ten thousand keys held the store's writer for seconds: who disabled a tenant then was
    told that the database is locked."""
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *words: statements.append(words[2]))
    taken: list[int] = []
    for size in (1, KEYS):
        statements.clear()
        refused = [RefusalCount(f"tnt_{one}", "rate", size, AT_US) for one in range(size)]
        used = [KeyUse(f"key_{one}", AT_US + size, "192.0.2.1", "agent") for one in range(size)]
        booked(engine, [Tally([one], [use]) for one, use in zip(refused, used, strict=True)])
        taken.append(len(statements))
    assert taken == [4, 4]  # totals known, what they grew by, totals, uses
    assert sum(found[0] is not None for found in uses(engine).values()) == KEYS
