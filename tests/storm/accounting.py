"""The books of a storm: what the ledger says against the upstream's own log, and what the gateway's process holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.stack import Stack, wait_for
from tests.storm.upstream import Upstream

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def add_tenant(
    stack: Stack,
    slug: str,
    upstream: Upstream,
    *,
    fallback: Upstream | None = None,
    budget_nanos: int | None = None,
    upstream_settings: dict[str, Any] | None = None,
    **limits: Any,
) -> str:
    """A tenant with a credential of its own on `upstream`; its key, once the gateway knows it."""
    directory = stack.site.directory
    for number, one in enumerate((upstream, fallback)):
        if one is None:
            continue
        name, secret = f"{slug}-{number}", f"storm-secret-of-{slug}-{number}"
        directory.set_upstream(f"port-{one.port}", one.url, **(upstream_settings or {}))
        directory.add_credential(name, secret, f"port-{one.port}")
    directory.set_tier("open", {"sessions_max": 1000, "requests_per_minute": None})
    directory.create_tenant(slug, slug, "open")
    directory.bind_credential(slug, f"{slug}-0")
    if fallback is not None:
        directory.bind_credential(slug, f"{slug}-1", as_fallback=True)
    if limits:
        set_limits(stack, slug, **limits)
    if budget_nanos is not None:
        directory.set_budgets(slug, {"month": budget_nanos})
    key = directory.issue_key(slug, "storm").text
    if "gateway" in stack.processes:
        wait_for(lambda: knows(stack, key), what="the key")
    return key


def knows(stack: Stack, key: str) -> bool:
    """Whether the gateway lets the key in."""
    return stack.get(key, "/v1/models")[0] == 200


def set_limits(stack: Stack, slug: str, **limits: Any) -> None:
    from tenantry.storage.directory.tenants import TenantChange

    stack.site.directory.set_tenant(slug, TenantChange(limits=limits))


def booked_nanos(stack: Stack, slug: str) -> int:
    """The ledger's sum for a tenant. What has no price counts as nothing."""
    return sum(row["cost_nanos"] or 0 for row in stack.rows(slug))


def held_nanos(stack: Stack, slug: str) -> int:
    tenant_id = stack.site.directory.get_tenant(slug).tenant_id
    return stack.lanes().get("tenants", {}).get(tenant_id, {}).get("held_nanos", 0)


def in_use(stack: Stack, slug: str) -> tuple[int, int]:
    """Sessions and waiting requests of a tenant, as the living gateway says."""
    tenant_id = stack.site.directory.get_tenant(slug).tenant_id
    use = stack.lanes().get("tenants", {}).get(tenant_id, {})
    return use.get("sessions", 0), use.get("waiting", 0)


def is_idle(stack: Stack, slug: str) -> bool:
    return in_use(stack, slug) == (0, 0) and held_nanos(stack, slug) == 0


def wait_for_rows(stack: Stack, slug: str, count: int) -> list[dict[str, Any]]:
    return wait_for(lambda: (found := stack.rows(slug)) and len(found) >= count and found, what=f"{count} rows")


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
