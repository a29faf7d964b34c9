"""The stores that the bench measures with. The only file of the bench that knows how tenants are made."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from bench.processes import Proxy, free_port, start
from tenantry.control.init import init_site
from tenantry.control.site import Site, open_site
from tenantry.domain.keys import digest_key, new_gateway_key
from tenantry.settings import load_settings
from tenantry.storage.columns import new_id, now_utc
from tenantry.storage.tables import budgets, credentials, gateway_keys, tenants

# Limits that are counted and never reached.
AMPLE = {"sessions_max": 100_000, "requests_per_minute": 100_000_000, "request_burst": 1_000_000}
# Every kind of limit, ample.
TOKENS = {"input_tokens_per_minute": 1_000_000_000, "output_tokens_per_minute": 1_000_000_000}
OF_A_KEY = AMPLE | TOKENS | {"max_tokens_cap": 100_000, "models": ("claude-*",), "context_tokens_max": 900_000}
OF_A_TIER = OF_A_KEY | {
    "speeds": ("standard",),
    "inference_geos": ("global", "us"),
    "service_tiers": ("auto", "standard_only"),
    "server_tools": ("web_*",),
    "context_tokens_warn": 800_000,
    "tool_depth_alert": 1000,
}
BUDGET_NANOS = 10**15


@dataclass
class Stored:
    """A store of its own, with one busy tenant in it, and what else was asked for."""

    environ: dict[str, str]
    key: str = ""
    # Keys of the busy tenant that nobody has used.
    fresh: list[str] = field(default_factory=list[str])
    # A key of each other tenant.
    others: list[str] = field(default_factory=list[str])
    # Keys of a tenant with every kind of limit, and of one behind TLS.
    limited: str = ""
    tls: str = ""


def make_store(
    folder: Path,
    upstream: int,
    *,
    others: int = 0,
    capacity: dict[str, int] | None = None,
    fresh: int = 0,
    limited: bool = False,
    tls: tuple[int, Path] | None = None,
    store_url: str | None = None,
) -> Stored:
    """Everything on: authentication, limits, budgets, journal with sync, metering, pricing.

    `store_url`: of an empty database of PostgreSQL; without, it is a file of SQLite's. `tls` is the port of an upstream
    behind TLS and the certificate of its authority.
    """
    data = folder / f"data-{free_port()}"
    environ = {"TENANTRY_DATA_DIR": str(data)} | ({"TENANTRY_STORE_URL": store_url} if store_url else {})
    settings = load_settings(None, environ)
    init_site(settings)
    site = open_site(settings)
    stored = Stored(environ)
    site.directory.set_tier("bench", AMPLE)
    plain = f"http://127.0.0.1:{upstream}"
    upstream_id = site.directory.set_upstream("bench", plain, capacity=capacity, shares_capacity=capacity is not None)
    stored.key = _busy_tenant(site, "bench", "bench", "bench")
    stored.others = load_tenants(site, others, upstream_id, "bench") if others else []
    stored.fresh = _load_keys(site, "bench", fresh) if fresh else []
    if limited:
        site.directory.set_tier("limited", OF_A_TIER)
        site.directory.set_upstream("limited", plain, capacity=AMPLE | TOKENS, shares_capacity=True)
        stored.limited = _busy_tenant(site, "limited", "limited", "limited", OF_A_KEY)
    if tls is not None:
        site.directory.set_upstream("tls", f"https://localhost:{tls[0]}", str(tls[1]))
        stored.tls = _busy_tenant(site, "tls", "tls", "bench")
    site.engine.dispose()
    return stored


def _busy_tenant(site: Site, slug: str, upstream: str, tier: str, own: dict[str, Any] | None = None) -> str:
    """A tenant with a credential and a budget; its key, with limits and a budget of its own where `own` is given."""
    site.directory.create_tenant(slug, slug, tier)
    site.directory.add_credential(slug, f"sandbox-bench-credential-of-{slug}", upstream)
    site.directory.bind_credential(slug, slug)
    site.directory.set_budgets(slug, {"month": BUDGET_NANOS})
    key = site.directory.issue_key(slug, "bench", limits=own)
    if own:
        site.directory.set_budgets(slug, {"day": BUDGET_NANOS, "week": BUDGET_NANOS})
        site.directory.set_budgets(slug, {"day": BUDGET_NANOS}, key_id=key.key_id)
    return key.text


def start_gateway(
    stored: Stored,
    *before: str,
    core: int | None = None,
    python: str = sys.executable,
    module: str = "tenantry",
    port: int | None = None,
    **environ: str,
) -> Proxy:
    """The gateway alone on this store. `before` are words in front of its command; `port`: any that is free."""
    port = port or free_port()
    environ = stored.environ | environ | {"TENANTRY_GATEWAY_PORT": str(port)}
    return start("Tenantry", port, *before, python, "-m", module, "gateway", key=stored.key, core=core, **environ)


def start_control(stored: Stored, gateway: Proxy, core: int | None = None, python: str = sys.executable) -> Proxy:
    """The control process beside a gateway: it drains its journal."""
    port = free_port()
    environ = stored.environ | {"TENANTRY_GATEWAY_PORT": str(gateway.port), "TENANTRY_CONTROL_PORT": str(port)}
    return start("control", port, python, "-m", "tenantry", "control", core=core, **environ)


def load_tenants(site: Site, count: int, upstream_id: str, tier: str) -> list[str]:
    """Make `count` tenants in one transaction, each with a credential, a key and a budget of its own; their keys."""
    keys: list[str] = []
    now = now_utc()
    address = next(one.base_url for one in site.directory.list_upstreams() if one.upstream_id == upstream_id)
    credential_rows, tenant_rows, key_rows, budget_rows = [], [], [], []
    for number in range(count):
        slug = f"bench-{number}"
        credential_id, tenant_id = new_id("crd"), new_id("tnt")
        secret = f"sandbox-bench-credential-{number}"
        sealed = site.vault.seal(secret, credential_id, address)
        credential_rows.append(
            {
                "credential_id": credential_id,
                "name": slug,
                "upstream_id": upstream_id,
                "shared": False,
                "fingerprint": site.vault.fingerprint(secret),
                "master_key_id": sealed.master_key_id,
                "wrapped_key": sealed.wrapped_key,
                "ciphertext": sealed.ciphertext,
                "hint": "...",
                "created_at": now,
            }
        )
        tenant_rows.append(
            {
                "tenant_id": tenant_id,
                "slug": slug,
                "name": slug,
                "status": "active",
                "tier": tier,
                "limits": "{}",
                "credential_id": credential_id,
                "created_at": now,
            }
        )
        budget_rows.append(
            {
                "tenant_id": tenant_id,
                "key_id": "",
                "period": "month",
                "amount_nanos": BUDGET_NANOS,
                "created_at": now,
            }
        )
        text = new_gateway_key(slug)
        keys.append(text)
        key_rows.append(_key_row(site, tenant_id, text))
    with site.engine.begin() as connection:
        connection.execute(insert(credentials), credential_rows)
        connection.execute(insert(tenants), tenant_rows)
        connection.execute(insert(gateway_keys), key_rows)
        connection.execute(insert(budgets), budget_rows)
    return keys


def _load_keys(site: Site, slug: str, count: int) -> list[str]:
    """Make `count` keys of one tenant in one transaction."""
    texts = [new_gateway_key(slug) for _ in range(count)]
    with site.engine.begin() as connection:
        tenant_id = connection.execute(select(tenants.c.tenant_id).where(tenants.c.slug == slug)).scalar_one()
        connection.execute(insert(gateway_keys), [_key_row(site, tenant_id, text) for text in texts])
    return texts


def _key_row(site: Site, tenant_id: str, text: str) -> dict[str, Any]:
    return {
        "key_id": new_id("key"),
        "tenant_id": tenant_id,
        "label": "bench",
        "digest": digest_key(site.vault.pepper, text),
        "hint": "...",
        "status": "active",
        "limits": "{}",
        "created_at": now_utc(),
    }
