"""Thousands of tenants on one gateway: a change of one acts at once, and what is idle is bounded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from tenantry.domain.directory import TenantStatus
from tenantry.domain.keys import digest_key, new_gateway_key
from tenantry.storage.columns import new_id, now_utc
from tenantry.storage.tables import gateway_keys, tenants
from tests.stack import Stack, wait_for

MANY = 10_000
IDLE_MAX = 4


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path, TENANTRY_IDLE_UPSTREAM_CONNECTIONS_MAX=str(IDLE_MAX))
    yield made
    made.stop()


def add_tenants(stack: Stack, count: int) -> None:
    """Tenants that nobody serves, each with a key."""
    at = now_utc()
    of_tenants: list[dict[str, Any]] = []
    of_keys: list[dict[str, Any]] = []
    for number in range(count):
        slug, tenant_id = f"many-{number}", new_id("tnt")
        digest = digest_key(stack.site.vault.pepper, new_gateway_key(slug))
        common = {"status": "active", "limits": "{}", "created_at": at}
        of_tenants.append({"tenant_id": tenant_id, "slug": slug, "name": slug, "tier": "standard", **common})
        of_keys.append(
            {"key_id": new_id("key"), "tenant_id": tenant_id, "label": "x", "digest": digest, "hint": "x", **common}
        )
    with stack.site.engine.begin() as connection:
        connection.execute(insert(tenants), of_tenants)
        connection.execute(insert(gateway_keys), of_keys)


def test_a_change_of_one_of_ten_thousand_tenants_acts(stack: Stack) -> None:
    add_tenants(stack, MANY)
    stack.start("sandbox", "gateway")
    key = stack.tenant("acme")
    assert stack.message(key)[0] == 200
    for status, answer in ((TenantStatus.DISABLED, 403), (TenantStatus.ACTIVE, 200)):
        stack.site.directory.set_tenant_status("acme", status)
        wait_for(lambda answer=answer: stack.message(key)[0] == answer, what="the change")


def test_idle_connections_to_upstreams_never_pass_their_limit_and_nobody_is_down(stack: Stack) -> None:
    stack.start("sandbox", "gateway")
    keys = [stack.tenant(f"t{number}", secret=f"sandbox-canary-{number}") for number in range(3 * IDLE_MAX)]
    folder = f"/proc/{stack.processes['gateway'].pid}/fd"
    stack.message(keys[0])
    before = len(os.listdir(folder)) - 1  # the one that is idle now
    for key in [*keys, *keys]:
        assert stack.message(key)[0] == 200
        wait_for(lambda: len(os.listdir(folder)) <= before + IDLE_MAX, what="no more than the limit")
    assert stack.lanes().get("health", {}).get("upstreams_down", []) == []
