"""The authentication table of DESIGN 4.3, line by line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tenantry.domain.directory import GatewayKey, KeyStatus, Snapshot, Tenant, TenantStatus
from tenantry.domain.errors import (
    ApiError,
    AuthenticationFailed,
    ConflictingKeys,
    ForeignTenant,
    KeyNotActive,
    MissingKey,
    MissingTenant,
    TenantDisabled,
    UpstreamKeyPresented,
)
from tenantry.domain.keys import digest_key
from tenantry.domain.limits import Limits
from tenantry.gateway.authentication import Principal, authenticate

PEPPER = b"p" * 32
AT_US = 1_795_608_000_000_000
NOW = datetime.fromtimestamp(AT_US / 1_000_000, UTC)
KEY, GLOBEX, OAT, RAW = b"sk-proxy-acme-A", b"sk-proxy-globex-B", b"sk-ant-oat01-x", b"sk-ant-api03-x"


def directory(tenant_status: TenantStatus = TenantStatus.ACTIVE, **of_key: Any) -> Snapshot:
    """Two tenants with a key each; `tenant_status` and `of_key` are acme's."""
    tenants = {
        f"tnt_{slug}": Tenant(f"tnt_{slug}", slug, slug, state, "test", Limits(), None)
        for slug, state in (("acme", tenant_status), ("globex", TenantStatus.ACTIVE))
    }
    keys: dict[bytes, GatewayKey] = {}
    for text, slug, more in ((KEY, "acme", of_key), (GLOBEX, "globex", {})):
        digest = digest_key(PEPPER, text)
        keys[digest] = GatewayKey(f"key_{slug}", f"tnt_{slug}", digest, **{"status": KeyStatus.ACTIVE, **more})
    return Snapshot(1, keys, tenants)


def ask(
    fields: dict[str, bytes], slug: bytes | None = None, snapshot: Snapshot | None = None, required: bool = False
) -> Principal:
    encoded = {name.replace("_", "-").encode(): text for name, text in fields.items()}
    return authenticate(encoded, slug, snapshot or directory(), PEPPER, required, AT_US)


@pytest.mark.parametrize(
    "fields",
    [
        {"x_api_key": KEY},
        {"authorization": b"Bearer " + KEY},
        {"authorization": b"bearer  " + KEY},
        {"x_api_key": KEY, "authorization": b"Bearer " + KEY},
        {"x_api_key": KEY, "x_tenant_id": b"acme"},
        {"x_api_key": KEY, "x_tenant_id": b"tnt_acme"},
    ],
)
@pytest.mark.parametrize("slug", [None, b"acme"])
def test_the_own_key_is_its_tenants(fields: dict[str, bytes], slug: bytes | None) -> None:
    principal = ask(fields, slug)
    assert (principal.tenant.slug, principal.key.key_id) == ("acme", "key_acme")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, MissingKey),
        ({"x_api_key": b""}, MissingKey),
        ({"authorization": b"Bearer"}, MissingKey),
        ({"authorization": b"Basic " + KEY}, MissingKey),
        ({"x_api_key": KEY, "authorization": b"Basic " + KEY}, MissingKey),
        ({"x_api_key": b"sk-proxy-acme-C"}, AuthenticationFailed),
        ({"x_api_key": KEY[:-1]}, AuthenticationFailed),
        ({"x_api_key": KEY + b"A"}, AuthenticationFailed),
        ({"x_api_key": KEY + b", " + GLOBEX}, AuthenticationFailed),
        ({"x_api_key": b"x" * 513}, AuthenticationFailed),
        ({"x_api_key": KEY, "authorization": b"Bearer " + GLOBEX}, ConflictingKeys),
        ({"x_api_key": GLOBEX, "authorization": b"Bearer " + KEY}, ConflictingKeys),
        ({"x_api_key": KEY, "authorization": b"Bearer nobodys"}, ConflictingKeys),
        ({"x_api_key": b"", "authorization": b"Bearer " + KEY}, ConflictingKeys),
        ({"x_api_key": OAT}, UpstreamKeyPresented),
        ({"x_api_key": RAW}, UpstreamKeyPresented),
        ({"authorization": b"Bearer " + OAT}, UpstreamKeyPresented),
        ({"x_api_key": KEY, "authorization": b"Bearer " + OAT}, UpstreamKeyPresented),
        ({"x_api_key": RAW, "authorization": b"Bearer " + KEY}, UpstreamKeyPresented),
    ],
)
def test_who_shows_no_key_of_this_gateway_is_nobody(fields: dict[str, bytes], error: type[ApiError]) -> None:
    with pytest.raises(ApiError) as caught:
        ask(fields)
    assert (type(caught.value), caught.value.status) == (error, 401)
    assert caught.value.tenant_id is None
    assert (b"x-should-retry", b"false") in caught.value.headers()


def test_a_long_text_is_not_even_looked_up() -> None:
    long = b"x" * 513
    known = directory()
    digest = digest_key(PEPPER, long)
    known.keys[digest] = GatewayKey("key_long", "tnt_acme", digest, KeyStatus.ACTIVE)
    with pytest.raises(AuthenticationFailed):
        ask({"x_api_key": long}, snapshot=known)


