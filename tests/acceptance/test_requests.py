"""Captured requests of real clients, replayed byte for byte but for the key; header rules both ways."""

import json
from pathlib import Path

import pytest

from tests.conftest import FIXTURES
from tests.stack import Stack, parse

CAPTURED = sorted((FIXTURES / "requests").glob("*.http"))


@pytest.fixture(scope="module")
def key(stack: Stack) -> str:
    return stack.tenant("captured")


@pytest.mark.parametrize("path", CAPTURED, ids=lambda path: path.stem)
def test_a_captured_request_is_served(stack: Stack, key: str, path: Path) -> None:
    raw = path.read_bytes()
    for dummy in (b"sk-gw-tenant-a-DUMMY", b"sk-ant-api03-DUMMY"):
        raw = raw.replace(dummy, key.encode())
    head, _, body = raw.partition(b"\r\n\r\n")
    raw = head.replace(b"Connection: keep-alive", b"Connection: close") + b"\r\n\r\n" + body
    is_head = raw.startswith(b"HEAD")
    status, fields, answer = parse(stack.raw(raw), is_head)
    assert status == 200
    if is_head:
        assert answer == b""
    elif b'"stream":true' in body:
        assert fields["content-type"].startswith("text/event-stream")
        assert answer.endswith(b"}\n\n")
    else:
        assert json.loads(answer)


def test_the_sandbox_sees_no_gateway_header_and_the_client_no_upstream_header(stack: Stack, key: str) -> None:
    status, fields, _ = stack.message(key)
    assert status == 200  # the sandbox answers 500 to anything that must not reach an upstream
    leaked = [
        name
        for name in fields
        if name.startswith(("anthropic-organization", "anthropic-workspace", "anthropic-priority", "cf-"))
    ]
    assert leaked == []
    # The tier has no limits, so there is no quota to tell, and the upstream's own is not told.
    assert not any(name.startswith("anthropic-ratelimit") for name in fields)
    assert "server" not in fields
    assert fields["request-id"].startswith("req_")
    assert "sandbox" not in fields["request-id"]


def test_identity_headers_of_the_client_do_not_pass(stack: Stack, key: str) -> None:
    headers = {
        "x-api-key": key,
        "x-tenant-id": "captured",
        "cookie": "a=b",
        "x-forwarded-for": "192.0.2.1",
        "proxy-authorization": "Basic eA==",
        "accept-encoding": "gzip, br",
    }
    body = b'{"model":"claude-sonnet-5-5","max_tokens":8,"messages":[]}'
    assert stack.call("POST", "/v1/messages", headers, body)[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1"),
        ("POST", "/v1/complete"),
        ("GET", "/v1/messages"),
        ("POST", "/v1/models"),
        ("GET", "/v1/organizations/me"),
        ("POST", "/v1/messages/"),
        ("POST", "/V1/messages"),
        ("GET", "/t/captured"),
        ("GET", "/t/captured/"),
        ("POST", "/v1/messages/../messages"),
        ("GET", "/v1/models/a%2fb"),
        ("GET", "/v1/models/../messages"),
        ("DELETE", "/v1/models/claude-opus-5-5"),
        ("POST", "/v1/v1/v1/messages"),
    ],
)
def test_everything_else_is_404_in_the_apis_shape(stack: Stack, key: str, method: str, path: str) -> None:
    status, _, body = stack.call(method, path, {"x-api-key": key})
    assert status == 404
    assert json.loads(body)["error"]["type"] == "not_found_error"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "JSON object"),
        (b"null", "JSON object"),
        (b"{}", "model: Field required"),
        (b'{"model":1,"max_tokens":1}', "model"),
        (b'{"model":"","max_tokens":1}', "model"),
        (b'{"model":"m"}', "max_tokens: Field required"),
        (b'{"model":"m","max_tokens":"1"}', "max_tokens"),
        (b'{"model":"m","max_tokens":-1}', "max_tokens"),
        (b'{"model":"m","max_tokens":1,"stream":"yes"}', "stream"),
        (b'\xff\xfe{"model"', "not valid JSON"),
        (b'{"model":"\xff","max_tokens":1}', "not valid JSON"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_a_bad_body_is_400_that_names_the_fault(stack: Stack, key: str, body: bytes, words: str) -> None:
    before = len(stack.billed())
    headers = {"x-api-key": key, **({} if body else {"content-length": "0"})}
    status, _, answer = stack.call("POST", "/v1/messages", headers, body)
    assert status == 400
    assert words in json.loads(answer)["error"]["message"]
    assert len(stack.billed()) == before


def test_an_upstream_connection_is_used_again(stack: Stack, key: str) -> None:
    """Ten requests, one after the other, need one connection; the sandbox's end of it is told apart by its port."""
    before = upstream_ports(stack)
    for _ in range(10):
        assert stack.message(key)[0] == 200
    assert len(upstream_ports(stack) - before) <= 1


def upstream_ports(stack: Stack) -> set[str]:
    """Local ports of every connection to the sandbox that is open or was closed in the last minute."""
    sandbox = f":{stack.settings.sandbox_port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {line[1] for line in lines if line[2].endswith(sandbox)}
