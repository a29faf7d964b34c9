"""What a gateway asks the store for as it begins: who asks it for something meanwhile waits."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from tenantry.storage.leases import Lease
from tests.stack import until
from tests.unit.gateway.playbook import message
from tests.unit.gateway.test_moves import Side, run, two


def test_who_asks_while_a_gateway_takes_the_place_of_another_waits_for_the_store_and_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store tells others of it as soon as it has the cells, and that is before it has heard so itself."""

    async def work() -> None:
        async with two(tmp_path) as (a, _):
            new = Side(tmp_path, a.engine, "gw-new")
            rejoin, is_asked, may_answer = new.store.rejoin, threading.Event(), threading.Event()

            def answer_late(lease: Lease) -> tuple[dict[str, int], dict[str, str]]:
                is_asked.set()
                may_answer.wait()
                return rejoin(lease)

            monkeypatch.setattr(new.store, "rejoin", answer_late)
            beginning = asyncio.create_task(new.claimer.begin("there", "here", ["gw-a"]))
            await until(is_asked.is_set)
            assert a.store.owner_of("tnt_acme") == ("gw-new", "there")
            client = new.world.client()
            client.ask(message())
            may_answer.set()
            await beginning
            await new.claimer.claim_for(new.cells.take_sought())
            new.cells.answer(["tnt_acme"])
            new.world.turn()
            assert client.answers == []
            assert new.world.told[-2:] == ["journal begin", "connect"]
            new.asking.close()

    run(work)
