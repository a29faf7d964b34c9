"""Deadlines of a client's connection, on a clock that the test moves."""

from pathlib import Path
from typing import Any

import pytest

from tenantry.domain.directory import GatewayKey, KeyStatus, Snapshot, Tenant, TenantStatus
from tenantry.domain.keys import digest_key
from tenantry.domain.limits import Limits
from tenantry.domain.prices import load_default_prices
from tenantry.gateway.core import Gateway
from tenantry.gateway.server import ClientConnection
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.opening import Opening
from tenantry.settings import load_settings

PEPPER = b"p" * 32
KEY = b"sk-proxy-acme-DUMMY"


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.sent = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def abort(self) -> None:
        self.is_closed = True

    close = abort

    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        return

    def can_write_eof(self) -> bool:
        return False

    def resume_reading(self) -> None:
        return


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gateway(tmp_path: Path, clock: Clock) -> Gateway:
    digest = digest_key(PEPPER, KEY)
    tenant = Tenant("tnt_1", "acme", "Acme", TenantStatus.ACTIVE, "standard", Limits(), None)
    snapshot = Snapshot(1, {digest: GatewayKey("key_1", "tnt_1", digest, KeyStatus.ACTIVE)}, {"tnt_1": tenant})
    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path)}).gateway
    return Gateway(settings, snapshot, PEPPER, load_default_prices(), JournalWriter(tmp_path, "t"), Opening(0), clock)


def connect(gateway: Gateway) -> tuple[ClientConnection, Wire]:
    connection, wire = ClientConnection(gateway), Wire()
    connection.connection_made(wire)  # type: ignore[arg-type]
    return connection, wire


HEAD = b"POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: %b\r\ncontent-length: 1000000\r\n\r\n" % KEY


def test_a_body_slower_than_1_kib_a_second_is_408_and_a_faster_one_may_take_its_time(
    gateway: Gateway, clock: Clock
) -> None:
    slow, slow_wire = connect(gateway)
    steady, steady_wire = connect(gateway)
    slow.data_received(HEAD)
    steady.data_received(HEAD)
    for _ in range(90):
        clock.now += 1
        slow.data_received(b" " * 100)
        steady.data_received(b" " * 2000)
        gateway.sweep()
    assert slow_wire.sent.startswith(b"HTTP/1.1 408 ")
    assert steady_wire.sent == b""


def test_an_idle_connection_closes_after_75_seconds_and_an_unused_one_after_10(gateway: Gateway, clock: Clock) -> None:
    used, used_wire = connect(gateway)
    _, unused_wire = connect(gateway)
    used.data_received(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
    clock.now += 11
    gateway.sweep()
    assert unused_wire.is_closed
    assert not used_wire.is_closed
    clock.now += 65
    gateway.sweep()
    assert used_wire.is_closed


def test_a_tenant_without_a_credential_is_503_and_holds_no_session(gateway: Gateway) -> None:
    connection, wire = connect(gateway)
    body = b'{"model":"m","max_tokens":1}'
    connection.data_received(HEAD.replace(b"1000000", b"%d" % len(body)) + body)
    assert wire.sent.startswith(b"HTTP/1.1 503 ")
    assert gateway.lanes.in_flight() == 0
    assert gateway.exchanges == set()
