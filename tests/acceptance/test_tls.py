"""TLS by the gateway itself: by name, renewed under traffic, and nothing of a handshake uncounted or endless."""

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anthropic
import httpx2
import pytest

from tenantry.control.doctor import examine
from tenantry.control.isolation.client import gateway_address
from tenantry.control.isolation.waiting import require_gateway
from tenantry.control.live_check import check_live
from tenantry.gateway.handshake_room import HANDSHAKES_PER_PEER_MAX
from tenantry.settings import load_settings
from tenantry.storage.directory.tenants import TenantChange
from tests.authority import Authority, replace
from tests.stack import PATIENCE_SECONDS, Stack, read_all, request, wait_for

DOMAIN = "claude.agency.example"
PEERS_MAX = 6


@dataclass
class Secured:
    stack: Stack
    authority: Authority
    key: str

    def connect(self, name: str = f"acme.{DOMAIN}") -> ssl.SSLSocket:
        return self.authority.client().wrap_socket(self.stack.connect(), server_hostname=name)

    def call(self, path: str = "/v1/models", host: str = "gateway.test", **more: str) -> bytes:
        data = request("GET", path, {"x-api-key": self.key, **more})
        return data.replace(b"gateway.test", host.encode())

    def ends(self, name: str = f"acme.{DOMAIN}") -> str:
        """Until when the certificate is good that is shown now."""
        with self.connect(name) as client:
            return str((client.getpeercert() or {})["notAfter"])

    def log(self) -> str:
        return (self.stack.folder / "gateway.log").read_text()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    main, client = authority.issue("main", DOMAIN, f"*.{DOMAIN}"), authority.issue("client", "ai.client.example")
    toml = folder / "tenantry.toml"
    toml.write_text(
        f'tls_cert_file = "{main[0]}"\ntls_key_file = "{main[1]}"\nconnections_per_peer_max = {PEERS_MAX}\n'
        f'public_domain = "{DOMAIN}"\npublic_url = "https://{DOMAIN}"\n'
        f'[certificates.client]\ncert_file = "{client[0]}"\nkey_file = "{client[1]}"\n'
    )
    stack = Stack(folder, TENANTRY_CONFIG=str(toml))
    key = stack.tenant("acme")
    stack.start("sandbox", "gateway")
    yield Secured(stack, authority, key)
    stack.stop()


def test_the_certificate_goes_by_the_name_that_is_asked_for(secured: Secured) -> None:
    for name in (f"acme.{DOMAIN}", "ai.client.example"):
        with secured.connect(name) as client:
            assert client.version() in ("TLSv1.2", "TLSv1.3")
            client.sendall(secured.call(connection="close"))
            assert b"200 OK" in read_all(client)
    with pytest.raises(ssl.SSLCertVerificationError):
        secured.connect("another.example")


