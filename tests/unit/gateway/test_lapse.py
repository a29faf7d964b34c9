"""A lease runs out while nobody has heard from the store: what requests are told, and what stands in the journal."""

from __future__ import annotations

from pathlib import Path

from tests.unit.gateway.playbook import MODEL, World

ASK = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}


def ask(world: World) -> None:
    world.client().ask(ASK)
    world.turn()


def test_one_attempt_finds_that_the_lease_has_run_out_and_the_next_stand_in_no_journal(tmp_path: Path) -> None:
    world = World(tmp_path, is_one_of_several=True)
    world.own("tnt_acme")
    assert world.cells is not None
    ask(world)
    world.connecting[0].made()
    world.sent[-1].whole(200, b"{}")
    world.cells.tenure.until = world.time.now
    world.turn()
    del world.told[:]
    for _ in range(3):
        ask(world)
    refused = ["answer 503", "answer 503"]
    assert world.told == ["journal begin", "answer 503", "journal end voided store_away", *refused]
