"""Whose figures are asked for: of every tenant, or of those that somebody is confined to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tenantry.control.site import Site
from tenantry.domain.proof import is_of_proof
from tenantry.storage.records import TenantRecord


@dataclass(frozen=True, slots=True)
class Scope:
    """The tenants that may be seen, by slug, and whether they are all there are. The isolation proof's are no clients.

    What belongs to tenants that left is in the sums of the whole site, and in nobody's list.
    """

    tenants: Mapping[str, TenantRecord]
    is_whole: bool

    @property
    def ids(self) -> list[str] | None:
        """For a selection of rows; None: every row."""
        return None if self.is_whole else [one.tenant_id for one in self.tenants.values()]

    def slug_of(self, tenant_id: str) -> str | None:
        return next((one.slug for one in self.tenants.values() if one.tenant_id == tenant_id), None)

    def by_id(self) -> dict[str, TenantRecord]:
        return {one.tenant_id: one for one in self.tenants.values()}

    def sees(self, tenant_id: str) -> bool:
        return self.is_whole or any(one.tenant_id == tenant_id for one in self.tenants.values())


def scope_of(site: Site, slugs: frozenset[str] | None) -> Scope:
    """`slugs` None: of the whole site."""
    listed: Sequence[TenantRecord] = site.directory.list_tenants()
    clients = [one for one in listed if not is_of_proof(one.tenant_id)]
    seen = {one.slug: one for one in clients if slugs is None or one.slug in slugs}
    return Scope(seen, slugs is None)
