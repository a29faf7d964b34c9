"""Every row of the authentication table (DESIGN 4.3), through real sockets."""

import re

import pytest

from tenantry.domain.directory import TenantStatus
from tests.stack import Stack, request, wait_for

BODY = b'{"model":"claude-sonnet-5-5","max_tokens":8,"messages":[{"role":"user","content":"hi"}]}'


@pytest.fixture(scope="module")
def keys(stack: Stack) -> dict[str, str]:
    return {slug: stack.tenant(slug) for slug in ("acme", "globex", "shut")}


def post(stack: Stack, headers: dict[str, str], path: str = "/v1/messages") -> tuple[int, dict[str, str], bytes]:
    return stack.call("POST", path, headers, BODY)


@pytest.mark.parametrize("form", ["x-api-key", "bearer", "both"])
def test_a_key_is_accepted_in_either_header(stack: Stack, keys: dict[str, str], form: str) -> None:
    headers = {}
    if form != "bearer":
        headers["x-api-key"] = keys["acme"]
    if form != "x-api-key":
        headers["authorization"] = f"Bearer {keys['acme']}"
    assert post(stack, headers)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": "sk-proxy-acme-DUMMY"},
        {"authorization": "Bearer sk-proxy-acme-DUMMY"},
        {"authorization": "Basic c2stcHJveHk6"},
        {"authorization": "Bearer "},
        {"x-api-key": "x" * 5000},
    ],
)
def test_no_key_or_an_unknown_key_is_401(stack: Stack, headers: dict[str, str]) -> None:
    status, fields, body = post(stack, headers)
    assert (status, fields["x-should-retry"]) == (401, "false")
    assert b'"authentication_error"' in body


def test_two_different_keys_are_401(stack: Stack, keys: dict[str, str]) -> None:
    status, fields, _ = post(stack, {"x-api-key": keys["acme"], "authorization": f"Bearer {keys['globex']}"})
    assert (status, fields["x-should-retry"]) == (401, "false")


@pytest.mark.parametrize("key", ["sk-ant-oat01-DUMMY", "sk-ant-api03-DUMMY", "sk-ant-admin01-DUMMY"])
@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
def test_an_upstream_key_is_401_that_names_the_gateway_key_and_is_not_logged(
    stack: Stack, key: str, header: str
) -> None:
    status, _, body = post(stack, {header: f"Bearer {key}" if header == "authorization" else key})
    assert status == 401
    assert b"gateway key" in body
    assert key.encode() not in (stack.folder / "gateway.log").read_bytes()


def test_a_revoked_key_is_403(stack: Stack) -> None:
    key = stack.tenant("revoked")
    key_id = stack.site.directory.list_keys("revoked")[0].key_id
    stack.site.directory.revoke_key(key_id)
    wait_for(lambda: post(stack, {"x-api-key": key})[0] == 403, what="the revocation")
    assert post(stack, {"x-api-key": key})[1]["x-should-retry"] == "false"


def test_a_disabled_tenant_is_403_and_comes_back_with_the_same_key(stack: Stack, keys: dict[str, str]) -> None:
    stack.site.directory.set_tenant_status("shut", TenantStatus.DISABLED)
    wait_for(lambda: post(stack, {"x-api-key": keys["shut"]})[0] == 403, what="the disabling")
    stack.site.directory.set_tenant_status("shut", TenantStatus.ACTIVE)
    wait_for(lambda: post(stack, {"x-api-key": keys["shut"]})[0] == 200, what="the enabling")


def test_a_foreign_tenant_is_403_in_equal_bytes_whether_it_exists_or_not(stack: Stack, keys: dict[str, str]) -> None:
    answers = set()
    for headers, path in (
        ({"x-tenant-id": "globex"}, "/v1/messages"),
        ({"x-tenant-id": "nobody"}, "/v1/messages"),
        ({}, "/t/globex/v1/messages"),
        ({}, "/t/nobody/v1/messages"),
        ({"x-tenant-id": "acme"}, "/t/nobody/v1/messages"),
    ):
        raw = stack.raw(request("POST", path, {**headers, "x-api-key": keys["acme"], "connection": "close"}, BODY))
        assert raw.startswith(b"HTTP/1.1 403 ")
        answers.add(re.sub(rb"request-id: req_[0-9a-f]{24}", b"request-id: -", raw))
    assert len(answers) == 1


@pytest.mark.parametrize("how", ["header", "id", "path", "doubled"])
def test_the_own_tenant_may_be_named(stack: Stack, keys: dict[str, str], how: str) -> None:
    tenant_id = stack.site.directory.get_tenant("acme").tenant_id
    headers = {"x-api-key": keys["acme"]}
    path = "/v1/messages?beta=true"
    if how == "header":
        headers["x-tenant-id"] = "acme"
    elif how == "id":
        headers["x-tenant-id"] = tenant_id
    elif how == "path":
        path = "/t/acme" + path
    else:
        path = "/t/acme/v1" + path
    assert post(stack, headers, path)[0] == 200


def test_a_missing_tenant_identifier_is_400_where_it_is_required(tmp_path_factory: pytest.TempPathFactory) -> None:
    strict = Stack(tmp_path_factory.mktemp("strict"), TENANTRY_REQUIRE_TENANT_ID="true")
    try:
        key = strict.site.directory
        key.create_tenant("acme", "acme", "standard")
        key.bind_credential("acme", "sandbox")
        text = key.issue_key("acme", "").text
        strict.start("sandbox", "gateway")
        status, _, body = post(strict, {"x-api-key": text})
        assert status == 400
        assert b"Missing tenant identifier" in body
        assert post(strict, {"x-api-key": text, "x-tenant-id": "acme"})[0] == 200
        assert post(strict, {"x-api-key": text}, "/t/acme/v1/messages")[0] == 200
    finally:
        strict.stop()


def test_an_expired_key_is_403(stack: Stack, keys: dict[str, str]) -> None:
    from datetime import UTC, datetime, timedelta

    now, directory = datetime.now(UTC), stack.site.directory
    lasting = directory.issue_key("acme", "lasting", now + timedelta(hours=1)).text
    short = directory.issue_key("acme", "short", now + timedelta(seconds=1.5)).text
    wait_for(lambda: post(stack, {"x-api-key": lasting})[0] == 200, what="the key working")
    wait_for(lambda: post(stack, {"x-api-key": short})[0] == 403, what="the key expiring")
    assert post(stack, {"x-api-key": lasting})[0] == 200
