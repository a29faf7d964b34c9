"""Two gateways that share nothing but a store and its secrets, as on two machines: what they say goes over TLS."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select, update

from tenantry.gateway.peers.certificate import serving_context
from tenantry.gateway.peers.places import Place, read_place
from tenantry.gateway.peers.proofs import (
    CALL_BYTES,
    GREETING_BYTES,
    MAGIC,
    NONCE_BYTES,
    derive_peer_key,
    proof_of_called,
    proof_of_caller,
    whom,
)
from tenantry.storage.cell_tables import gateways
from tenantry.storage.custody import open_vault
from tenantry.storage.key_files import KeyFiles
from tests import postgresql
from tests.acceptance.test_cells import MESSAGE, Pair
from tests.acceptance.test_hop import LONG, ask, exchange, plain
from tests.stack import parse, read_all, request, wait_for

pytestmark = pytest.mark.skipif(postgresql.binaries() is None, reason="PostgreSQL is not installed")
MIB = 1024 * 1024
# The largest that a message may be, but for what is said beside its text.
LARGE_BYTES = 32 * MIB - 4096
# Of the largest bodies a busy machine makes pauses that are longer than the other tests' lease.
LEASE_SECONDS = "8"
ADDRESSES = {"a": "127.0.0.2", "b": "127.0.0.3"}


class Machines(Pair):
    """`a` and `b` have data directories, journals and controls of their own; PostgreSQL is between them."""

    def __init__(self, folder: Path) -> None:
        self.database = f"machines_{os.getpid()}"
        self.url = postgresql.migrated_database(self.database)
        self.other = folder / "other"
        self.other.mkdir()
        super().__init__(folder, TENANTRY_STORE_URL=self.url, TENANTRY_LEASE_SECONDS=LEASE_SECONDS)

    def environ(self, name: str) -> dict[str, str]:
        own = {"TENANTRY_PEER_HOST": ADDRESSES[name]}
        if name == "b":
            data = self.other / "data"
            if not data.exists():
                data.mkdir(mode=0o700)
                shutil.copy2(self.stack.settings.master_key_file, data / "master.key")
            own |= {"TENANTRY_DATA_DIR": str(data)}
        return super().environ(name) | own

    def place(self, gateway_id: str) -> str:
        with self.stack.site.engine.connect() as connection:
            query = select(gateways.c.address).where(gateways.c.gateway_id == gateway_id)
            return str(connection.execute(query).scalar())

    @contextlib.contextmanager
    def said_to_be_at(self, gateway_id: str, place: Place) -> Generator[None]:
        """The store says that the gateway is elsewhere."""
        before = self.place(gateway_id)
        self._say(gateway_id, place.text())
        try:
            yield
        finally:
            self._say(gateway_id, before)

    def _say(self, gateway_id: str, address: str) -> None:
        with self.stack.site.engine.begin() as connection:
            connection.execute(update(gateways).where(gateways.c.gateway_id == gateway_id).values(address=address))

    def stop(self) -> None:
        super().stop()
        postgresql.drop_database(self.database)


class Impostor:
    """Listens where a gateway is said to be. `heard`: what came over TLS, if that was believed."""

    def __init__(self, says: bytes) -> None:
        self._says = says
        self._context, self.fingerprint = serving_context()
        self._listener = socket.create_server(("127.0.0.4", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.heard = b""
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with raw, contextlib.suppress(OSError):
                raw.settimeout(60)
                with self._context.wrap_socket(raw, server_side=True) as secure:
                    secure.sendall(self._says)
                    while more := secure.recv(4096):
                        self.heard += more

    def place(self, fingerprint: str) -> Place:
        return Place("127.0.0.4", self.port, True, fingerprint)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(60)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    found = Machines(tmp_path_factory.mktemp("machines"))
    yield found
    found.stop()


@pytest.fixture(scope="module")
def key(machines: Machines) -> str:
    """Of a tenant that gateway `a` grants for."""
    key = machines.tenant("acme", sessions_max=1000, requests_per_minute=100_000)
    assert machines.call("a", key)[0] == 200
    place = read_place(machines.place(machines.owner("acme")))
    assert place is not None
    assert (place.host, place.is_tls) == (ADDRESSES["a"], True)
    return key


def large(key: str, text: str) -> bytes:
    body = json.dumps(MESSAGE | {"messages": [{"role": "user", "content": text}]}).encode()
    return request("POST", "/v1/messages", {"x-api-key": key, "connection": "close"}, body)


def test_messages_streams_and_the_largest_bodies_are_answered_as_where_they_are_granted(
    machines: Machines, key: str
) -> None:
    for data in (ask(key), ask(key, stream=True), large(key, "large " * (LARGE_BYTES // 6))):
        direct, passed = (exchange(machines, name, data) for name in "ab")
        assert direct.startswith(b"HTTP/1.1 200 ")
        assert plain(passed) == plain(direct)


def test_a_large_body_that_the_other_machine_would_refuse_is_refused_before_it_comes(machines: Machines) -> None:
    key = machines.tenant("spent")
    assert machines.call("a", key)[0] == 200
    machines.stack.site.directory.set_budgets("spent", {"month": 1}, "hard")
    wait_for(lambda: machines.call("a", key)[0] == 402, what="the budget")
    head, _, _ = large(key, "large").partition(b"\r\n\r\n")
    head = re.sub(rb"content-length: \d+", b"content-length: %d" % LARGE_BYTES, head)
    found = [parse(exchange(machines, name, head + b"\r\n\r\n")) for name in "ab"]
    assert [status for status, _, _ in found] == [402, 402]
    assert [json.loads(body)["error"]["type"] for _, _, body in found] == ["billing_error", "billing_error"]


def test_requests_that_come_to_both_are_answered_once_each(machines: Machines, key: str) -> None:
    before, count = len(machines.stack.billed()), 64
    data = ask(key, stream=True), ask(key)

    def call(number: int) -> bytes:
        return exchange(machines, "ab"[number % 2], data[number // 2 % 2])

    with ThreadPoolExecutor(16) as pool:
        found = pool.map(call, range(count))
        assert {parse(one)[0] for one in found} == {200}
    assert len(machines.stack.billed()) == before + count


def test_a_client_that_leaves_is_seen_to_leave_on_the_other_machine(machines: Machines, key: str) -> None:
    machines.stack.final_rows("acme")
    count = len(machines.stack.rows("acme"))
    with machines.connect("b") as client:
        client.sendall(ask(key, LONG, stream=True, max_tokens=32_000))
        wait_for(lambda: b"message_start" in client.recv(65536), what="the stream")
    rows = machines.stack.final_rows("acme", count + 1)
    assert rows[-1]["error"].startswith("client_gone")


@pytest.mark.parametrize("is_named", [False, True], ids=["another certificate", "no proof"])
def test_an_impostor_is_told_nothing_and_the_request_waits_for_the_gateway_itself(
    machines: Machines, is_named: bool
) -> None:
    """It shows a certificate of its own; or the store even names that one, but it has not the site's secrets."""
    impostor = Impostor(MAGIC + b"n" * NONCE_BYTES + b"p" * NONCE_BYTES)
    slug = f"met-{is_named}".lower()
    key = machines.tenant(slug)  # of which `b` has not been told yet whose it is
    assert machines.call("a", key)[0] == 200
    owner = machines.owner(slug)
    honest = read_place(machines.place(owner))
    assert honest is not None
    with machines.connect("b") as client:
        with machines.said_to_be_at(owner, impostor.place(impostor.fingerprint if is_named else honest.mark)):
            client.sendall(ask(key))
            wait_for(lambda: impostor.connections >= 2, what="the impostor being called, and called again")
        assert parse(read_all(client))[0] == 200
    impostor.close()
    # A nonce of the caller's, and its proof, which is of use to nobody else.
    assert len(impostor.heard) % CALL_BYTES == 0
    assert bool(impostor.heard) is is_named
    assert key.encode() not in impostor.heard


