"""What the gateway says of a journal that cannot be written, on a disk that is nearly full."""

import logging
from pathlib import Path

import pytest

from tenantry.domain.attempts import Tally
from tests.unit.gateway.playbook import World


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
