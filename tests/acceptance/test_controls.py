"""Two control processes of one site on PostgreSQL: one works, the other follows it, and nothing is done twice."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.control.leading import BOOKING_FILE, holder_of
from tenantry.ledger.verification import verify
from tenantry.storage.controls import ControlRecord, ControlStore
from tests import postgresql
from tests.spawner import Process, spawn
from tests.stack import PATIENCE_SECONDS, Stack, free_ports, listens, wait_for
from tests.unit.control.test_alerting import Target

pytestmark = pytest.mark.skipif(postgresql.binaries() is None, reason="PostgreSQL is not installed")


class Site:
    """A stack with two controls on one data directory, by their process ids."""

    def __init__(self, stack: Stack, target: Target) -> None:
        self.stack = stack
        self.target = target
        self.store = ControlStore(stack.site.engine)
        self.controls: list[Process] = []
        for _ in range(2):
            self.start()

    def start(self) -> None:
        (port,) = free_ports(1)
        with (self.stack.folder / "control.log").open("ab") as log:
            environ = os.environ | self.stack.environ | {"TENANTRY_CONTROL_PORT": str(port)}
            self.controls.append(spawn("control", env=environ, cwd=self.stack.folder, stdout=log, stderr=log))
        wait_for(lambda: listens(port), what="control listening")

    def live(self) -> list[ControlRecord]:
        return [one for one in self.store.list_controls() if one.is_live]

    def leader(self) -> ControlRecord:
        """Of the machine and of the site alike."""

        def found() -> ControlRecord | None:
            booking = holder_of(self.stack.settings.data_dir / BOOKING_FILE)
            leading = [one for one in self.live() if one.is_leading and one.is_booking]
            return leading[0] if leading and booking and booking.control_id == leading[0].control_id else None

        return wait_for(found, what="a leader")

    def told(self, slug: str) -> list[str]:
        """The deliveries about a tenant, as often as they came."""
        bodies = [json.loads(body) for _, body in self.target.got]
        return [body["delivery_id"] for body in bodies if body["tenant"] == slug]

    def spend(self, slug: str) -> None:
        """A new tenant passes its budget: rows and an alert follow, from whoever leads."""
        key = self.stack.tenant(slug)
        directory = self.stack.site.directory
        directory.set_budgets(slug, {"month": 1}, mode="soft")
        directory.set_thresholds(slug, [100])
        assert self.stack.message(key)[0] == 200
        wait_for(lambda: self.stack.rows(slug), what="the row")
        wait_for(lambda: self.told(slug), what="the alert")

    def process_of(self, one: ControlRecord) -> Process:
        return next(process for process in self.controls if process.pid == one.pid)

    def end(self) -> None:
        for one in self.controls:
            one.send_signal(signal.SIGCONT)
            one.kill()
            one.wait(PATIENCE_SECONDS)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    name, target = f"controls_{os.getpid()}_{tmp_path.name}"[:60], Target()
    stack = Stack(tmp_path, TENANTRY_STORE_URL=postgresql.migrated_database(name)).start("sandbox", "gateway")
    stack.site.directory.set_alert_target("ops", "webhook", target.url)
    made = Site(stack, target)
    yield made
    made.end()
    stack.stop()
    target.close()
    postgresql.drop_database(name)


def test_of_two_controls_one_works_and_whoever_is_killed_or_stopped_is_followed(site: Site) -> None:
    first = site.leader()
    site.spend("before")
    stopped = site.process_of(first)
    stopped.send_signal(signal.SIGSTOP)
    site.spend("while-one-is-stopped")
    second = site.leader()
    assert second.control_id != first.control_id
    stopped.send_signal(signal.SIGCONT)
    wait_for(lambda: len(site.live()) == 2, what="the first one being there again")
    site.spend("after")
    assert site.leader().control_id == second.control_id
    site.process_of(second).kill()
    site.spend("while-one-is-dead")
    assert site.leader().control_id == first.control_id
    slugs = ("before", "while-one-is-stopped", "after", "while-one-is-dead")
    assert {slug: Counter(site.told(slug)).total() for slug in slugs} == dict.fromkeys(slugs, 1)
    assert {slug: len(site.stack.rows(slug)) for slug in slugs} == dict.fromkeys(slugs, 1)
    assert verify(site.stack.site.engine).fault_count == 0