def _strange(place: Place) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection((place.host, place.port), timeout=60))


def test_garbage_and_wrong_secrets_are_shut_out_and_the_gateway_goes_on(machines: Machines, key: str) -> None:
    owner = machines.owner("acme")
    place = read_place(machines.place(owner))
    assert place is not None
    forged = ask(key)
    for garbage in (b"\0" * 4096, forged, b"\x16\x03\x01\xff\xff" + os.urandom(2048)):
        with socket.create_connection((place.host, place.port), timeout=60) as raw:
            raw.sendall(garbage)
            assert b"HTTP" not in read_all(raw)
    for pepper in (b"q" * 32, None):
        with _strange(place) as stranger:
            greeting = stranger.recv(GREETING_BYTES)
            secret = derive_peer_key(pepper) if pepper else os.urandom(32)
            proof = proof_of_caller(secret, whom(owner, place.text()), greeting[len(MAGIC) :], b"n" * NONCE_BYTES)
            stranger.sendall(b"n" * NONCE_BYTES + proof + forged)
            assert read_all(stranger) == b""
    assert machines.call("b", key)[0] == 200


def test_who_has_the_secrets_is_heard_so_that_the_refusals_before_are_of_those_alone(
    machines: Machines, key: str
) -> None:
    owner = machines.owner("acme")
    place = read_place(machines.place(owner))
    assert place is not None
    files = KeyFiles(machines.stack.settings.master_key_file)
    files.load()
    secret = derive_peer_key(open_vault(machines.stack.site.engine, files).pepper)
    called = whom(owner, place.text())
    with _strange(place) as friend:
        its = friend.recv(GREETING_BYTES)[len(MAGIC) :]
        friend.sendall(b"n" * NONCE_BYTES + proof_of_caller(secret, called, its, b"n" * NONCE_BYTES))
        assert friend.recv(4096) == proof_of_called(secret, called, its, b"n" * NONCE_BYTES)
        friend.sendall(ask(key).replace(b"host:", b"x-tenantry-client: 203.0.113.9\r\nhost:", 1))
        assert re.match(rb"HTTP/1\.1 200 ", read_all(friend))


def test_a_client_is_told_when_the_other_machine_dies_in_the_middle_and_the_next_request_is_granted_here(
    machines: Machines, key: str
) -> None:
    """The last one: `a` is gone with it, and its control. Its lease has to run out: its journal cannot be read here."""
    first = machines.owner("acme")
    machines.stack.kill("control")
    with machines.connect("b") as client:
        client.sendall(ask(key, LONG, stream=True, max_tokens=32_000))
        got = b""
        while b"content_block_delta" not in got:
            got += client.recv(65536)
        machines.kill("a", signal.SIGKILL)
        got += read_all(client)
    assert b"event: error\ndata: " in got
    assert got.endswith(b"\r\n0\r\n\r\n")
    wait_for(lambda: machines.serves("b", key), what="the other machine serving")
    assert machines.owner("acme") != first
