"""Clients that break the protocol, are slow, vanish, or send ahead."""

import json
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.malformed_heads import MALFORMED, TOO_LONG_HEAD, TOO_MANY_FIELDS
from tests.stack import Stack, dechunk, parse, read_all, request, wait_for

BODY = b'{"model":"claude-sonnet-5-5","max_tokens":8,"messages":[{"role":"user","content":"hi"}]}'


@pytest.fixture(scope="module")
def key(stack: Stack) -> str:
    return stack.tenant("hostile")


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_head_is_400_and_close_with_nothing_upstream(stack: Stack, key: str, name: str) -> None:
    before = len(stack.billed())
    answer = stack.raw(MALFORMED[name].replace(b"K", key.encode()))
    status, fields, body = parse(answer)
    assert (status, fields["connection"]) == (400, "close")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert answer.count(b"HTTP/1.1 ") == 1
    assert len(stack.billed()) == before


def test_too_large_a_head_is_431_and_too_many_fields_400(stack: Stack) -> None:
    assert parse(stack.raw(TOO_LONG_HEAD))[0] == 431
    assert parse(stack.raw(TOO_MANY_FIELDS))[0] == 400


def test_a_body_over_32_mb_is_413_before_it_is_read(stack: Stack, key: str) -> None:
    head = request("POST", "/v1/messages", {"x-api-key": key, "content-length": str(32 * 1024 * 1024 + 1)})
    status, _, body = parse(stack.raw(head))
    assert status == 413
    assert json.loads(body)["error"]["type"] == "request_too_large"


def test_a_chunked_body_over_32_mb_is_413(stack: Stack, key: str) -> None:
    part = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    with stack.connect() as client:
        client.sendall(request("POST", "/v1/messages", {"x-api-key": key, "transfer-encoding": "chunked"}))

        def send() -> None:
            try:
                for _ in range(40):
                    client.sendall(part)
            except OSError:
                return

        sender = threading.Thread(target=send)
        sender.start()
        answer = read_all(client)
        sender.join()
    assert parse(answer)[0] == 413


@pytest.mark.parametrize("size", [b"2000001", b"7fffffffffffffff", b"ffffffffffffffff;x=y"])
def test_a_chunk_over_32_mb_is_413_when_its_size_has_come(stack: Stack, key: str, size: bytes) -> None:
    head = request("POST", "/v1/messages", {"x-api-key": key, "transfer-encoding": "chunked"})
    assert parse(stack.raw(head + b"2\r\n{}\r\n" + size + b"\r\n"))[0] == 413


def test_a_body_of_exactly_32_mb_passes(stack: Stack, key: str) -> None:
    body = BODY + b" " * (32 * 1024 * 1024 - len(BODY))
    assert stack.call("POST", "/v1/messages", {"x-api-key": key}, body)[0] == 200


def test_pipelined_requests_are_answered_in_order(stack: Stack, key: str) -> None:
    one = request("POST", "/v1/messages", {"x-api-key": key}, BODY)
    last = request("GET", "/healthz", {"connection": "close"})
    answers = stack.raw(b"\r\n" + one * 5 + request("HEAD", "/api/hello", {}) + last)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 7
    assert answers.endswith(b'{"status":"ok"}')


def test_chunked_request_bodies_are_understood(stack: Stack, key: str) -> None:
    coded = b"".join(b"%x\r\n%b\r\n" % (len(BODY[at : at + 7]), BODY[at : at + 7]) for at in range(0, len(BODY), 7))
    head = request("POST", "/v1/messages", {"x-api-key": key, "transfer-encoding": "chunked", "connection": "close"})
    assert parse(stack.raw(head + coded + b"0\r\n\r\n"))[0] == 200