def test_http_1_1_is_all_that_is_offered_and_tls_1_2_the_least(secured: Secured) -> None:
    context = secured.authority.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with context.wrap_socket(secured.stack.connect(), server_hostname=f"acme.{DOMAIN}") as client:
        assert client.selected_alpn_protocol() == "http/1.1"
    for version, works in (("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
        to = f"127.0.0.1:{secured.stack.port}"
        command = ["openssl", "s_client", version, "-cipher", "DEFAULT@SECLEVEL=0", "-connect", to]
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_SECONDS)
        assert (done.returncode == 0) is works, done.stderr


@pytest.fixture
def led_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name leads to this machine, as DNS would have it."""
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, *rest, **more: real("127.0.0.1", *rest, **more))


@pytest.mark.usefixtures("led_here")
def test_the_real_sdk_calls_a_tenants_host_over_tls_with_a_private_authority(secured: Secured) -> None:
    message = {"model": "claude-haiku-5-5", "max_tokens": 16, "messages": [{"role": "user", "content": "hi"}]}

    def client(host: str) -> anthropic.Anthropic:
        http = httpx2.Client(verify=secured.authority.client())
        base_url = f"https://{host}:{secured.stack.port}"
        return anthropic.Anthropic(base_url=base_url, api_key=secured.key, http_client=http, max_retries=0)

    for host in (f"acme.{DOMAIN}", DOMAIN, "ai.client.example"):
        with client(host) as served:
            assert served.messages.create(**message).usage.output_tokens > 0
            with served.messages.stream(**message) as stream:
                assert stream.get_final_message().stop_reason
    with client(f"globex.{DOMAIN}") as foreign, pytest.raises(anthropic.PermissionDeniedError):
        foreign.messages.create(**message)
    directory = secured.stack.site.directory
    directory.create_tenant("globex", "globex", "standard")
    directory.set_tenant("globex", TenantChange(hosts=["ai.client.example"]))
    with client("ai.client.example") as moved:
        wait_for(lambda: _is_refused(moved, message), what="the name being another's")
    directory.set_tenant("globex", TenantChange(hosts=[]))


def _is_refused(client: anthropic.Anthropic, message: dict[str, object]) -> bool:
    try:
        client.messages.create(**message)
    except anthropic.PermissionDeniedError:
        return True
    return False


def test_http_on_the_port_of_tls_gets_a_plain_answer(secured: Secured) -> None:
    with secured.stack.connect() as client:
        client.sendall(secured.call())
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 400 ")
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert told["error"]["message"] == "This address speaks HTTPS: use https:// in the URL."
    for noise in (b"\x00\x01\x02", b"\x80\x2e\x01"):
        with secured.stack.connect() as client:
            client.sendall(noise)
            assert read_all(client) == b""


def test_a_handshake_that_never_ends_is_counted_and_ended(secured: Secured) -> None:
    idle = [secured.stack.connect() for _ in range(PEERS_MAX - 1)]
    half = secured.stack.connect()
    half.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    with pytest.raises((ssl.SSLError, OSError)):
        secured.connect()
    began = time.monotonic()
    for one in (*idle, half):
        one.settimeout(PATIENCE_SECONDS)
        assert read_all(one) == b""
        one.close()
    assert time.monotonic() - began > 5
    wait_for(lambda: _answers(secured), what="room again")


def _answers(secured: Secured) -> bool:
    try:
        with secured.connect() as client:
            client.sendall(secured.call(connection="close"))
            return b"200 OK" in read_all(client)
    except OSError:
        return False


def test_handshakes_that_never_end_are_bounded_by_themselves_and_a_client_comes_in_beside_them(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert_file, key_file = authority.issue("main", DOMAIN, f"*.{DOMAIN}")
    stack = Stack(tmp_path, TENANTRY_TLS_CERT_FILE=str(cert_file), TENANTRY_TLS_KEY_FILE=str(key_file))
    secured = Secured(stack, authority, stack.tenant("acme"))
    stack.start("sandbox", "gateway")
    hello = client_hello(authority)
    with contextlib.ExitStack() as opened:
        opened.callback(stack.stop)
        wait_for(lambda: _answers(secured), 20, "an answer")
        begun: list[socket.socket] = []
        for _ in range(HANDSHAKES_PER_PEER_MAX + 60):
            begun.append(opened.enter_context(stack.connect()))
            begun[-1].sendall(hello)
        # Each has the server's part of it, or its end. Where this takes long, old ones have given way by now.
        for one in begun:
            wait_for_word(one)
        assert sum(not is_over(one) for one in begun) <= HANDSHAKES_PER_PEER_MAX
        # An old one gives way.
        wait_for(lambda: _answers(secured), 20, "an answer beside them")


def client_hello(authority: Authority) -> bytes:
    """How a handshake begins, and no more."""
    given, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        authority.client().wrap_bio(given, sent, server_hostname=DOMAIN).do_handshake()
    return sent.read()


def wait_for_word(client: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        client.recv(1)


def is_over(client: socket.socket) -> bool:
    """Whether the server has closed it by now."""
    client.setblocking(False)
    with contextlib.suppress(ConnectionResetError):
        try:
            while client.recv(65536):
                pass
        except BlockingIOError:
            return False
    return True


def test_commands_reach_their_gateway_before_dns_knows_its_name(secured: Secured) -> None:
    # The file holds the certificate of an authority that no store knows, and not the authority's own.
    settings = load_settings(secured.stack.folder / "tenantry.toml", secured.stack.environ)
    assert check_live(settings, "acme", secured.key).simulated
    require_gateway(gateway_address(settings))


def test_a_renewed_certificate_is_shown_without_a_connection_being_dropped(secured: Secured) -> None:
    body = {"model": "claude-sonnet-5-5", "max_tokens": 64, "stream": True}
    body["messages"] = [{"role": "user", "content": "hi"}]
    headers = {"x-api-key": secured.key, "x-sandbox-scenario": "chunks=60;chunk-ms=100", "connection": "close"}
    kept, streaming = secured.connect(), secured.connect()
    streaming.sendall(request("POST", "/v1/messages", headers, json.dumps(body).encode()))
    before = secured.ends()
    secured.authority.issue("main", DOMAIN, f"*.{DOMAIN}", days=80)
    wait_for(lambda: secured.ends() != before, what="the new certificate")
    kept.sendall(secured.call())
    assert b"200 OK" in kept.recv(65536)
    assert b"message_stop" in read_all(streaming)
    kept.close()
    streaming.close()


def test_a_broken_new_certificate_leaves_the_old_one_and_is_told_once_in_log_and_doctor(secured: Secured) -> None:
    before, folder = secured.ends("ai.client.example"), secured.stack.folder
    replace(folder / "client.key", b"broken")
    told = "certificate client: "
    wait_for(lambda: secured.log().count(told) == 1, what="the log")
    # It looks again, and has done so when it shows another that was renewed after.
    main = secured.ends()
    secured.authority.issue("main", DOMAIN, f"*.{DOMAIN}", days=75)
    os.kill(secured.stack.processes["gateway"].pid, signal.SIGHUP)
    wait_for(lambda: secured.ends() != main, what="the other certificate")
    assert secured.log().count(told) == 1
    assert secured.ends("ai.client.example") == before
    settings = load_settings(folder / "tenantry.toml", secured.stack.environ)
    (found,) = [one for one in examine(settings) if one.check == "certificate client"]
    assert not found.ok
    assert "goes on with what it has loaded before" in found.found
    secured.authority.issue("client", "ai.client.example", days=70)
    os.kill(secured.stack.processes["gateway"].pid, signal.SIGHUP)
    wait_for(lambda: secured.ends("ai.client.example") != before, what="the mended certificate")
    assert _answers(secured)
