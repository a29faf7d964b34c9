"""Host names of clients' own: checked, and made a tenant's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, insert, select

from tenantry.domain.hosts import BadHost, check_host
from tenantry.storage.client_hosts import read_hosts
from tenantry.storage.directory.changes import AlreadyThere, DirectoryError
from tenantry.storage.many import rows_where
from tenantry.storage.tables import tenant_hosts, tenants

# A client has one or two; a certificate of Let's Encrypt takes a hundred (letsencrypt.org/docs/rate-limits).
HOSTS_MAX = 100


def check_hosts(hosts: Sequence[str]) -> None:
    """Raises: DirectoryError: one of them is no name, or stands there twice."""
    for host in hosts:
        try:
            check_host(host)
        except BadHost as error:
            raise DirectoryError(f"host {host!r} {error}") from None
    if len(set(hosts)) != len(hosts) or len(hosts) > HOSTS_MAX:
        raise DirectoryError(f"a tenant has at most {HOSTS_MAX} hosts, each of them once")


def require_free(connection: Connection, wanted: Sequence[Mapping[str, str]]) -> None:
    """Whether nobody has the hosts of these rows but the tenants that they are for. Raises: AlreadyThere."""
    asked: dict[str, str] = {}
    for row in wanted:
        if asked.setdefault(row["host"], row["tenant_id"]) != row["tenant_id"]:
            raise AlreadyThere(f"host {row['host']} is wanted by two tenants: a name is one tenant's")
    columns = (tenant_hosts.c.host, tenant_hosts.c.tenant_id)
    for row in rows_where(connection, columns, tenant_hosts.c.host, list(asked)):
        if row.tenant_id != asked[row.host]:
            slug = connection.execute(select(tenants.c.slug).where(tenants.c.tenant_id == row.tenant_id)).scalar()
            raise AlreadyThere(f"host {row.host} is {slug}'s already: a name is one tenant's")


def put_hosts(connection: Connection, tenant_id: str, hosts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Make these a tenant's hosts; those before and those after. Raises: AlreadyThere."""
    before, after = list(read_hosts(connection, [tenant_id]).get(tenant_id, ())), sorted(hosts)
    rows = [{"host": host, "tenant_id": tenant_id} for host in after if host not in before]
    require_free(connection, rows)
    own = tenant_hosts.c.tenant_id == tenant_id
    connection.execute(delete(tenant_hosts).where(own, tenant_hosts.c.host.not_in(after)))
    if rows:
        connection.execute(insert(tenant_hosts), rows)
    return before, after
