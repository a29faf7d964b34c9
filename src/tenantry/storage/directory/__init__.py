"""The one door for changes to the directory: tenants, keys, credentials, tiers, upstreams.

Each change is one transaction that also moves the directory's version and writes a line of the audit log. No secret is
ever in an audit line.
"""

from tenantry.domain.limits import SHIPPED_SESSIONS, first_limits
from tenantry.storage.directory.admins import AdminChanges
from tenantry.storage.directory.alert_targets import AlertTargetChanges
from tenantry.storage.directory.budgets import BudgetChanges
from tenantry.storage.directory.changes import AlreadyThere, CredentialRefused, DirectoryError, NotInDirectory
from tenantry.storage.directory.credentials import CredentialChanges
from tenantry.storage.directory.declaration import DeclarationChanges
from tenantry.storage.directory.gateways import GatewayChanges
from tenantry.storage.directory.invoices import InvoiceChanges
from tenantry.storage.directory.kept_answers import KeptAnswerChanges
from tenantry.storage.directory.keys import IssuedKey, KeyChanges
from tenantry.storage.directory.master_key import MasterKeyChanges
from tenantry.storage.directory.people import PeopleChanges
from tenantry.storage.directory.portal import PortalChanges
from tenantry.storage.directory.prices import PriceChanges
from tenantry.storage.directory.sign_ins import SignInChanges
from tenantry.storage.directory.tenants import TenantChanges
from tenantry.storage.directory.upstreams import UpstreamChanges

__all__ = [
    "SHIPPED_SESSIONS",
    "AlreadyThere",
    "CredentialRefused",
    "Directory",
    "DirectoryError",
    "IssuedKey",
    "NotInDirectory",
    "first_limits",
]


class Directory(
    TenantChanges,
    KeyChanges,
    CredentialChanges,
    UpstreamChanges,
    AdminChanges,
    BudgetChanges,
    AlertTargetChanges,
    DeclarationChanges,
    PriceChanges,
    MasterKeyChanges,
    InvoiceChanges,
    KeptAnswerChanges,
    PeopleChanges,
    SignInChanges,
    PortalChanges,
    GatewayChanges,
):
    """Every change and look-up, on behalf of one actor."""
