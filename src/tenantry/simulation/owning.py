"""What one simulated gateway and its requests ask of what it owns (`ownership.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tenantry.domain.asks import Ask
from tenantry.domain.cells import Linkage
from tenantry.domain.directory import Credential, Tenant
from tenantry.domain.owners import Cells


class Owning(Protocol):
    """`links`: who draws on what; `elsewhere`: sessions of attempts of other gateways, by attempt."""

    cells: Cells
    links: Linkage
    elsewhere: dict[str, Ask]

    def may_admit(self, tenant: Tenant) -> bool: ...
    def may_send(self, tenant: Tenant, credential: Credential) -> bool: ...
    def begin(self) -> None: ...
    def rouse(self) -> None: ...
    def leave(self) -> None: ...
    def link(self, tenants: Mapping[str, Tenant]) -> None: ...
