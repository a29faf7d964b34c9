"""What an admin may do: by role, and for which tenants.

A permission belongs to a route, and is never derived from a path. What a role may is this table and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from tenantry.domain.values import value


class Role(StrEnum):
    """Who does what at an agency."""

    OWNER = "owner"
    OPERATOR = "operator"
    BILLING = "billing"
    VIEWER = "viewer"


class Permission(StrEnum):
    """One thing that may be done. Those named `..._READ` change nothing."""

    TENANTS_READ = "tenants.read"
    TENANTS_CHANGE = "tenants.change"
    KEYS_CHANGE = "keys.change"
    CREDENTIALS_READ = "credentials.read"
    CREDENTIALS_CHANGE = "credentials.change"
    LIMITS_CHANGE = "limits.change"
    BUDGETS_CHANGE = "budgets.change"
    USAGE_READ = "usage.read"
    REQUESTS_READ = "requests.read"
    ALERTS_READ = "alerts.read"
    ALERTS_CHANGE = "alerts.change"
    EXPORTS_MAKE = "exports.make"
    PLANS_READ = "plans.read"
    PLANS_CHANGE = "plans.change"
    PRICES_CHANGE = "prices.change"
    MARGIN_READ = "margin.read"
    INVOICES_READ = "invoices.read"
    INVOICES_ISSUE = "invoices.issue"
    SITE_READ = "site.read"
    METRICS_READ = "metrics.read"
    PROOF_RUN = "proof.run"
    AUDIT_READ = "audit.read"
    BACKUPS_MAKE = "backups.make"
    DECLARATION_READ = "declaration.read"
    DECLARATION_APPLY = "declaration.apply"  # which may change everything
    LEDGER_CORRECT = "ledger.correct"
    GATEWAYS_CHANGE = "gateways.change"
    ADMINS_CHANGE = "admins.change"


# What is read by whoever looks after clients; nothing of it is the agency's own money.
_LOOKS: Final = frozenset(
    {
        Permission.TENANTS_READ,
        Permission.USAGE_READ,
        Permission.REQUESTS_READ,
        Permission.ALERTS_READ,
        Permission.PLANS_READ,
        Permission.SITE_READ,
    }
)

ALLOWED: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.OWNER: frozenset(Permission),
    Role.OPERATOR: _LOOKS
    | {
        Permission.TENANTS_CHANGE,
        Permission.KEYS_CHANGE,
        Permission.CREDENTIALS_READ,
        Permission.CREDENTIALS_CHANGE,
        Permission.LIMITS_CHANGE,
        Permission.BUDGETS_CHANGE,
        Permission.ALERTS_CHANGE,
        Permission.EXPORTS_MAKE,
        Permission.METRICS_READ,
        Permission.PROOF_RUN,
        Permission.AUDIT_READ,
        Permission.BACKUPS_MAKE,
        Permission.DECLARATION_READ,
        Permission.GATEWAYS_CHANGE,
    },
    Role.BILLING: _LOOKS
    | {
        Permission.BUDGETS_CHANGE,
        Permission.EXPORTS_MAKE,
        Permission.PLANS_CHANGE,
        Permission.PRICES_CHANGE,
        Permission.MARGIN_READ,
        Permission.INVOICES_READ,
        Permission.INVOICES_ISSUE,
        Permission.LEDGER_CORRECT,
    },
    Role.VIEWER: _LOOKS,
}

# What concerns one tenant alone, so that it may be had for some tenants; everything else is the whole site's.
OF_ONE_TENANT: Final = frozenset(
    {
        Permission.TENANTS_READ,
        Permission.TENANTS_CHANGE,
        Permission.KEYS_CHANGE,
        Permission.LIMITS_CHANGE,
        Permission.BUDGETS_CHANGE,
        Permission.USAGE_READ,
        Permission.REQUESTS_READ,
        Permission.ALERTS_READ,
        Permission.EXPORTS_MAKE,
        Permission.INVOICES_READ,
    }
)


@value
class Principal:
    """Who asks. `tenants`: the slugs that this one is confined to; None: all of the site.

    `actor` is who the audit log names: `api:<token's name>`, `web:<user's name>`.
    """

    name: str
    actor: str
    role: Role
    tenants: frozenset[str] | None = None

    def may(self, permission: Permission, slug: str | None = None) -> bool:
        """Whether `permission` is had: for the tenant `slug`, or (None) for what is the whole site's."""
        if permission not in ALLOWED[self.role]:
            return False
        if self.tenants is None:
            return True
        return permission in OF_ONE_TENANT and slug in self.tenants
