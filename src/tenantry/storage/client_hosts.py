"""Host names of clients' own, as rows keep them."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from tenantry.storage.tables import tenant_hosts


def read_hosts(connection: Connection, tenant_ids: Collection[str] | None = None) -> dict[str, tuple[str, ...]]:
    """The names of some tenants or of all, in order, by tenant's id; who has none is not in it."""
    query = select(tenant_hosts).order_by(tenant_hosts.c.host)
    if tenant_ids is not None:
        query = query.where(tenant_hosts.c.tenant_id.in_(tenant_ids))
    found: dict[str, tuple[str, ...]] = {}
    for row in connection.execute(query):
        found[row.tenant_id] = (*found.get(row.tenant_id, ()), row.host)
    return found
