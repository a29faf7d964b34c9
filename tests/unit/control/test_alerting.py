"""Deliveries to a real HTTP target on loopback, that is down, slow, wrong, and comes back."""

import contextlib
import hmac
import json
import logging
import resource
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from tenantry.control import alerting
from tenantry.control.alerting import Message, send, signature, trial_message
from tenantry.control.apprise_urls import is_apprise_url
from tenantry.control.courier import Courier
from tenantry.domain.alerts import Alert, AlertKind
from tenantry.ledger.outbox import (
    BACKOFF_US_MAX,
    KEPT_US,
    LEASE_US,
    SECOND_US,
    Outbox,
    backoff_us,
)
from tenantry.storage.changes import StoreChanges
from tenantry.storage.directory import Directory, DirectoryError, NotInDirectory
from tenantry.storage.directory.alert_targets import OpenTarget
from tenantry.storage.tables import alert_deliveries, alert_targets
from tenantry.storage.vault import Vault
from tests.stack import PATIENCE_SECONDS, wait_for
from tests.template import new_store

# Apprise imports it on a Python that still has it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

START_US = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()) * SECOND_US


class Target:
    """An HTTP server that keeps what it gets. `status` 0 drops the connection; while `answers` is not set, it waits."""

    def __init__(self) -> None:
        self.status = 204
        self.answers = threading.Event()
        self.answers.set()
        self.got: list[tuple[dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                outer.answers.wait()
                if outer.status:
                    self.send_response(outer.status)
                    self.send_header("content-length", "0")
                    self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hooks/a-secret-path?token=t0ps3cret"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def ids(self) -> list[str]:
        return [headers["x-tenantry-delivery"] for headers, _ in self.got]

    def close(self) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()


class Site:
    """A store, a clock that a test sets, and couriers."""

    def __init__(self, folder: Path) -> None:
        self.engine: Engine = new_store(folder / "tenantry.db")
        self.directory = Directory(self.engine, Vault(bytes(32)), "test")
        self.outbox = Outbox(self.engine)
        self.now_us = START_US

    def courier(self) -> Courier:
        changes = StoreChanges(self.engine)
        return Courier(self.outbox, self.directory, lambda: self.now_us, changes=changes)

    def alert(self, number: int) -> None:
        self.outbox.raise_alert(Alert(AlertKind.SPEND_SPIKE, "acme", f"message {number}", f"o{number}"), self.now_us)

    def step(self, courier: Courier) -> int:
        """One round of a courier to its end; the number of deliveries that were taken."""
        before = self.statuses().count("sent")
        courier.step()
        assert courier.wait(PATIENCE_SECONDS)
        return self.statuses().count("sent") - before

    def statuses(self) -> list[str]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(alert_deliveries.c.status)).scalars())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.engine.dispose()


@pytest.fixture
def target() -> Iterator[Target]:
    made = Target()
    yield made
    made.close()


def verify(secret: str, header: str, body: bytes, now: float) -> bool:
    """What docs/alerts.md gives to receivers, as it stands there."""
    page = (Path(__file__).parents[3] / "docs" / "alerts.md").read_text("utf-8")
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)  # noqa: S102 -- our own page
    return names["verify"](secret, header, body, now)


def test_a_webhook_gets_signed_json_once(site: Site, target: Target) -> None:
    secret = site.directory.set_alert_target("ops", "webhook", target.url)
    assert secret is not None
    site.alert(1)
    courier = site.courier()
    assert (site.step(courier), site.step(courier)) == (1, 0)
    headers, body = target.got[0]
    now = site.now_us // SECOND_US
    assert verify(secret, headers["x-tenantry-signature"], body, now)
    assert not verify(secret, headers["x-tenantry-signature"], body + b" ", now)
    assert not verify(secret, headers["x-tenantry-signature"], body, now + 301)
    assert not verify("whsec-other", headers["x-tenantry-signature"], body, now)
    document = json.loads(body)
    assert (document["message"], document["kind"]) == ("message 1", "spend_spike")
    assert document["delivery_id"] == headers["x-tenantry-delivery"]
    assert site.statuses() == ["sent"]