def test_a_client_that_expects_is_told_to_continue(stack: Stack, key: str) -> None:
    head = request(
        "POST",
        "/v1/messages",
        {"x-api-key": key, "expect": "100-continue", "content-length": str(len(BODY)), "connection": "close"},
    )
    with stack.connect() as client:
        client.sendall(head)
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(BODY)
        assert parse(read_all(client))[0] == 200
    refused = head.replace(key.encode(), b"sk-proxy-x-DUMMY")
    assert parse(stack.raw(refused))[0] == 401
    assert parse(stack.raw(head.replace(b"100-continue", b"200-ok")))[0] == 417


def test_a_half_closed_client_gets_its_whole_answer(stack: Stack, key: str) -> None:
    body = BODY.replace(b'"max_tokens":8', b'"max_tokens":8,"stream":true')
    with stack.connect() as client:
        client.sendall(request("POST", "/v1/messages", {"x-api-key": key, "x-sandbox-scenario": "chunk-ms=20"}, body))
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
    assert b"event: message_stop" in answer
    assert answer.endswith(b"0\r\n\r\n")


def test_http_1_0_gets_a_body_that_ends_with_the_connection(stack: Stack, key: str) -> None:
    body = BODY.replace(b'"max_tokens":8', b'"max_tokens":8,"stream":true')
    raw = request("POST", "/v1/messages", {"x-api-key": key}, body).replace(b"HTTP/1.1", b"HTTP/1.0")
    answer = stack.raw(raw)
    assert b"transfer-encoding" not in answer
    assert b"event: message_stop" in answer


def test_a_slow_head_is_408_after_ten_seconds(stack: Stack) -> None:
    with stack.connect() as client:
        started = time.monotonic()
        for byte in b"POST /v1/mess":
            client.sendall(bytes([byte]))
            time.sleep(0.05)
        answer = read_all(client)
    assert parse(answer)[0] == 408
    assert time.monotonic() - started > 9


def test_a_client_that_vanishes_is_billed_exactly(stack: Stack, key: str) -> None:
    """The answer is read on, so the row is settled and not estimated."""
    before = len(stack.final_rows("hostile", 0))
    body = BODY.replace(b'"max_tokens":8', b'"max_tokens":8,"stream":true')
    with stack.connect() as client:
        headers = {"x-api-key": key, "x-sandbox-scenario": "chunks=150;chunk-ms=20"}
        client.sendall(request("POST", "/v1/messages", headers, body))
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # close with a reset
    row = wait_for(lambda: stack.rows("hostile")[before:], what="the row")[0]
    assert (row["outcome"], row["error"], row["stop_reason"]) == ("settled", "client_gone", "end_turn")


def test_a_slow_reader_does_not_fill_the_gateway(stack: Stack, key: str) -> None:
    before = resident_bytes(stack)
    body = BODY.replace(b'"max_tokens":8', b'"max_tokens":8,"stream":true')
    with stack.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        headers = {"x-api-key": key, "x-sandbox-scenario": "answer-bytes=16000000;chunks=3000", "connection": "close"}
        client.sendall(request("POST", "/v1/messages", headers, body))
        time.sleep(2)
        grown = resident_bytes(stack) - before
        answer = read_all(client)
    assert grown < 8_000_000
    text = b"".join(dechunk(answer.partition(b"\r\n\r\n")[2]))
    assert text.count(b"event: content_block_delta") == 3000
    assert b"event: message_stop" in text


def resident_bytes(stack: Stack) -> int:
    pages = Path(f"/proc/{stack.processes['gateway'].pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def test_tls_for_clients_is_two_settings(tmp_path: Path) -> None:
    cert, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            private,
            "-out",
            cert,
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ],
        check=True,
        capture_output=True,
    )
    site = Stack(tmp_path, TENANTRY_TLS_CERT_FILE=str(cert), TENANTRY_TLS_KEY_FILE=str(private)).start("gateway")
    try:
        context = ssl.create_default_context(cafile=str(cert))
        with context.wrap_socket(site.connect(), server_hostname="localhost") as client:
            client.sendall(request("GET", "/healthz", {"connection": "close"}))
            assert parse(read_all(client))[0] == 200
    finally:
        site.stop()
