"""Of refused requests the newest are kept, each once, and nobody's flood takes the places of others."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tenantry.domain.attempts import RefusedRequest, Tally
from tenantry.ledger import refused
from tenantry.ledger.refused import KEPT_DAYS, find_refused, keep_refused, list_refused
from tests.template import new_store


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = new_store(tmp_path / "x.db")
    yield made
    made.dispose()


def one(number: int, tenant: str = "tnt_a") -> RefusedRequest:
    now_us = time.time_ns() // 1000
    return RefusedRequest(
        f"req_{tenant}_{number}", tenant, "key_1", now_us, 429, "rate_limit_error", "sessions_max", "claude-x"
    )


def keep(engine: Engine, some: Iterable[RefusedRequest]) -> None:
    with engine.begin() as connection:
        keep_refused(connection, [Tally([], [], [each]) for each in some])


def kept(engine: Engine, tenant: str | None = None) -> list[str]:
    listed = list_refused(engine, [tenant] if tenant is not None else None, None, 10_000)
    return [each.request_id for _, each in listed]


def test_a_refused_request_is_found_by_the_id_that_its_client_was_told(engine: Engine) -> None:
    told = one(1)
    keep(engine, [told, one(2)])
    keep(engine, [told])  # its line is read again
    assert find_refused(engine, told.request_id) == told
    assert find_refused(engine, "req_of_nobody") is None
    assert kept(engine) == ["req_tnt_a_2", "req_tnt_a_1"]


def test_a_flood_of_one_tenant_leaves_those_of_others(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused, "KEPT_OF_TENANT_MAX", 5)
    keep(engine, [one(1, "tnt_quiet"), one(1, "")])
    for first in range(0, 40, 8):
        keep(engine, [one(number) for number in range(first, first + 8)])
    assert kept(engine, "tnt_a") == [f"req_tnt_a_{number}" for number in range(39, 34, -1)]
    assert kept(engine, "tnt_quiet") == ["req_tnt_quiet_1"]
    assert kept(engine, "") == ["req__1"]


def test_in_all_no_more_are_kept_than_there_are_places_and_none_for_ever(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refused, "KEPT_MAX", 7)
    keep(engine, [one(1, f"tnt_{number}") for number in range(20)])
    assert len(kept(engine)) == 7
    old = replace(one(99), at_us=time.time_ns() // 1000 - (KEPT_DAYS + 1) * 86_400_000_000)
    keep(engine, [old])
    assert find_refused(engine, old.request_id) is None


def test_pages_of_them_together_are_all(engine: Engine) -> None:
    keep(engine, [one(number) for number in range(23)])
    found, before = list[str](), None
    while page := list_refused(engine, None, before, 5):
        found += [each.request_id for _, each in page]
        before = page[-1][0]
    assert found == kept(engine)
