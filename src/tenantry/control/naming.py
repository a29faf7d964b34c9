"""What people call tenants and upstreams, by internal id."""

from __future__ import annotations

import time
from typing import Final

from sqlalchemy import Engine, select

from tenantry.storage.tables import tenants, upstreams

# A name that is not known is looked up at once, but no more often than so: what was removed has none any more.
LOOK_SECONDS: Final = 5.0


class Names:
    """Slugs of tenants and names of upstreams, kept. One that is not known is called by its id."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, str] = {}
        self._looked_at = -LOOK_SECONDS

    def of(self, name_id: str) -> str:
        if name_id.startswith("("):  # of several together
            return name_id
        found = self._known.get(name_id)
        if found is None and time.monotonic() - self._looked_at > LOOK_SECONDS:
            self.refresh()
            found = self._known.get(name_id)
        return found if found is not None else name_id

    def refresh(self) -> None:
        """Read them all."""
        self._looked_at = time.monotonic()
        with self._engine.connect() as connection:
            slugs = connection.execute(select(tenants.c.tenant_id, tenants.c.slug))
            known = {row.tenant_id: row.slug for row in slugs}
            named = connection.execute(select(upstreams.c.upstream_id, upstreams.c.name))
            self._known = known | {row.upstream_id: row.name for row in named}

    def upstreams(self) -> list[str]:
        return sorted(name for name_id, name in self._known.items() if name_id.startswith("ups_"))
