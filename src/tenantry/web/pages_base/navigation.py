"""The pages that one goes to, in the order in which they are shown."""

from __future__ import annotations

from typing import Final

from tenantry.domain.roles import Permission, Principal
from tenantry.domain.values import value


@value
class Entry:
    """A page. Whoever has not `permission` does not see it. Those of a `group` stand together below its name.

    `ways`: pages to which one comes from it, and whose paths do not begin with its own.
    """

    path: str
    label: str
    permission: Permission
    group: str = ""
    ways: tuple[str, ...] = ()

    def holds(self, path: str) -> bool:
        """Whether that is the page itself, or one behind it."""
        return any(path == one or path.startswith(f"{one}/") for one in (self.path, *self.ways))


MONEY: Final = "Money"
SITE: Final = "Site"
ENTRIES: Final[tuple[Entry, ...]] = (
    Entry("/", "Today", Permission.USAGE_READ),
    Entry("/tenants", "Clients", Permission.TENANTS_READ),
    Entry("/requests", "Requests", Permission.REQUESTS_READ),
    Entry("/alerts", "Alerts", Permission.ALERTS_READ),
    Entry("/margins", "Margins", Permission.MARGIN_READ, MONEY),
    Entry("/plans", "Plans", Permission.PLANS_READ, MONEY, ("/plan-simulation",)),
    Entry("/prices", "Prices", Permission.PLANS_READ, MONEY, ("/recompute",)),
    Entry("/invoices", "Invoices", Permission.INVOICES_READ, MONEY, ("/billing",)),
    Entry("/exports", "Exports", Permission.USAGE_READ, MONEY),
    Entry("/credentials", "Credentials", Permission.CREDENTIALS_READ, SITE),
    Entry("/upstreams", "Upstreams", Permission.SITE_READ, SITE),
    Entry("/tiers", "Tiers", Permission.SITE_READ, SITE),
    Entry("/gateways", "Gateways", Permission.SITE_READ, SITE),
    Entry("/isolation", "Isolation", Permission.PROOF_RUN, SITE),
    Entry("/audit", "Audit", Permission.AUDIT_READ, SITE),
    Entry("/settings", "Settings", Permission.SITE_READ, SITE),
    Entry("/people", "People", Permission.ADMINS_CHANGE, SITE),
)


def seen_by(principal: Principal) -> list[Entry]:
    """Those that somebody may go to, for some tenants at least."""
    slugs: frozenset[str | None] = frozenset(principal.tenants or {None})
    return [one for one in ENTRIES if any(principal.may(one.permission, slug) for slug in slugs)]
