"""Gateways of a site as its store has them, without processes."""

from __future__ import annotations

import time
from typing import Final

from tenantry.control.site import Site
from tenantry.domain.cells import Component
from tenantry.domain.doubts import Taken
from tenantry.storage.cells import CellStore
from tenantry.storage.leases import Lease

HOUR_US: Final = 3600 * 1_000_000
DOLLAR: Final = 1_000_000_000


def make_gateways(site: Site, slug: str) -> CellStore:
    """`gw-a` grants for a tenant, `gw-b` for nobody, and `gw-dead` has ended with two dollars of its budget taken."""
    store, now_us = CellStore(site.engine), time.time_ns() // 1000
    for number, name in enumerate(("gw-dead", "gw-a", "gw-b")):
        store.join(Lease(name, HOUR_US), f"127.0.0.1:{3100 + number}#ab", f"machine-{number}", now_us - HOUR_US)
    tenant = site.directory.get_tenant(slug)
    assert tenant.credential_id is not None
    component = Component({tenant.tenant_id: tenant.credential_id}, (tenant.credential_id,))
    assert store.claim("gw-dead", tenant.tenant_id, component, now_us) is not None
    store.take([Taken(tenant.tenant_id, "", "nanos", "gw-dead", 2 * DOLLAR, 0)])
    store.end(["gw-dead"])
    assert store.claim("gw-a", tenant.tenant_id, component, now_us) is not None
    return store
