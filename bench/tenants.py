"""A store with many tenants in it, each with a key and a credential of its own, for the bench."""

from __future__ import annotations

from sqlalchemy import insert

from tenantry.control.site import Site
from tenantry.domain.keys import digest_key, new_gateway_key
from tenantry.storage.columns import new_id, now_utc
from tenantry.storage.tables import credentials, gateway_keys, tenants


def load_tenants(site: Site, count: int, upstream_id: str, tier: str) -> list[str]:
    """Make `count` tenants in one transaction; their keys."""
    keys: list[str] = []
    now = now_utc()
    credential_rows, tenant_rows, key_rows = [], [], []
    for number in range(count):
        slug = f"bench-{number}"
        credential_id, tenant_id = new_id("crd"), new_id("tnt")
        secret = f"sandbox-bench-credential-{number}"
        sealed = site.vault.seal(secret, credential_id)
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
        text = new_gateway_key(slug)
        keys.append(text)
        key_rows.append(
            {
                "key_id": new_id("key"),
                "tenant_id": tenant_id,
                "label": "bench",
                "digest": digest_key(site.vault.pepper, text),
                "hint": "...",
                "status": "active",
                "limits": "{}",
                "created_at": now,
            }
        )
    with site.engine.begin() as connection:
        connection.execute(insert(credentials), credential_rows)
        connection.execute(insert(tenants), tenant_rows)
        connection.execute(insert(gateway_keys), key_rows)
    return keys
