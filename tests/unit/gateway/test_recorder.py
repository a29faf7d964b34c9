"""What the gateway says of a journal that cannot be written, on a disk that is nearly full."""

import asyncio
import logging
from pathlib import Path

import pytest

from tenantry.domain.attempts import Tally
from tests.unit.gateway.playbook import World, message, whole_answer


def test_a_disk_that_is_full_now_and_then_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World(tmp_path)
    recorder = world.parts.recorder
    with caplog.at_level(logging.WARNING):
        for number in range(20):
            world.disk.works = number % 2 == 1
            recorder.tally(Tally([], []))
            world.turn()
            assert recorder.works is world.disk.works
        assert len(caplog.messages) == 1
        world.time.now += 60.0
        recorder.tally(Tally([], []))
        world.turn()
    assert caplog.messages[1:] == ["the journal can be written again; it could not 10 times"]


def test_a_journal_that_can_be_written_again_is_found_out_without_a_request(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.disk.works = False
    world.parts.recorder.tally(Tally([], []))
    world.turn()
    assert not world.process.live.head().health.journal_works
    world.disk.works = True
    world.process.tell_tallies()
    world.turn()
    assert world.process.live.head().health.journal_works


def test_a_gateway_that_stops_waits_for_its_disk_as_for_its_requests(tmp_path: Path) -> None:
    """What an answer has cost is known to it alone until that is written."""

    async def work() -> None:
        world = World(tmp_path)
        world.client().ask(message())
        world.turn()
        world.connecting[0].made()
        world.disk.works = False
        world.sent[-1].whole(200, whole_answer())
        world.turn()
        world.parts.population.connections.clear()  # its client has left
        stopping = asyncio.create_task(world.process.drain(30))
        await asyncio.sleep(0.2)
        assert not stopping.done()
        world.disk.works = True
        world.parts.recorder.flush()
        await stopping
        assert [kind for kind, _ in world.disk.events] == ["begin", "end"]

    asyncio.run(work())