@pytest.mark.parametrize(
    "of_key",
    [{"status": KeyStatus.REVOKED}, {"expires_at": NOW}, {"expires_at": NOW - timedelta(seconds=1)}],
)
@pytest.mark.parametrize("slug", [None, b"acme", b"globex"])
def test_a_key_that_is_revoked_or_whose_time_is_over_is_refused_and_counted(
    of_key: dict[str, Any], slug: bytes | None
) -> None:
    with pytest.raises(KeyNotActive) as caught:
        ask({"x_api_key": KEY}, slug, directory(**of_key))
    assert (caught.value.status, caught.value.tenant_id) == (403, "tnt_acme")


def test_a_key_works_to_the_end_of_its_time() -> None:
    assert ask({"x_api_key": KEY}, snapshot=directory(expires_at=NOW + timedelta(seconds=1))).key.key_id == "key_acme"


def test_a_disabled_tenant_is_refused_and_counted() -> None:
    with pytest.raises(TenantDisabled) as caught:
        ask({"x_api_key": KEY}, snapshot=directory(TenantStatus.DISABLED))
    assert (caught.value.status, caught.value.tenant_id) == (403, "tnt_acme")


@pytest.mark.parametrize(
    ("slug", "named"),
    [
        (b"globex", None),
        (b"nobody", None),
        (b"globex", b"acme"),
        (b"globex", b"globex"),
        (b"acme", b"globex"),
        (b"acme", b"tnt_globex"),
        (None, b"globex"),
        (None, b"tnt_globex"),
        (None, b"nobody"),
        (None, b"ACME"),
        (None, b""),
        (b"acm", None),
    ],
)
@pytest.mark.parametrize("required", [False, True])
def test_a_key_under_another_tenants_name_is_refused_in_the_bytes_of_one_that_does_not_exist(
    slug: bytes | None, named: bytes | None, required: bool
) -> None:
    with pytest.raises(ForeignTenant) as caught:
        ask({"x_api_key": KEY} | ({"x_tenant_id": named} if named is not None else {}), slug, required=required)
    # Nothing of it is counted for anybody: the counters of a tenant would tell that it exists.
    assert (caught.value.status, caught.value.tenant_id) == (403, None)
    assert caught.value.body("req_1") == ForeignTenant().body("req_2")


def test_a_tenant_has_to_be_named_where_that_is_asked_for() -> None:
    with pytest.raises(MissingTenant):
        ask({"x_api_key": KEY}, required=True)
    assert ask({"x_api_key": KEY}, b"acme", required=True).tenant.slug == "acme"
    assert ask({"x_api_key": KEY, "x_tenant_id": b"acme"}, required=True).tenant.slug == "acme"


def test_another_pepper_knows_no_key() -> None:
    with pytest.raises(AuthenticationFailed):
        authenticate({b"x-api-key": KEY}, None, directory(), b"q" * 32, False, AT_US)


def test_the_tenant_that_a_host_names_has_to_be_the_keys_wherever_else_it_is_named() -> None:
    def at(host_slug: bytes | None, slug: bytes | None = None, required: bool = False, **fields: bytes) -> str:
        named = {b"x-api-key": KEY} | {name.replace("_", "-").encode(): text for name, text in fields.items()}
        return authenticate(named, slug, directory(), PEPPER, required, AT_US, host_slug).tenant.slug

    assert at(b"acme") == at(b"acme", b"acme") == at(b"acme", x_tenant_id=b"tnt_acme") == "acme"
    assert at(b"acme", required=True) == "acme"  # the host names it
    nearly = ((b"acm", None), (b"acmee", None), (b"acm", b"acme"))
    for refused in ((b"globex", None), (b"globex", b"acme"), (b"acme", b"globex"), (b"nobody", None), *nearly):
        with pytest.raises(ForeignTenant):
            at(*refused)
    with pytest.raises(ForeignTenant):
        at(b"globex", x_tenant_id=b"acme")


SLOTTED = directory(slot="writer")


@pytest.mark.parametrize("named", [None, b"acme", b"acme.writer"])
@pytest.mark.parametrize("header", [None, b"acme", b"acme.writer", b"tnt_acme"])
def test_a_key_of_a_slot_is_taken_where_its_slot_its_tenant_or_nobody_is_named(
    named: bytes | None, header: bytes | None
) -> None:
    fields = {"x_api_key": KEY} | ({"x_tenant_id": header} if header is not None else {})
    assert ask(fields, named, SLOTTED).key.slot == "writer"


@pytest.mark.parametrize("named", [b"acme.reader", b"globex", b"globex.writer", b"acme.write", b"acme.writer.x", b"a"])
def test_a_key_of_a_slot_is_refused_at_every_other_endpoint_as_at_a_foreign_tenants(named: bytes) -> None:
    for fields, slug in (({"x_api_key": KEY}, named), ({"x_api_key": KEY, "x_tenant_id": named}, None)):
        with pytest.raises(ForeignTenant):
            ask(fields, slug, SLOTTED)


@pytest.mark.parametrize("named", [b"acme.writer", b"acme."])
def test_a_key_of_the_whole_tenant_is_no_slots(named: bytes) -> None:
    with pytest.raises(ForeignTenant):
        ask({"x_api_key": KEY}, named)
    with pytest.raises(ForeignTenant):
        ask({"x_api_key": KEY, "x_tenant_id": named})


def test_a_slot_in_the_path_names_the_tenant_where_one_must_be_named() -> None:
    assert ask({"x_api_key": KEY}, b"acme.writer", SLOTTED, required=True).tenant.slug == "acme"