@pytest.mark.sqlite
@pytest.mark.parametrize("fault", [500, 302, 404, 0])
def test_a_target_that_is_down_for_an_hour_misses_nothing_and_gets_nothing_twice(
    site: Site, target: Target, fault: int
) -> None:
    site.directory.set_alert_target("ops", "webhook", target.url)
    target.status = fault
    courier = site.courier()
    for second in range(0, 3600, 30):
        if second % 600 == 0:
            site.alert(second)
        site.step(courier)
        site.now_us += 30 * SECOND_US
    tries = len(target.got)
    assert 10 < tries < 60  # patient, and not silent
    assert site.statuses() == ["waiting"] * 6
    target.got.clear()
    target.status = 200
    for _ in range(11):
        site.step(courier)
        site.now_us += 30 * SECOND_US
    assert [json.loads(body)["message"] for _, body in target.got] == [f"message {n * 600}" for n in range(6)]
    assert len(set(target.ids)) == 6
    assert site.statuses() == ["sent"] * 6


def test_a_target_that_nobody_listens_on_is_told_in_words_without_its_url(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    gone = Target()
    gone.close()
    site.directory.set_alert_target("ops", "webhook", gone.url)
    site.directory.set_alert_target("chat", "apprise", f"json://user:pass-canary@127.0.0.1:{gone.port}/canary-path")
    site.alert(1)
    with caplog.at_level(logging.DEBUG):
        site.step(site.courier())
    assert "alert target ops: it cannot be reached" in caplog.text
    assert "alert target chat: the service did not take it" in caplog.text
    with site.engine.connect() as connection:
        stored = repr([tuple(row) for row in connection.execute(select(alert_deliveries))])
        stored += repr([tuple(row) for row in connection.execute(select(alert_targets))])
    stored += repr([row.detail for row in site.directory.list_audit()])
    for secret in ("a-secret-path", "t0ps3cret", "pass-canary", "canary-path"):
        assert secret not in caplog.text
        assert secret not in stored


def test_a_target_that_does_not_answer_is_cut_off(site: Site, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerting, "SEND_SECONDS_MAX", 1.0)
    monkeypatch.setattr(alerting, "_CONNECT_SECONDS_MAX", 0.6)
    target.answers.clear()
    site.directory.set_alert_target("a-slow", "webhook", target.url)
    for number in range(3):
        site.alert(number)
    assert site.step(site.courier()) == 0
    assert len(target.got) == 1
    assert site.statuses() == ["waiting"] * 3


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is cut off for being slow while a test runs."""
    monkeypatch.setattr(alerting, "SEND_SECONDS_MAX", 10 * PATIENCE_SECONDS)
    monkeypatch.setattr(alerting, "_CONNECT_SECONDS_MAX", PATIENCE_SECONDS)


@pytest.mark.usefixtures("patient")
def test_a_slow_target_holds_up_no_other(site: Site, target: Target) -> None:
    quick, courier = Target(), site.courier()
    target.answers.clear()
    site.directory.set_alert_target("a-slow", "webhook", target.url)
    site.directory.set_alert_target("quick", "webhook", quick.url)
    for number in range(3):
        site.alert(number)
    courier.step()
    wait_for(lambda: len(quick.got) == 3, what="all of the quick one's while the slow one is waited for")
    assert len(target.got) <= 1
    courier.stop()
    target.answers.set()
    assert courier.wait(PATIENCE_SECONDS)
    quick.close()


@pytest.mark.usefixtures("patient")
def test_a_slow_target_holds_up_nothing_that_is_raised_for_another_meanwhile(site: Site, target: Target) -> None:
    quick, courier = Target(), site.courier()
    target.answers.clear()
    site.directory.set_alert_target("a-slow", "webhook", target.url)
    for number in range(250):  # more than are looked at in a round
        site.alert(number)
    courier.step()
    site.directory.set_alert_target("quick", "webhook", quick.url)
    for number in range(3):
        site.alert(1000 + number)
        wait_for(lambda number=number: courier.step() >= 0 and len(quick.got) > number, what="it, at the quick one")
    courier.stop()
    target.answers.set()
    assert courier.wait(PATIENCE_SECONDS)  # the delivery that is under way ends
    assert len(target.got) == 1
    assert site.statuses().count("sent") == 4
    quick.close()


def test_what_a_store_or_a_sender_raises_ends_no_worker(site: Site, target: Target) -> None:
    site.directory.set_alert_target("ops", "webhook", target.url)
    site.alert(1)

    def fails(opened: OpenTarget, message: Message, at_us: int) -> str | None:
        if not target.got:
            send(opened, message, at_us)
            raise ValueError
        return send(opened, message, at_us)

    courier = Courier(site.outbox, site.directory, lambda: site.now_us, fails)
    assert site.step(courier) == 0
    site.now_us += LEASE_US
    assert site.step(courier) == 1


def test_a_target_that_drips_its_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerting, "SEND_SECONDS_MAX", 1.0)
    monkeypatch.setattr(alerting, "_CONNECT_SECONDS_MAX", 0.6)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            client, _ = server.accept()
            with client, contextlib.suppress(OSError):
                while True:  # until it is cut off
                    client.sendall(b"H")
                    time.sleep(0.1)

        threading.Thread(target=drip, daemon=True).start()
        opened = OpenTarget("tgt_1", "ops", "webhook", f"http://127.0.0.1:{server.getsockname()[1]}/", "whsec-x")
        assert send(opened, trial_message(START_US), START_US) is not None


def test_two_couriers_at_once_deliver_each_once(site: Site, target: Target) -> None:
    site.directory.set_alert_target("ops", "webhook", target.url)
    for number in range(40):
        site.alert(number)
    couriers = [site.courier() for _ in range(4)]
    for _ in range(8):
        threads = [threading.Thread(target=site.step, args=(courier,)) for courier in couriers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(target.got) == 40
    assert len(set(target.ids)) == 40
    assert set(site.statuses()) == {"sent"}


def test_a_courier_that_died_between_sending_and_marking_sends_again_under_the_same_id(
    site: Site, target: Target
) -> None:
    site.directory.set_alert_target("ops", "webhook", target.url)
    site.alert(1)

    def die(opened: OpenTarget, message: Message, at_us: int) -> str | None:
        send(opened, message, at_us)
        raise RuntimeError  # nothing is marked, as when its process dies

    assert site.step(Courier(site.outbox, site.directory, lambda: site.now_us, die)) == 0
    courier = site.courier()
    assert site.step(courier) == 0  # the lease of the dead one still runs
    site.now_us += LEASE_US
    assert site.step(courier) == 1
    assert len(target.got) == 2
    assert len(set(target.ids)) == 1
    assert target.got[0][1] == target.got[1][1]


def test_a_lease_that_was_lost_marks_nothing(site: Site, target: Target) -> None:
    site.directory.set_alert_target("ops", "webhook", target.url)
    site.alert(1)
    due = site.outbox.list_due(site.now_us)[0]
    old = site.outbox.lease(due.delivery_id, site.now_us)
    assert old is not None
    assert site.outbox.lease(due.delivery_id, site.now_us) is None
    new = site.outbox.lease(due.delivery_id, site.now_us + LEASE_US)
    assert new is not None
    assert not site.outbox.mark_sent(due.delivery_id, old, site.now_us)
    assert site.outbox.mark_sent(due.delivery_id, new, site.now_us)


def test_a_clock_that_was_set_back_does_not_hold_deliveries_up(site: Site, target: Target) -> None:
    site.directory.set_alert_target("ops", "webhook", target.url)
    target.status = 500
    site.alert(1)
    site.step(site.courier())
    target.status = 200
    site.now_us -= 86_400 * SECOND_US
    assert site.step(site.courier()) == 1


def test_after_a_week_a_delivery_is_given_up_and_said_so(
    site: Site, target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    site.directory.set_alert_target("ops", "webhook", target.url)
    target.status = 500
    site.alert(1)
    site.step(site.courier())
    site.now_us += KEPT_US + SECOND_US
    site.step(site.courier())
    assert site.statuses() == ["given_up"]
    assert "given up" in caplog.text


def test_the_backoff_doubles_to_five_minutes() -> None:
    assert [backoff_us(n) // SECOND_US for n in (1, 2, 3, 7, 8, 1000)] == [5, 10, 20, 300, 300, 300]
    assert backoff_us(10_000) == BACKOFF_US_MAX


def test_an_apprise_target_is_told_through_its_service(site: Site, target: Target) -> None:
    site.directory.set_alert_target("chat", "apprise", f"json://127.0.0.1:{target.port}/x")
    site.alert(7)
    assert site.step(site.courier()) == 1
    document = json.loads(target.got[0][1])
    assert document["title"] == "Tenantry: spend spike"
    assert document["message"] == "message 7\n(alert 1)"


class Service:
    """An HTTP service on loopback that answers with a head and parts, pausing after each."""

    def __init__(self, head: bytes, part: bytes = b"", count: int = 0, pause: float = 0.0) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.asked = 0
        self._answer = head, part, count, pause
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        head, part, count, pause = self._answer
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.asked += 1
            with client, contextlib.suppress(OSError):
                client.recv(65536)
                client.sendall(head)
                for _ in range(count):
                    client.sendall(part)
                    time.sleep(pause)

    def target(self) -> OpenTarget:
        return OpenTarget("tgt_1", "chat", "apprise", f"json://127.0.0.1:{self.port}/x", "")

    def close(self) -> None:
        self._server.close()


def children_kib() -> int:
    """The most memory that a child of this process has had."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


@pytest.mark.sqlite
def test_an_apprise_service_with_an_endless_answer_costs_a_process_of_bounded_memory() -> None:
    service = Service(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n", bytes(1 << 20), 900)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = send(service.target(), trial_message(START_US), START_US)
    service.close()
    assert error in ("its answer was too large", "the service did not take it")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    # Between fork and exec a child counts as large as who made it.
    assert children_kib() < max(600_000, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 1)


def test_an_apprise_service_that_drips_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerting, "SEND_SECONDS_MAX", 2.0)
    service = Service(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n", b"x", 10_000, 0.1)
    assert send(service.target(), trial_message(START_US), START_US) == "no answer in time"
    service.close()


@pytest.mark.sqlite
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_an_apprise_service_is_not_followed_and_not_taken_for_sent(status: int) -> None:
    elsewhere = Service(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    head = f"HTTP/1.1 {status} Go\r\nlocation: http://127.0.0.1:{elsewhere.port}/x\r\ncontent-length: 0\r\n\r\n"
    service = Service(head.encode())
    error = send(service.target(), trial_message(START_US), START_US)
    assert (error, service.asked, elsewhere.asked) == ("it answered with a redirect, which is not followed", 1, 0)
    service.close()
    elsewhere.close()


def test_an_apprise_process_gets_the_url_and_nothing_else_that_is_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ACME_KEY", "sk-ant-canary")
    seen = tmp_path / "seen"
    child = tmp_path / "child"
    child.write_text(f'#!/bin/sh\n(env; echo "$@") > {seen}\ncat > /dev/null\nprintf taken\n')
    child.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(child))
    assert send(Service(b"").target(), trial_message(START_US), START_US) is None
    assert "json://" not in seen.read_text()
    assert "sk-ant-canary" not in seen.read_text()


@pytest.mark.parametrize("url", ["", "garbage", "nosuch://x", "json://", "json://a, json://b", "x" * 5000])
def test_what_apprise_does_not_know_is_no_target(url: str) -> None:
    assert not is_apprise_url(url)


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("webhook", "http://example.com/x"),
        ("webhook", "ftp://example.com/x"),
        ("webhook", "https://user:pw@example.com/x"),
        ("webhook", "https://example.com:99999/x"),
        ("webhook", "https://"),
        ("webhook", "https://exa mple.com/"),
        ("webhook", "https://example.com/\r\nx: y"),
        ("webhook", "https://example.com/" + "x" * 5000),
        ("pigeon", "https://example.com/x"),
        ("apprise", "no-scheme"),
    ],
)
def test_a_url_that_cannot_be_is_refused_without_being_repeated(site: Site, kind: str, url: str) -> None:
    with pytest.raises(DirectoryError) as caught:
        site.directory.set_alert_target("ops", kind, url)
    assert "example.com" not in str(caught.value)
    assert site.directory.list_alert_targets() == []


def test_a_target_is_set_once_changed_in_place_and_removed_with_what_waits(site: Site, target: Target) -> None:
    secret = site.directory.set_alert_target("ops", "webhook", target.url)
    audited = len(site.directory.list_audit())
    assert site.directory.set_alert_target("ops", "webhook", target.url) is None
    assert len(site.directory.list_audit()) == audited
    assert site.directory.set_alert_target("ops", "webhook", target.url + "2") is None
    assert site.directory.open_alert_target("ops").secret == secret
    site.alert(1)
    site.directory.remove_alert_target("ops")
    assert site.statuses() == []
    assert site.step(site.courier()) == 0
    with pytest.raises(NotInDirectory):
        site.directory.remove_alert_target("ops")


def test_the_signature_is_the_documented_one() -> None:
    assert signature("whsec-test", 1700000000, b"{}") == (
        "t=1700000000,v1=" + hmac.new(b"whsec-test", b"1700000000.{}", "sha256").hexdigest()
    )
